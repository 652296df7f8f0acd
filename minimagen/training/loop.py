"""The training loop, a generator: it yields after every step, so a notebook can plot, sample and stop as it goes.

A run of a given number of steps is a pure function of its settings: images and random numbers of step n follow
from (seed, n). A checkpoint needs no random state, and a run that was killed and resumed ends at the same weights,
bit for bit. With a Pool, all but the images follow from (seed, n).
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor

from ..config import STATE, TrainConfig
from ..errors import UserError
from ..stage import Stage
from ..text import TextEncoder
from .accelerator import make_accelerator
from .batches import ImageDataset, Loaded, Source
from .checkpoint import check_unused, load_checkpoint, remove_leftovers, save_checkpoint
from .owner import owning
from .step import Step

# What a resumed run may change; all other settings must be those that it began with.
FREE = ("minutes", "checkpoint_minutes", "lr", "muon_lr", "grad_accum_steps", "workers")
AHEAD = 2  # on CUDA, steps that are launched before the result of an earlier one is read

Row = dict[str, Any]


@owning
def train(
    stage: Stage,
    dataset: ImageDataset | Source,
    encoder: TextEncoder,
    config: TrainConfig,
    out: Path | None = None,
    resume: bool = False,
    accelerator: Accelerator | None = None,
    preview: Callable[[Stage, int], object] | None = None,
) -> Iterator[Row]:
    """Train a stage. Yields a row of the log after every step; `stage` then holds the current weights.

    dataset: images, or a Source of them, such as a Pool; from a Pool, a row comes some steps late on CUDA. At the
    end `stage` holds the averaged weights, and the folder `out`, if given, the same as config.json and
    model.safetensors. While it runs, out/state.safetensors holds what `resume` goes on from. preview(stage, step)
    is called at every checkpoint, with the averaged weights. Raises UserError for settings that do not fit, and
    where the loss or the gradient is NaN or infinite.
    """
    accelerator = accelerator or make_accelerator(cpu=not torch.cuda.is_available())
    if not isinstance(dataset, Source):
        dataset = Loaded(dataset, encoder, accelerator.device)
    run = Run(stage, dataset, config, out, resume, accelerator)
    try:
        run.begin()
        stage.train()
        while (progress := run.progress()) < 1:
            run.launch(progress)
            due = run.checkpoint_due()
            yield from run.rows(drain=due)
            if due:
                run.save(preview)
        yield from run.rows(drain=True)
        run.save(preview)
    finally:
        run.end()
    stage.load_state_dict(run.ema.state_dict())
    if out is not None and run.accelerator.is_main_process:
        stage.save(out)


def lr_factor(step: int, progress: float, config: TrainConfig) -> float:
    """Warm-up–stable–decay: the factor of all learning rates at a step (from 0), in [0, 1].

    It rises over warmup_steps, stays at 1, and falls linearly to 0 over the last decay_fraction of the run.
    progress: the fraction of the run that is done.
    """
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return warmup * min(1.0, (1 - progress) / config.decay_fraction)


class StepResult:
    """Loss and gradient norm of a step, (2,), copied from the device asynchronously, while later steps run."""

    def __init__(self, result: Tensor) -> None:
        self.done: torch.cuda.Event | None = None
        # a copy, since the next replay of a captured step overwrites the tensor
        self.values = result.to("cpu", non_blocking=True) if result.is_cuda else result
        if result.is_cuda:
            self.done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.done.record()

    def read(self) -> list[float]:
        """Wait for the copy, and return the numbers."""
        if self.done is not None:
            self.done.synchronize()
        numbers: list[float] = self.values.tolist()
        return numbers


class Run:
    """The state of a training run: what a checkpoint saves, its clock, and the rows of its log."""

    def __init__(
        self,
        stage: Stage,
        source: Source,
        config: TrainConfig,
        out: Path | None,
        resume: bool,
        accelerator: Accelerator,
    ) -> None:
        check_settings(config)
        if out is not None:
            check_unused(out, resume)
        self.accelerator, self.source = accelerator, source
        self.stage, self.config, self.out = stage, config, out
        # looked at before processes meet in Step: afterwards, the main one writes
        resumed = resume and out is not None and (out / STATE).exists()
        self.take_step = Step(stage, config, accelerator, source)
        self.average, self.optimizers = self.take_step.average, self.take_step.optimizers
        self.ema = self.average.module
        self.settings = {**asdict(config), "precision": self.accelerator.mixed_precision}
        self.identity = {
            "data": source.identity,
            "run": {k: v for k, v in self.settings.items() if k not in FREE},
            "stage": asdict(stage.config),
        }
        self.step, self.spent = 0, 0.0
        self.pending: deque[tuple[Row, StepResult]] = deque()
        if out is not None and self.accelerator.is_main_process:
            remove_leftovers(out)
        if out is not None and resumed:
            self.step, self.spent = load_checkpoint(
                out, stage.unet, self.ema.unet, self.optimizers, self.identity
            )
        self.begun = self.saved = self.launched = time.monotonic()
        if not resumed:
            self.save()  # a run that is killed before its first checkpoint can be resumed

    def begin(self) -> None:
        """Open the source of the images, from the present step on."""
        self.take_step.begin(self.step)
        self.launched = time.monotonic()

    def end(self) -> None:
        """Close the source of the images."""
        self.source.close()

    def launch(self, progress: float) -> None:
        """One step, at that fraction of the run."""
        factor = lr_factor(self.step, progress, self.config)
        result = StepResult(self.take_step(self.step, factor))
        self.step += 1
        row = {"step": self.step, "lr_factor": factor, "lr": self.config.lr * factor}
        self.pending.append((row, result))

    def rows(self, drain: bool) -> Iterator[Row]:
        """The log rows of finished steps, at most AHEAD steps late; drain: wait for all that were launched.

        Raises UserError where the loss or the gradient of one is NaN or infinite.
        """
        ahead = AHEAD if self.take_step.captured else 0
        while len(self.pending) > (0 if drain else ahead):
            row, result = self.pending.popleft()
            loss, norm = result.read()
            if not math.isfinite(loss):
                raise diverged(f"the loss is {loss}", row["step"] - 1)
            if not math.isfinite(norm) and self.optimizers.scaler is None:
                raise diverged(f"the norm of the gradient is {norm}", row["step"] - 1)
            now = time.monotonic()
            rate = self.config.batch / max(now - self.launched, 1e-9)
            self.launched = now
            yield {
                **row,
                "loss": loss,
                "grad_norm": norm,
                "images_per_second": rate,
                "progress": self.local_progress(),
                "seconds": self.local_seconds(),
            }

    def local_seconds(self) -> float:
        """Seconds of training so far, by the clock of this process."""
        return self.spent + time.monotonic() - self.begun

    def local_progress(self) -> float:
        """The fraction of the run that is done, by the clock of this process."""
        return self._progress(self.local_seconds())

    def progress(self) -> float:
        """The fraction of the run that is done, by the main process's clock: all processes end at one step."""
        seconds = self.local_seconds()
        if self.accelerator.num_processes > 1:
            shared = torch.tensor(seconds, device=self.accelerator.device)
            seconds = broadcast(shared).item()
        return self._progress(seconds)

    def _progress(self, seconds: float) -> float:
        if self.config.steps is not None:
            return self.step / self.config.steps
        assert self.config.minutes is not None
        return seconds / 60 / self.config.minutes

    def checkpoint_due(self) -> bool:
        """Whether checkpoint_minutes have passed since the last checkpoint."""
        return time.monotonic() - self.saved > 60 * self.config.checkpoint_minutes

    def save(self, preview: Callable[[Stage, int], object] | None = None) -> None:
        """Write a checkpoint, if there is a folder for it, and call preview with the averaged stage."""
        self.saved = time.monotonic()
        if not self.accelerator.is_main_process:
            return
        if self.out is not None:
            progress = {"step": self.step, "seconds": self.local_seconds()}
            metadata = {**progress, **self.identity, "run": self.settings}
            save_checkpoint(self.out, self.stage.unet, self.ema.unet, self.optimizers, metadata)
        if preview is not None:
            preview(self.ema, self.step)


def check_settings(config: TrainConfig) -> None:
    """Raises UserError, with a sentence, for settings that do not fit together."""
    if (config.steps is None) == (config.minutes is None):
        raise UserError("give either steps or minutes, and not both")
    positive = ("batch", "grad_accum_steps", "decay_fraction")
    length = config.steps if config.minutes is None else config.minutes
    if (length or 0) <= 0 or any(getattr(config, name) <= 0 for name in positive):
        raise UserError(f"steps, minutes, {', '.join(positive)} must be above 0")


def diverged(what: str, step: int) -> UserError:
    """The error for a loss or gradient that is NaN or infinite."""
    return UserError(
        f"{what} at step {step}: go on from the last checkpoint with --resume and lower learning rates "
        "(--lr, --muon-lr)"
    )
