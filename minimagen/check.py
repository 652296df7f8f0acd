"""What a notebook says is checked: the first cell, claims, predictions, and exercises.

An exercise check passes or raises AssertionError with the likely mistake by name.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

BUDGETS = ("quick", "laptop", "gpu")


def start(seed: int = 0) -> tuple[str, str]:
    """Seed everything, say what this machine has, and return the device and the budget."""
    random.seed(seed)
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    budget = os.environ.get("MINIMAGEN_BUDGET") or ("gpu" if device == "cuda" else "laptop")
    if budget not in BUDGETS:
        raise ValueError(f"MINIMAGEN_BUDGET is {budget!r}: it must be one of {', '.join(BUDGETS)}")
    print(f"device ≈ {device}, budget ≈ {budget}, torch ≈ {torch.__version__}")
    return device, budget


def claim(text: str, condition: object, value: object = None) -> None:
    """Print a claim with the number that proves it, and fail where it does not hold.

    The number stands behind "≈": it may differ from machine to machine, the text may not.
    """
    shown = "" if value is None else f" ≈ {_short(value)}"
    if not bool(condition):
        raise AssertionError(f"this should hold, and does not: {text}{shown}")
    print(f"✓ {text}{shown}")


def _short(value: object) -> str:
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 else value.tolist()
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@dataclass
class Prediction:
    """A guess on record. Its value is the slider's, or `middle` where there is no slider."""

    question: str
    middle: float
    slider: Any = field(default=None, repr=False)

    @property
    def value(self) -> float:
        return self.middle if self.slider is None else float(self.slider.value)


def predict(question: str, low: float = 0.0, high: float = 1.0) -> Prediction:
    """Ask for a guess before the answer: a slider, where the notebook can show one."""
    middle = (low + high) / 2
    print(f"Your prediction: {question}")
    try:
        import ipywidgets
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        return Prediction(question, middle)
    if get_ipython() is None:
        return Prediction(question, middle)
    slider = ipywidgets.FloatSlider(middle, min=low, max=high, step=(high - low) / 100)
    display(slider)
    return Prediction(question, middle, slider)


def compare(
    exercise: str,
    answer: Callable[..., Any],
    right: Callable[..., Any],
    mistakes: dict[str, Callable[..., Any]],
    *inputs: Any,
) -> None:
    """Hold an answer against the right one; where it equals a known mistake, say which."""
    if answer is None:
        raise AssertionError(f"{exercise}: nothing is returned yet")
    given = answer(*inputs)
    if given is None:
        raise AssertionError(f"{exercise}: your function returns nothing yet")

    def same(a: object, b: object) -> bool:
        a, b = torch.as_tensor(a).double(), torch.as_tensor(b).double()
        return a.shape == b.shape and bool(torch.allclose(a, b, atol=1e-5, rtol=1e-4))

    expected = right(*inputs)
    if same(given, expected):
        print(f"✓ {exercise}")
        return
    if torch.as_tensor(given).shape != torch.as_tensor(expected).shape:
        raise AssertionError(
            f"{exercise}: the shape is {tuple(torch.as_tensor(given).shape)}, it should be "
            f"{tuple(torch.as_tensor(expected).shape)}"
        )
    for sentence, wrong in mistakes.items():
        if same(given, wrong(*inputs)):
            raise AssertionError(f"{exercise}: {sentence}")
    raise AssertionError(f"{exercise}: not yet; compare your formula with the text, term by term")


# --- chapter 01 -------------------------------------------------------------------------------


def one_step(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise 01.1: answer(x, beta, eps) is one step of the Markov chain."""
    compare(
        "one step of noise",
        answer,
        lambda x, beta, eps: (1 - beta).sqrt() * x + beta.sqrt() * eps,
        {
            "you multiplied the noise by β, not √β": lambda x, b, e: (1 - b).sqrt() * x + b * e,
            "you multiplied both by β and 1 − β: the roots are missing": lambda x, b, e: (1 - b) * x + b * e,
            "the picture must shrink too, by √(1 − β): else the variance grows": lambda x, b, e: x + b.sqrt() * e,
            "the picture is multiplied by 1 − β, not its root": lambda x, b, e: (1 - b) * x + b.sqrt() * e,
        },
        torch.linspace(-1, 1, 12).reshape(3, 4),
        torch.tensor(0.3),
        torch.linspace(2, -1, 12).reshape(3, 4),
    )  # fmt: skip


def share_left(answer: Callable[[Tensor], Tensor]) -> None:
    """Exercise 01.2: answer(betas) is √ᾱ_t for every t, from all betas at once."""
    compare(
        "the share of the picture that is left",
        answer,
        lambda betas: (1 - betas).cumprod(0).sqrt(),
        {
            "this is ᾱ: the share of the picture is its square root": lambda b: (1 - b).cumprod(0),
            "you added the betas up: the shares of the steps multiply": lambda b: (1 - b.cumsum(0)).relu().sqrt(),
            "this is the share of the last step alone: use cumprod": lambda b: (1 - b).sqrt(),
            "this is the share of the noise, √(1 − ᾱ)": lambda b: (1 - (1 - b).cumprod(0)).sqrt(),
        },
        torch.linspace(0.01, 0.2, 15),
    )  # fmt: skip


def short_schedule(betas: Tensor) -> None:
    """Exercise 01.3: 200 betas, growing, each in (0, 1), that leave less than 1 % of the picture."""
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
            f"a shorter schedule: {left:.2f} of the picture is left; a fifth of the steps must each do "
            "five times as much"
        )
    print("✓ a shorter schedule")
