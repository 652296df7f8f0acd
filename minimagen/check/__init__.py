"""What a notebook says is checked: the first cell, claims, predictions, and the exercises of each chapter.

An exercise check passes or raises AssertionError with the likely mistake by name.
"""

from .basics import Exercise, Prediction, claim, predict, start
from .chapter_01 import *
from .chapter_08 import *
