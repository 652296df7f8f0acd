"""What a notebook says is checked: the first cell, claims, predictions, and the exercises of each chapter.

An exercise check passes or raises AssertionError with the likely mistake by name.
"""

from .basics import Exercise, Prediction, claim, predict, start
from .chapter_00 import *
from .chapter_01 import *
from .chapter_02 import *
from .chapter_03 import *
from .chapter_04 import *
from .chapter_05 import *
from .chapter_06 import *
from .chapter_07 import *
from .chapter_08 import *
from .chapter_09 import *
from .chapter_10 import *
from .chapter_11 import *
from .chapter_12 import *
from .chapter_13 import *
from .chapter_14 import *
from .chapter_15 import *
