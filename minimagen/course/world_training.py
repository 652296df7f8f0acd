"""How a stage of a world is trained: the recipes, and a run that can be stopped, or killed, and goes on.

While it runs, its folder holds state.safetensors, from which it goes on, and log.jsonl, a line a step; in the end
trained.json says how it went. What was drawn on the way lies in shots.safetensors.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..assets import read_tensors, write_json, write_tensors
from ..config import STATE, TrainConfig
from ..errors import UserError
from ..images import to_tensor
from ..stage import DEFAULTS, Stage, StageConfig
from ..text import TextEncoder
from ..training.checkpoint import read_metadata
from ..training.log import RunLog, read_log
from ..training.loop import train
from ..training.owner import sole_owner
from ..unet import UNetConfig
from .progress import Bar

LOG, SHOTS, TOLD = "log.jsonl", "shots.safetensors", "trained.json"
CHECKPOINT_MINUTES = 0.5
WATCHED = (0.02, 0.06, 0.15, 0.3, 0.6, 1)  # when the stage is looked at, as shares of a training


@dataclass(frozen=True)
class Recipe:
    """How a stage is trained: its configuration, and how long on each budget.

    steps and batch, by budget: those of the laptop are meant for 4, 4 and 2 minutes of two cores, in float32
    (base, sr64, sr256); tests/benchmarks/recipes.md has what was measured. On a GPU, launching the kernels of a
    step takes longer than running them, so it learns more from each of as many steps.
    """

    config: StageConfig
    steps: dict[str, int]
    batch: dict[str, int]
    pool: int  # pictures that it learns from
    muon_lr: float = 0.02
    lr: float = 2e-3
    decay: float = 0.7
    ema: float = 0.99


def _unet(channels: tuple[int, ...], attention: tuple[str, ...], **options: Any) -> UNetConfig:
    return UNetConfig(
        channels=channels,
        blocks=(1,) * len(channels),
        attention=attention,
        embedding=128,
        **options,
    )


RECIPES = {
    "base": Recipe(
        replace(DEFAULTS["base"], unet=_unet((32, 64, 96), ("", "self", "self"))),
        steps={"quick": 3, "laptop": 2400, "gpu": 2400},
        batch={"quick": 32, "laptop": 32, "gpu": 96},
        pool=6000,
    ),
    "sr64": Recipe(
        replace(
            DEFAULTS["sr64"],
            unet=_unet((24, 48, 96), ("", "", "self"), efficient=True, low_res=True),
        ),
        steps={"quick": 3, "laptop": 1300, "gpu": 1300},
        batch={"quick": 16, "laptop": 16, "gpu": 64},
        pool=3000,
    ),
    "sr256": Recipe(
        replace(
            DEFAULTS["sr256"],
            unet=_unet((16, 32, 64), ("", "", "cross"), efficient=True, low_res=True),
            max_loss_weight=20.0,  # as in the shipped sr64
            max_aug_level=0.1,  # it is sampled at 0.02: a short training has no time for levels far above
        ),
        steps={"quick": 3, "laptop": 1200, "gpu": 1200},
        batch={"quick": 16, "laptop": 16, "gpu": 64},
        pool=600,
    ),
}


def recipe(name: str) -> Recipe:
    """The recipe of a stage. Raises UserError where there is no such stage."""
    if name not in RECIPES:
        raise UserError(f"there is no stage {name!r}: it is one of {', '.join(RECIPES)}")
    return RECIPES[name]


def budget() -> str:
    """The notebook's, as its first cell has it: MINIMAGEN_BUDGET, else by the device."""
    return os.environ.get("MINIMAGEN_BUDGET") or ("gpu" if torch.cuda.is_available() else "laptop")


class Pool:
    """The pictures that a stage learns from, drawn once: an ImageDataset.

    draw: numbers → pictures (B, H, W, 3) uint8 and their captions; count: of pictures; identity: what a run that
    goes on must have in common with the one that was begun.
    """

    def __init__(
        self,
        draw: Callable[[Sequence[int]], tuple[np.ndarray, list[str]]],
        count: int,
        identity: dict[str, Any],
    ) -> None:
        self.draw, self.count = draw, count
        self.identity = {**identity, "pictures": count}

    @cached_property
    def _all(self) -> tuple[np.ndarray, list[str]]:
        return self.draw(range(self.count))

    def batch(self, indices: list[int]) -> tuple[Tensor, list[str]]:
        """Pictures (B, 3, H, W) in [−1, 1] and their captions."""
        pictures, captions = self._all
        return to_tensor(pictures[indices]), [captions[i] for i in indices]

    def __len__(self) -> int:
        return self.count


@dataclass
class Trained:
    """What a training left, in all the pieces in which it ran, and whether it came to its end."""

    losses: list[float] = field(default_factory=list)  # one a step
    shots: list[tuple[int, Tensor]] = field(default_factory=list)  # pictures seen; (B, 3, H, W)
    seen: int = 0  # pictures that it has learned from
    seconds: float = 0.0
    finished: bool = False

    def line(self, name: str) -> str:
        """What a training leaves on the page; the same where it was done before."""
        return f"{name}: ≈ {self.seen} pictures, in ≈ {self.seconds:.0f} seconds"


