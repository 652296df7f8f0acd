"""The first cell, claims, predictions, and what an exercise is."""

from __future__ import annotations

import json
import os
import platform
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import widgets
from ..student import seed_of, student

BUDGETS = ("quick", "laptop", "gpu")


def start(seed: int = 0) -> tuple[str, str]:
    """Seed everything, say what this machine has, and return the device and the budget.

    Under MINIMAGEN_STUDENT the seed is that student's own.
    """
    if student():
        seed = seed_of(f"notebook {seed}")
    random.seed(seed)
    torch.manual_seed(seed)
    # TF32 keeps ten bits of a number: what a claim calls the same would differ in the third digit
    torch.backends.cudnn.allow_tf32 = False
    device = "cuda" if torch.cuda.is_available() else "cpu"
    budget = os.environ.get("MINIMAGEN_BUDGET") or ("gpu" if device == "cuda" else "laptop")
    if budget not in BUDGETS:
        raise ValueError(f"MINIMAGEN_BUDGET is {budget!r}: it must be one of {', '.join(BUDGETS)}")
    if file := os.environ.get("MINIMAGEN_REPORT"):
        _report_to(Path(file))
    print(f"device ≈ {device}, budget ≈ {budget}, torch ≈ {torch.__version__}")
    return device, budget


def _report_to(file: Path) -> None:
    """After each cell, write what the notebook has used so far: a test of a whole notebook reads it."""
    from IPython import get_ipython

    begun = time.monotonic()

    def write(*_: object) -> None:
        cuda = torch.cuda.is_available()
        facts = {
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "minutes": round((time.monotonic() - begun) / 60, 2),
            "peak_mib": round(torch.cuda.max_memory_allocated() / 2**20) if cuda else 0,
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "date": time.strftime("%Y-%m-%d"),
        }
        file.write_text(json.dumps(facts))

    get_ipython().events.register("post_run_cell", write)


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

    def reveal(self, truth: float) -> None:
        """Print the guess beside what came out."""
        print(f"you said ≈ {_short(self.value)}, and it is ≈ {_short(float(truth))}")


def predict(question: str, low: float = 0.0, high: float = 1.0) -> Prediction:
    """Ask for a guess before the answer: a slider, where the notebook can show one."""
    middle = (low + high) / 2
    print(f"Your prediction: {question}")
    if not widgets.can_show():
        return Prediction(question, middle)
    from ipywidgets import FloatSlider

    step = 1 if high - low >= 10 else (high - low) / 100  # whole numbers, where there are many
    slider = FloatSlider(middle, min=low, max=high, step=step)
    widgets.show(slider, f"[a slider from {low:g} to {high:g}: run this cell to move it]")
    return Prediction(question, middle, slider)


@dataclass(frozen=True)
class Exercise:
    """Holds a function that a learner wrote against the right one; a known mistake is called by its name.

    `mistakes` maps what to tell the learner to a function that makes that mistake. Calling the exercise with
    an answer prints ✓, or raises AssertionError with the sentence.
    """

    title: str
    right: Callable[..., Any]
    mistakes: dict[str, Callable[..., Any]]
    inputs: tuple[Any, ...]

    def __call__(self, answer: Callable[..., Any] | None) -> None:
        given = None if answer is None else answer(*self.inputs)
        if given is None:
            raise AssertionError(f"{self.title}: your function returns nothing yet")
        expected = self.right(*self.inputs)
        if isinstance(given, str | tuple) and not isinstance(expected, tuple):
            raise AssertionError(f"{self.title}: return one tensor, not a {type(given).__name__}")
        if _same(given, expected):
            print(f"✓ {self.title}")
            return
        for sentence, wrong in self.mistakes.items():
            if _same(given, wrong(*self.inputs)):
                raise AssertionError(f"{self.title}: {sentence}")
        shape, wanted = torch.as_tensor(given).shape, torch.as_tensor(expected).shape
        if shape != wanted:
            raise AssertionError(
                f"{self.title}: the shape is {tuple(shape)}, it should be {tuple(wanted)}"
            )
        raise AssertionError(f"{self.title}: compare it with the text, term by term")


def diagnosed(
    title: str, answers: dict[str, str | None], truth: dict[str, str], missing: str, wrong: str
) -> None:
    """The check of a diagnosis: `truth` says what each of several has, `answers` what a learner says.

    missing and wrong are the sentences for one without an answer and for a wrong one; they may hold {who} and
    {answer}. Prints the title where all are right, else raises AssertionError with the first sentence that fits.
    """
    for who, fault in truth.items():
        answer = answers.get(who)
        if answer is None:
            raise AssertionError(f"{title}: {missing.format(who=who)}")
        if answer not in truth.values():
            raise AssertionError(f"{title}: {answer!r} is none of {', '.join(truth.values())}")
        if answer != fault:
            raise AssertionError(f"{title}: {wrong.format(who=who, answer=repr(answer))}")
    print(f"✓ {title}")


def _same(a: object, b: object) -> bool:
    a, b = torch.as_tensor(a).double().cpu(), torch.as_tensor(b).double().cpu()
    return a.shape == b.shape and bool(torch.allclose(a, b, atol=1e-5, rtol=1e-4))
