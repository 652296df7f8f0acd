"""Exercises of chapter 10: the average of the weights, and a prompt of one's own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ...scenes import Scene
from .basics import Exercise

__all__ = ["average", "own_prompt", "steps_until_forgotten", "young_decay"]

average = Exercise(  # 1: answer(ema, weights, decay) is the new average
    "one step of the average",
    lambda ema, w, d: d * ema + (1 - d) * w,
    {
        "the two have changed places: decay belongs to the average": lambda e, w, d: (1 - d) * e + d * w,
        "the shares must add up to 1": lambda e, w, d: d * e + w,
        "the average has changed nothing: it must take in the weights": lambda e, w, d: e,
    },
    (torch.linspace(-1, 1, 6), torch.linspace(2, -1, 6), 0.9),
)  # fmt: skip

young_decay = Exercise(  # 2: answer(n, longest) is the decay of each step
    "the decay of a young average",
    lambda n, longest: ((1 + n) / (10 + n)).clamp(max=longest),
    {
        "it may reach `longest`, no more": lambda n, longest: (1 + n) / (10 + n),
        "take the smaller of the two": lambda n, longest: ((1 + n) / (10 + n)).clamp(min=longest),
        "this is fixed: a young average is then mostly its beginning": lambda n, longest: 0 * n + longest,
    },
    (torch.tensor([0.0, 1, 10, 100, 1000, 10_000]), 0.95),
)  # fmt: skip


def steps_until_forgotten(steps: float | None) -> None:
    """Exercise 10.3: with decay 0.995, the steps until 1 % of the beginning is left."""
    if steps is None:
        raise AssertionError("steps until forgotten: write your number first")
    if abs(steps * math.log(0.995) / math.log(0.01) - 1) > 0.05:
        raise AssertionError(f"steps until forgotten: then {0.995**steps:.2%} is left, not 1 %")
    print("✓ steps until forgotten")


def own_prompt(thing: str, read: Sequence[Scene]) -> None:
    """Exercise 10.4: at least 6 of 8 pictures are read as one such thing, which is not a cat."""
    if len(read) != 8:
        raise AssertionError(f"your own prompt: judge 8 pictures, not {len(read)}")
    if thing == "cat":
        raise AssertionError("your own prompt: the cat is taken, choose another thing")
    hits = sum([t.key for t in scene.things] == [thing] for scene in read)
    if hits < 6:
        raise AssertionError(f"your own prompt: {hits} of 8 are read as one {thing}, try another")
    print("✓ your own prompt")
