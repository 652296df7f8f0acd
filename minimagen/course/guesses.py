"""Guesses before answers: a slider, and an answer that the learner's file does not hold.

In the complete edition the answer stands in the open, between ### BEGIN ANSWER guess and ### END ANSWER. The
learner's has guess.reveal() in its place: the same lines come out of answers/ and run, with figures and claims.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from . import widgets
from .check.basics import _short
from .folder import in_complete_edition, work
from .kept import write_whole
from .language import say

ANSWERS = Path(__file__).resolve().parent / "answers"
FILE = "guesses.json"
CLOSE = 0.1  # of the slider's range


@dataclass
class Guess:
    """A guess on record. Its value is None until the slider is moved: an untouched slider is no guess."""

    question: str
    low: float
    high: float
    value: float | None = None
    slider: Any = field(default=None, repr=False)

    def reveal(self, truth: object = None) -> None:
        """With the truth: print it beside the guess, and keep both. Without: run the answer kept for this."""
        if truth is None:
            self._answer(sys._getframe(1).f_globals)
            return
        number = float(truth)  # type: ignore[arg-type]
        if self.value is None:
            print(say("You made no guess. It is ≈ {truth}", truth=_short(number)))
            return
        said = _short(float(self.value))
        print(say("You said ≈ {guess}, and it is ≈ {truth}", guess=said, truth=_short(number)))
        if not in_complete_edition():
            _keep(self, number)

    def _answer(self, notebook: dict[str, Any]) -> None:
        answer = answers().get(self.question)
        if answer is None:
            raise ValueError(
                f"no answer is kept for “{self.question}”: the notebook and the package differ in age"
            )
        exec(compile(answer["code"], "<the answer>", "exec"), notebook)
        if answer["text"]:
            _say(answer["text"])


def predict(question: str, low: float = 0.0, high: float = 1.0) -> Guess:
    """Ask for a guess before the answer: a slider, where the notebook can show one."""
    print(say("Your prediction: {question}", question=question))
    guess = Guess(question, low, high)
    if not widgets.can_show():
        return guess
    from ipywidgets import FloatSlider

    step = 1 if high - low >= 10 else (high - low) / 100  # whole numbers, where there are many
    slider = FloatSlider((low + high) / 2, min=low, max=high, step=step)

    def moved(change: Any) -> None:
        guess.value = float(change["new"])

    slider.observe(moved, names="value")
    guess.slider = slider
    instead = "[a slider from {low:g} to {high:g}: run this cell to move it]"
    widgets.show(slider, say(instead, low=low, high=high))
    return guess


@cache
def answers() -> dict[str, dict[str, str]]:
    """Question → its answer: `code` to run in the notebook, and the `text` to show after it."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(ANSWERS.glob("*.json")):
        found |= json.loads(path.read_text(encoding="utf-8"))
    return found


def score() -> tuple[int, int]:
    """Print every guess beside its truth; return how many came close, and how many there are."""
    guesses = _kept()
    near = {
        q
        for q, g in guesses.items()
        if abs(g["guess"] - g["truth"]) <= CLOSE * (g["high"] - g["low"])
    }
    for question, guess in guesses.items():
        print(
            f"{'✓' if question in near else '·'} {question}: {guess['guess']:.3g}, it was {guess['truth']:.3g}"
        )
    print(f"{len(near)} of your {len(guesses)} guesses came close (within a tenth of the slider)")
    return len(near), len(guesses)


def _kept() -> dict[str, dict[str, float]]:
    path = work() / FILE
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        return {}


def _keep(guess: Guess, truth: float) -> None:
    """The first guess counts: who runs the cell again knows the answer."""
    try:
        known = _kept()
        known.setdefault(
            guess.question,
            {
                "guess": float(guess.value or 0),
                "truth": truth,
                "low": guess.low,
                "high": guess.high,
            },
        )
        write_whole(work() / FILE, json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    except OSError:
        return  # a guess is not worth a broken notebook


def _say(text: str) -> None:
    """A text as the notebook shows one; plain where there is none."""
    if not widgets.can_show():
        print(text)
        return
    from IPython.display import display

    display({"text/markdown": text, "text/plain": text}, raw=True)
