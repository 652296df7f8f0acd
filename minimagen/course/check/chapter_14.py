"""Exercises of chapter 14: a mirrored watermark, rare alarms."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["mirrored_too", "right_alarms"]

Score = Callable[[Tensor], Tensor]


def mirrored_too(both: Score, score: Score, clean: Tensor, marked: Tensor, bar: float) -> None:
    """Exercise 14.1: the better score of a picture (B, 3, 256, 256) and of its mirror image, (B,)."""
    given = both(marked)
    if not isinstance(given, Tensor):
        raise AssertionError("mirrored too: return a tensor, one score a picture")
    if given.shape != (len(marked),):
        raise AssertionError(
            f"mirrored too: one score a picture is asked for, not {tuple(given.shape)}"
        )
    if not (both(marked.flip(-1)) > bar).all():
        raise AssertionError("mirrored too: it does not find the mark in mirrored pictures")
    if not (given > bar).all():
        raise AssertionError(
            "mirrored too: it no longer finds the mark in pictures that are not mirrored"
        )
    if not torch.allclose(
        both(clean), torch.maximum(score(clean), score(clean.flip(-1))), atol=1e-4
    ):
        raise AssertionError("mirrored too: take the larger of the two scores, picture by picture")
    print("✓ mirrored too")


def right_alarms(share: float | None) -> None:
    """Exercise 14.3: of 1 in 1000, with 99 % found and 1 % false alarms, the share of alarms that are right."""
    if share is None:
        raise AssertionError("right alarms: write your share first")
    truth = 0.001 * 0.99 / (0.001 * 0.99 + 0.999 * 0.01)
    if share > 1:
        raise AssertionError("right alarms: a share lies between 0 and 1: 50 % is 0.5")
    if abs(share - 0.99) < 0.005:
        raise AssertionError(
            "right alarms: so it is for a picture that IS generated; most pictures are not"
        )
    if abs(share - truth) > 0.005:
        raise AssertionError(
            "right alarms: of 100,000 pictures, how many alarms come from each of the two kinds?"
        )
    print("✓ right alarms")
