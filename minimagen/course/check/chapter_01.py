"""Exercises of chapter 01: forward diffusion."""

from __future__ import annotations

import torch
from torch import Tensor

from .basics import Exercise

__all__ = ["one_step", "share_left", "short_schedule", "mean_after_300"]

one_step = Exercise(  # 1: answer(x, beta, eps) is one step of the Markov chain
    "one step of noise",
    lambda x, beta, eps: (1 - beta).sqrt() * x + beta.sqrt() * eps,
    {
        "you multiplied the noise by β, not √β": lambda x, b, e: (1 - b).sqrt() * x + b * e,
        "you multiplied both by β and 1 − β: the roots are missing": lambda x, b, e: (1 - b) * x + b * e,
        "the picture must shrink too, by √(1 − β): else the variance grows": lambda x, b, e: x + b.sqrt() * e,
        "the picture is multiplied by 1 − β, not its root": lambda x, b, e: (1 - b) * x + b.sqrt() * e,
    },
    (torch.linspace(-1, 1, 12).reshape(3, 4), torch.tensor(0.3), torch.linspace(2, -1, 12).reshape(3, 4)),
)  # fmt: skip

share_left = Exercise(  # 2: answer(betas) is √ᾱ_t for every t, from all betas at once
    "the share of the picture that is left",
    lambda betas: (1 - betas).cumprod(0).sqrt(),
    {
        "this is ᾱ: the share of the picture is its square root": lambda b: (1 - b).cumprod(0),
        "you added the betas up: the shares of the steps multiply": lambda b: (1 - b.cumsum(0)).relu().sqrt(),
        "this is the share of the last step alone: use cumprod": lambda b: (1 - b).sqrt(),
        "this is the share of the noise, √(1 − ᾱ)": lambda b: (1 - (1 - b).cumprod(0)).sqrt(),
    },
    (torch.linspace(0.01, 0.2, 15),),
)  # fmt: skip


def short_schedule(betas: Tensor | None) -> None:
    """Exercise 01.3: 200 betas, growing, each in (0, 1), that leave less than 1 % of the picture."""
    if betas is None:
        raise AssertionError("a shorter schedule: give 200 betas first")
    betas = torch.as_tensor(betas).double()
    if betas.shape != (200,):
        raise AssertionError(f"a shorter schedule: give 200 betas, not {tuple(betas.shape)}")
    if not ((betas > 0) & (betas < 1)).all():
        raise AssertionError(
            "a shorter schedule: a β outside (0, 1) leaves no variance to share out"
        )
    if (betas.diff() < 0).any():
        raise AssertionError("a shorter schedule: let the betas grow, or the last steps do nothing")
    left = (1 - betas).prod().sqrt().item()
    if left >= 0.01:
        raise AssertionError(
            f"a shorter schedule: {left:.2f} of the picture is left, and less than 0.01 is wanted"
        )
    print("✓ a shorter schedule")


def mean_after_300(answer: float | None) -> None:
    """Exercise 01.4: the mean of a picture that is 0.7 everywhere, after 300 of the 1000 steps; ± 0.03."""
    if answer is None:
        raise AssertionError("the mean after 300 steps: write your number first")
    left = float((1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)[299])  # ᾱ
    mistakes = {
        0.7: "the noise has mean 0, but the picture shrinks too",
        0.7 * left: "this is 0.7 ᾱ: the share of the picture is √ᾱ",
        0.7 * 0.7: "it does not fall by equal amounts: the betas grow",
        left**0.5: "this is the share of the picture: how bright was it?",
    }
    if abs(float(answer) - 0.7 * left**0.5) > 0.03:
        near = [sentence for value, sentence in mistakes.items() if abs(answer - value) < 0.02]
        hint = near[0] if near else "0.7 times the share of the picture that is left at t = 300"
        raise AssertionError(f"the mean after 300 steps: {hint}")
    print("✓ the mean after 300 steps")