def is_trained(out: Path) -> bool:
    """Does this folder hold a stage that was trained to its end?"""
    return (out / "model.safetensors").is_file() and not (out / STATE).is_file()


def skipped(name: str, out: Path) -> Trained:
    """How the training went that is kept in a folder; its line is printed again."""
    try:
        told = json.loads((out / TOLD).read_text(encoding="utf-8"))
        result = Trained(told["losses"], _shots(out), told["pictures"], told["seconds"])
    except (OSError, ValueError, KeyError):
        result = Trained()
    result.finished = True
    Bar(1, name).close(result.line(name))
    return result


def free(name: str, out: Path) -> None:
    """Raises UserError where another notebook trains this stage at this moment."""
    if not out.exists():
        return
    try:
        with sole_owner(out):
            pass
    except UserError as error:
        raise UserError(
            f"your {name} is being trained by another notebook: wait for its end, then run this cell again"
        ) from error


def begin_anew(name: str, out: Path) -> None:
    """Remove what was trained, but never under a run that is going on: then it raises UserError."""
    free(name, out)
    if out.exists():
        shutil.rmtree(out)


def train_stage(
    name: str,
    stage: Stage,
    pool: Pool,
    encoder: TextEncoder,
    steps: int,
    batch: int,
    out: Path | None,
    look: Callable[[Stage], Tensor] | None = None,
) -> Trained:
    """Train a stage; a run that was begun in `out` goes on, with the steps and the batch that it was begun with.

    out: None keeps nothing. look: what the stage draws on the way, six times. Raises UserError where a checkpoint
    can't be read, or belongs to other settings, and where another notebook trains this stage.
    """
    how = recipe(name)
    result, resume = Trained(), False
    if out is not None:
        free(name, out)
        resume = (out / STATE).is_file()
    if out is not None and resume:
        with _told_to_begin_anew(name):
            steps, batch, result = _so_far(out)
    config = TrainConfig(
        steps=steps, batch=batch, lr=how.lr, muon_lr=how.muon_lr, ema_decay=how.ema,
        decay_fraction=how.decay, warmup_steps=20, checkpoint_minutes=CHECKPOINT_MINUTES,
    )  # fmt: skip
    log = RunLog(out / LOG, len(result.losses)) if out is not None else None
    rows = _rows(name, train(stage, pool, encoder, config, out, resume=resume), resume)
    marks = {math.ceil(steps * share) for share in WATCHED} if look else set()
    bar = Bar(steps, f"your {name}")
    try:
        for row in rows:
            result.losses.append(row["loss"])
            result.seen, result.seconds = row["step"] * batch, row["seconds"]
            bar.at(row["step"], f"(loss {np.mean(result.losses[-50:]):.3f})")
            if log is not None:
                log.append({"step": row["step"], "loss": row["loss"]})
            if look is not None and row["step"] in marks:
                result.shots.append((result.seen, look(stage)))
                stage.train()
                if out is not None:
                    _keep_shots(out, result.shots)
        result.finished = True
    except KeyboardInterrupt:
        goes_on = "begins anew" if out is None else "goes on from half a minute ago at most"
        print(f"stopped: run this cell again, and it {goes_on}")
    finally:
        rows.close()
        bar.close(result.line(name))
    if result.finished and out is not None:
        told = {"pictures": result.seen, "seconds": round(result.seconds, 1)}
        write_json({**told, "losses": result.losses}, out / TOLD)
        (out / STATE).unlink(missing_ok=True)
        (out / LOG).unlink(missing_ok=True)
    return result


@contextmanager
def _told_to_begin_anew(name: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(
            f"your {name} can't go on from where it was stopped, as it had other layers or settings then, or its "
            f'checkpoint is damaged: my_world.train("{name}", again=True) begins anew'
        ) from error


def _rows(name: str, rows: Any, resume: bool) -> Generator[dict[str, Any], None, None]:
    """The rows of a training, a generator; the first one comes when its checkpoint was read."""
    with closing(rows):
        with _told_to_begin_anew(name) if resume else nullcontext():
            first = next(rows, None)
        if first is not None:
            yield first
        yield from rows


def _so_far(out: Path) -> tuple[int, int, Trained]:
    """The steps and batch that a run was begun with, and what it did until the checkpoint from which it goes on."""
    kept = read_metadata(out)
    step, steps, batch = kept["step"], kept["run"]["steps"], kept["run"]["batch"]
    losses = [row["loss"] for row in read_log(out / LOG) if row["step"] <= step]
    shots = [(seen, drawn) for seen, drawn in _shots(out) if seen <= step * batch]
    return steps, batch, Trained(losses, shots, step * batch, kept["seconds"])


def _keep_shots(out: Path, shots: list[tuple[int, Tensor]]) -> None:
    write_tensors({f"{seen:09}": drawn.half() for seen, drawn in shots}, out / SHOTS)


def _shots(out: Path) -> list[tuple[int, Tensor]]:
    """(pictures seen, what was drawn then), in that order; none where nobody looked."""
    kept = read_tensors(out / SHOTS) if (out / SHOTS).is_file() else {}
    return [(int(seen), kept[seen].float()) for seen in sorted(kept)]
