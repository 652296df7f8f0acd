"""The clinic of chapter 15: twelve patients, each broken by a bug that a known project shipped.

    p = patient(7)          # p.complaint, what its owner says; p.subject, a stage, a cascade or a folder
    p.draw(prompts, seeds)  # what it draws
    examine(p.subject)      # what the doctor finds

How each was made ill stands in patients.py, and what it has in case_notes.py: those are the answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import RESOLUTIONS, STATE
from ..errors import UserError
from ..imagen import Imagen
from ..stage import Stage
from ..text import TextEncoder
from ..training.checkpoint import load_ema_stage
from ..training.log import read_log
from .patients import PATIENTS, Subject, shipped


@dataclass(frozen=True)
class Patient:
    """A patient: its number, what its owner says, and what is ill: a stage, a cascade, or a folder."""

    number: int
    complaint: str
    subject: Subject = field(repr=False)
    half: bool = field(default=False, repr=False)

    @property
    def stage(self) -> Stage | None:
        """The stage that is ill, loaded where it lies in a folder; None for pictures."""
        return stage_of(self.subject)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The rows of its training log; none where it has none."""
        return read_log(self.subject / "log.jsonl") if isinstance(self.subject, Path) else []

    @torch.no_grad()
    def draw(
        self, prompts: Sequence[str], seeds: Sequence[int], guidance: float = 4.0, steps: int = 8
    ) -> Tensor:
        """What it draws of some prompts, (B, 3, H, W) in [−1, 1]; black where it ends in NaN, as other programs do.

        A super-resolution stage enlarges what the shipped base draws.
        """
        stage = self.stage
        if stage is None:
            raise UserError(f"patient {self.number} is a folder of pictures and draws nothing")
        imagen = self.subject if isinstance(self.subject, Imagen) else _cascade_of(stage)
        last, side = stage.config.name, RESOLUTIONS[stage.config.name]
        hooks = [m.register_forward_hook(_in_half) for m in stage.modules()] if self.half else []
        try:
            return imagen.generate(prompts, seeds, guidance, steps, last)[last]
        except UserError:
            return torch.full((len(prompts), 3, side, side), -1.0)
        finally:
            for hook in hooks:
                hook.remove()


def healthy(name: str = "base") -> Patient:
    """A shipped stage, to compare with."""
    return Patient(0, "nothing is wrong", shipped(name))


def complaints() -> dict[int, str]:
    """What the owners of all patients say, by number."""
    return {number: complaint for number, (complaint, _, _) in PATIENTS.items()}


def patient(number: int) -> Patient:
    """Patient number 1 to 12; folders are written to a place that goes when Python ends."""
    if number not in PATIENTS:
        raise UserError(f"the clinic has patients 1 to {len(PATIENTS)}, not {number}")
    return _admitted(number)


@lru_cache
def _admitted(number: int) -> Patient:
    complaint, make, half = PATIENTS[number]
    return Patient(number, complaint, make(), half)


def measured(findings: list[str]) -> str:
    """The first finding of the doctor, with ≈ before the numbers that differ from machine to machine."""
    if not findings:
        return "no common problem found"
    plain = re.sub(r"\b(\d{3}),(\d{3})\b", r"\1\2", findings[0])
    return re.sub(r"(?<![\w.])(\d+\.\d+|\d{6})", r"≈ \1", plain)


def stage_of(subject: Subject) -> Stage | None:
    """The stage that a subject is or holds; of a run, with its averaged weights. None for pictures."""
    if isinstance(subject, Stage):
        return subject
    if isinstance(subject, Imagen):
        return subject.stage("base")
    if (subject / STATE).is_file():
        return load_ema_stage(subject)
    return Stage.load(subject) if (subject / "config.json").is_file() else None


@lru_cache
def _encoder() -> TextEncoder:
    return TextEncoder()


def _cascade_of(stage: Stage) -> Imagen:
    name = stage.config.name
    stages = {name: stage} if name == "base" else {"base": shipped(), name: stage}
    return Imagen(stages, _encoder())


def _in_half(module: nn.Module, inputs: object, output: object) -> object:
    """Every layer's output is kept in float16, as on a GPU without bfloat16."""
    return output.half().float() if isinstance(output, Tensor) else output
