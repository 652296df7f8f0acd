"""What the notebooks need: checks of exercises, figures, widgets."""

import logging
from importlib.util import find_spec

for _name in ("torch", "transformers", "matplotlib", "ipywidgets"):
    if find_spec(_name) is None:
        raise ModuleNotFoundError(
            f"this Python has no {_name}: open the notebook with make lab, or choose the kernel of .venv"
        )

# before its import, when it would tell of a home folder that can't be written, in the middle of a notebook
logging.getLogger("matplotlib").setLevel(logging.ERROR)
