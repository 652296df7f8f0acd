"""What the notebooks need: checks of exercises, figures, widgets."""

import logging

# before its import, when it would tell of a home folder that can't be written, in the middle of a notebook
logging.getLogger("matplotlib").setLevel(logging.ERROR)
