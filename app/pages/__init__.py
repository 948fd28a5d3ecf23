"""The dashboard's pages, a module each.

A page is a module with ``layout(context, address)``, which returns what is shown, and ``register(app, context)``,
which puts its callbacks on the app, once, at the start. ``PAGES`` says which page answers to the first part of a path.
A ``GanatomyError`` from either becomes one line on the page. What only looks (pictures, drawings, tables) is served by
``app.views`` as addresses that say everything, so that browsers can keep it.
"""

from types import ModuleType

from . import artifacts, compare, concepts, jobs, own, paint, rewrite, run, runs, unit, units

PAGES: dict[str, ModuleType] = {
    "": runs,
    "run": run,
    "units": units,
    "unit": unit,
    "concepts": concepts,
    "compare": compare,
    "artifacts": artifacts,
    "own": own,
    "paint": paint,
    "rewrite": rewrite,
    "jobs": jobs,
}

__all__ = ["PAGES"]
