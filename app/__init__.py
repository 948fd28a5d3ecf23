"""What people see: the command line, reports and figures. The only package that prints or draws.

==================  ==================================================================
``start``           the entry point, before anything is imported
``cli``             the command ``ganatomy``: errors become one line and an exit status
``commands/``       one module per group of commands
``console``         tables, JSON, CSV and progress bars
``report``          the static report of a run: pages from ``templates/``
``profiles``        what the report says of a layer and of a unit
``at_levels``       what is said of a unit at each of its levels
``figures``         plotly figures
``drawings``        the small SVG pictures of a unit's page
``masks``           where a unit is on, drawn on pictures
``folders``         report folders, whole or not at all
``facts``           a run in words, numbers as people read them
``pdf``             figures as files: SVG on its own, SVG as PDF
``server``          the dashboard: the app with its pages, behind ``safety``
``safety``          who may talk to it
``library``         the runs that it has open (``context``: what its pages are given)
``pages/``          its pages, a module each; ``assets/`` what they need in the browser
``views``           pictures, drawings and tables by address
``comparing``       two layers side by side
``preview``         a picture of what a segmenter sees
``engine``          what acts in the dashboard: the rooms below, put together
``worker``          the one thread that owns the device: jobs (``reports``), and requests between their steps (``line``)
``orders``          dissections that are started from the browser
``tables``          the tables of runs without a cache, computed in the background
``weights``         finding the generator that a run was made of
``live``            images of any seeds with and without units (``rows``: as rows of pictures, by address)
``rewritten``       what a rewrite did, as a table and a page
``seeds``           seeds as people type them
``experiments``     what the commands share that prove things (``subjects``: a run, or a model and its pass)
``proof``           whether a cleaning helped, on seeds of their own (``cleaned``: its page)
``painting``        images with edits under a brush, and what was painted as files (``paint_edits``: edits as JSON;
                    ``painting_views``: what the page asks for)
``notes``           writing tags and notes beside a run
==================  ==================================================================
"""

from importlib.util import find_spec
from pathlib import Path

_found = find_spec("dissect")  # without importing it: that takes a second, in which Ctrl-C must be one line too
if _found is None or _found.origin is None or Path(_found.origin).parents[1] != Path(__file__).parents[1]:
    raise ImportError(
        "another package named 'dissect' (the forensics toolkit) is installed in this environment and answers first; "
        "install ganatomy in an environment of its own"
    )
