"""Exercises of chapter 01: forward diffusion."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..student import seed_of
from .basics import diagnosed

__all__ = ["three_steps", "short_schedule", "three_walkers", "who_did_what"]


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


def three_steps(mixture: Callable[[Tensor], Tensor | None]) -> None:
    """Exercise 01.1: mixture(betas (3,)) gives what multiplies x_0, ε_1, ε_2, ε_3 in x_3, (4,)."""
    fresh = seed_of("three steps")  # the notebook's own numbers stay as they are
    betas = 0.1 + 0.6 * torch.rand(3, generator=torch.Generator().manual_seed(fresh))
    given = mixture(betas)
    if given is None:
        raise AssertionError("three steps: your function returns nothing yet")
    given = torch.as_tensor(given)
    if given.shape != (4,):
        raise AssertionError(f"three steps: four numbers are asked for, not {tuple(given.shape)}")
    keep, add = (1 - betas).sqrt(), betas.sqrt()
    right = torch.stack([keep.prod(), add[0] * keep[1] * keep[2], add[1] * keep[2], add[2]])
    if torch.allclose(given, torch.cat([keep.prod()[None], add]), atol=1e-4):
        raise AssertionError("three steps: noise that came early shrinks in every later step too")
    if not torch.allclose(given, right, atol=1e-4):
        off = int((given - right).abs().argmax())
        raise AssertionError(
            f"three steps: c_{off} is {given[off]:.3f} for betas {[round(b, 3) for b in betas.tolist()]}, "
            f"and the walk gives {right[off]:.3f}"
        )
    print(f"✓ three steps: the noises' squares add up to 1 − ᾱ, ≈ {right[1:].square().sum():.3f}")


_WRONG = {  # 01.4: each is one step with one mistake
    "A": ("no shrinking", lambda x, b: x + b**0.5 * torch.randn_like(x)),
    "B": ("rand for randn", lambda x, b: (1 - b) ** 0.5 * x + b**0.5 * torch.rand_like(x)),
    "C": ("beta without its root", lambda x, b: (1 - b) ** 0.5 * x + b * torch.randn_like(x)),
}


def three_walkers(betas: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Exercise 01.4: mean and variance of 20,000 pixels of 0.7 after every step, (T,) each, for each walker."""
    found = {}
    for who, (_, step) in _WRONG.items():
        x, means, variances = torch.full((20_000,), 0.7), [], []
        for beta in betas:
            x = step(x, beta)
            means.append(x.mean())
            variances.append(x.var())
        found[who] = torch.stack(means), torch.stack(variances)
    return found


def who_did_what(answers: dict[str, str | None]) -> None:
    """Exercise 01.4: the mistake of each walker."""
    diagnosed(
        "the three walkers",
        answers,
        {who: mistake for who, (mistake, _) in _WRONG.items()},
        missing="name the mistake of {who} first",
        wrong="{answer} would not look like {who}'s curves",
    )
