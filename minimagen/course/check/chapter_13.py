"""Exercises of chapter 13: the memory of a training, and three wrong accumulations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["bytes_of_training", "three_accumulations", "who_accumulates_wrong"]

ACCUMULATIONS = {"A": "plain average", "B": "not cleared", "C": "sum"}


def bytes_of_training(function: Callable[[int], float | None]) -> None:
    """Exercise 13.1: bytes of weights, copy, gradient, the optimizer's averages and the EMA: 22 a weight."""
    given = function(1_000_003)
    if given is None:
        raise AssertionError("bytes of training: return a number of bytes")
    twice = function(2_000_006)
    if twice is None or abs(twice - 2 * given) > 1e-3 * given:
        raise AssertionError("bytes of training: twice the weights must take twice the bytes")
    each = given / 1_000_003
    if each < 1e-6:
        raise AssertionError("bytes of training: return the bytes themselves, don't divide them")
    if abs(each - 20) < 0.5:
        raise AssertionError("bytes of training: the bfloat16 copy is missing, 2 bytes a weight")
    if abs(each - 24) < 0.5:
        raise AssertionError("bytes of training: the copy is in bfloat16, 2 bytes and not 4")
    if abs(each - 18) < 0.5:
        raise AssertionError(
            "bytes of training: 4 bytes are missing: the EMA, or one of the two averages"
        )
    if abs(each - 22) > 0.5:
        raise AssertionError(
            f"bytes of training: {each:.0f} bytes a weight: count again, float32 is 4 bytes and bfloat16 2"
        )
    held = 22 * 2e9 / 1e9
    print(f"✓ bytes of training: the paper's base takes {held:.0f} GB before the first activation")


def three_accumulations(steps: int = 16) -> dict[str, Tensor]:
    """Exercise 13.2: how far the weights are from the best ones after each step, (steps,), for A, B and C."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(18, 2, generator=generator)
    x[16:] *= 2  # the two samples of the short part differ from the others
    y = x @ torch.tensor([1.0, -0.5]) + 0.6 * torch.randn(18, generator=generator)
    best = torch.linalg.lstsq(x, y).solution
    rate = 0.8 / torch.linalg.eigvalsh(2 * x.T @ x / 18)[-1]
    parts = list(zip(x.split([8, 8, 2]), y.split([8, 8, 2]), strict=True))

    def gradients(w: Tensor) -> list[Tensor]:  # of the mean loss of each part
        return [2 * a.T @ (a @ w - b) / len(a) for a, b in parts]

    def far(kind: str) -> Tensor:
        w, gradient, found = torch.zeros(2), torch.zeros(2), []
        for _ in range(steps):
            each = gradients(w)
            if kind == "not cleared":
                gradient = gradient + sum(
                    len(a) / 18 * g for (a, _), g in zip(parts, each, strict=True)
                )
            else:
                gradient = torch.stack(each).sum(dim=0) / (3 if kind == "plain average" else 1)
            w = w - rate * gradient
            found.append((w - best).norm())
        return torch.stack(found)

    return {name: far(kind) for name, kind in ACCUMULATIONS.items()}


def who_accumulates_wrong(mistakes: dict[str, str | None]) -> None:
    """Exercise 13.2: whether each of the three was found."""
    if any(mistakes.get(name) is None for name in ACCUMULATIONS):
        raise AssertionError("three accumulations: name the mistake of each of A, B and C")
    right = sum(mistakes[name] == kind for name, kind in ACCUMULATIONS.items())
    if right < len(ACCUMULATIONS):
        raise AssertionError(f"three accumulations: {right} of 3 are right")
    print("✓ the three accumulations")
