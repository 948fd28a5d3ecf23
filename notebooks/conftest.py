"""The tests execute the notebooks on few samples."""

import os

os.environ.setdefault("GANATOMY_NOTEBOOK_SAMPLES", "64")
