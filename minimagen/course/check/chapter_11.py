"""Exercises of chapter 11: votes, numbers of pictures, reports."""

from __future__ import annotations

from collections.abc import Collection

from ...evaluation.alignment import wilson
from .basics import diagnosed

__all__ = ["faults_of_reports", "pictures_to_tell_apart", "vote"]


def vote(misses: Collection[int] | None, count: int) -> None:
    """The blind vote: numbers of pictures that do not show their words. There is no right answer."""
    if misses is None:
        raise AssertionError(
            "vote: write down the numbers of the pictures that miss their words; set() for none"
        )
    if isinstance(misses, int | str) or not all(
        isinstance(i, int) and 0 <= i < count for i in misses
    ):
        raise AssertionError(
            f"vote: give a set of numbers from 0 to {count - 1}, such as {{3, 17}}"
        )
    print("✓ your vote is on record")


def pictures_to_tell_apart(n: int | None) -> None:
    """Exercise 11.1: from which n on, a multiple of 100, do the intervals of 0.90 and 0.93 no longer overlap?"""
    if n is None:
        raise AssertionError("pictures to tell apart: write your number first")
    truth = next(m for m in range(100, 10_000, 100) if _upper(0.90, m) < _lower(0.93, m))
    if n % 100:
        raise AssertionError("pictures to tell apart: a multiple of 100 is asked for")
    if n < truth:
        raise AssertionError(f"pictures to tell apart: with {n} the intervals still overlap")
    if n > truth:
        raise AssertionError("pictures to tell apart: fewer are enough")
    print("✓ pictures to tell apart")


def _upper(share: float, n: int) -> float:
    return wilson(round(share * n), n)[1]


def _lower(share: float, n: int) -> float:
    return wilson(round(share * n), n)[0]


_FAULTS = {"A": "other n", "B": "too few", "C": "tuned on the test", "D": "judge and accused"}


def faults_of_reports(answers: dict[str, str | None]) -> None:
    """Exercise 11.3: the fault of each report."""
    diagnosed(
        "the four reports",
        answers,
        _FAULTS,
        missing="name the fault of {who} first",
        wrong="{who}'s fault is another one than {answer}",
    )
