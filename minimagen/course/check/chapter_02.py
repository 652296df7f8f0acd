"""Exercises of chapter 02: denoising."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .basics import Exercise

__all__ = ["guess_at_noise", "turn_back", "ideal_guess", "which_target"]

guess_at_noise = Exercise(  # 1: answer() is the ideal guess at pure noise for pixels −1, 1, 1, 1
    "the best guess at pure noise",
    lambda: torch.tensor([-1.0, 1, 1, 1]).mean(),
    {
        "1 occurs most often, but the squared error asks for the mean": lambda: 1.0,
        "0 is halfway from black to white: what occurs three times counts three times": lambda: 0.0,
    },
    (),
)  # fmt: skip

turn_back = Exercise(  # 2: answer(x_t, v, alpha, sigma) is torch.stack([x_0, eps])
    "from v to the picture and the noise",
    lambda x, v, a, s: torch.stack([a * x - s * v, s * x + a * v]),
    {
        "a sign: x₀ = α x_t − σ v": lambda x, v, a, s: torch.stack([a * x + s * v, s * x + a * v]),
        "a sign: ε = σ x_t + α v": lambda x, v, a, s: torch.stack([a * x - s * v, s * x - a * v]),
        "you swapped α and σ": lambda x, v, a, s: torch.stack([s * x - a * v, a * x + s * v]),
        "both are right, in the other order: the picture comes first": lambda x, v, a, s: torch.stack(
            [s * x + a * v, a * x - s * v]
        ),
    },
    (torch.linspace(-1, 2, 6), torch.linspace(1, -1, 6), torch.tensor(0.6), torch.tensor(0.8)),
)  # fmt: skip


def _ideal(x: Tensor, a: Tensor | float, s: Tensor, p: Tensor) -> Tensor:
    return (-((x[:, None] - a * p) ** 2) / (2 * s**2)).softmax(1) @ p


ideal_guess = Exercise(  # 3: answer(x_t, alpha, sigma, points) is the ideal denoiser of single numbers
    "the ideal denoiser",
    _ideal,
    {
        "the points shrink too: compare x_t with α · point": lambda x, a, s, p: _ideal(x, 1, s, p),
        "the Gaussian has 2 σ² below, not σ²": lambda x, a, s, p: _ideal(x, a, s / 2**0.5, p),
        "the Gaussian has 2 σ² below, not 2 σ": lambda x, a, s, p: _ideal(x, a, s**0.5, p),
        "a sign: the nearer point must be the likelier one": lambda x, a, s, p: (
            ((x[:, None] - a * p) ** 2 / (2 * s**2)).softmax(1) @ p
        ),
        "this is the nearest point: the best guess is a mean, weighted by the odds": lambda x, a, s, p: (
            p[(x[:, None] - a * p).abs().argmin(1)]
        ),
    },
    (torch.linspace(-2, 2, 9), torch.tensor(0.6), torch.tensor(0.8), torch.tensor([-1.0, 0.2, 0.5, 1.5])),
)  # fmt: skip


def which_target(errors: dict[str, float | None]) -> None:
    """Exercise 02.4: the error of the picture at t = 0.5 of a small network asked for x_0, eps and v."""
    title = "which target a small network can say"
    if missing := [k for k in ("x_0", "eps", "v") if errors.get(k) is None]:
        raise AssertionError(f"{title}: no error yet for {', '.join(missing)}")
    values = {k: float(v) for k, v in errors.items() if v is not None}
    if not all(math.isfinite(v) and v > 0 for v in values.values()):
        raise AssertionError(f"{title}: an error is a positive number")
    if max(values.values()) > 5:
        raise AssertionError(f"{title}: so large an error comes from forgetting to_x_0")
    if min(values, key=lambda k: values[k]) != "x_0":
        raise AssertionError(
            f"{title}: x_0 should do best; did each network get as many steps, and its own target?"
        )
    print(f"✓ {title}")
