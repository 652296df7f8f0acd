"""The training loop, a generator: it yields after every step, so a notebook can plot, sample and stop.

A run of so many steps is a pure function of its settings: the images of step n follow from (seed, n), and so
do all its random numbers. A checkpoint needs no random state, and a run that was killed goes on to the same
weights, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..config import TrainConfig
from ..errors import UserError
from ..randomness import step_generator
from ..stage import Stage
from ..text import TextEncoder, add_text_noise, draw_text_noise
from .accelerator import make_accelerator
from .checkpoint import STATE, load_checkpoint, remove_leftovers, save_checkpoint
from .ema import averaged_model
from .optimizers import Optimizers
from .order import ShuffledBatches
from .owner import owning

# What a resumed run may change; all other settings must be those that it began with.
FREE = ("minutes", "checkpoint_minutes", "lr", "muon_lr", "grad_accum_steps", "workers")


class ImageDataset(Protocol):
    """What can be trained on: Scenes, or a Folder of your own images."""

    @property
    def identity(self) -> str | dict[str, Any]:
        """What it is, as JSON: a run can be resumed only on the images that it began with."""

    def batch(self, indices: list[int]) -> tuple[Tensor, list[str]]:
        """Images (B, 3, H, W) in [−1, 1] and their captions."""

    def __len__(self) -> int:
        """The number of images."""


@dataclass(frozen=True)
class Batches(Dataset[tuple[Tensor, list[str]]]):
    """An ImageDataset whose items are whole batches, by lists of indices, for a DataLoader."""

    images: ImageDataset

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, list[str]]:
        return self.images.batch(indices)


@owning
def train(
    stage: Stage,
    dataset: ImageDataset,
    encoder: TextEncoder,
    config: TrainConfig,
    out: Path | None = None,
    resume: bool = False,
    accelerator: Accelerator | None = None,
    preview: Callable[[Stage, int], object] | None = None,
) -> Iterator[dict[str, Any]]:
    """Train a stage. Yields a row of the log after every step; `stage` then holds the current weights.

    At the end `stage` holds the averaged weights, and the folder `out`, if given, the same as config.json and
    model.safetensors. While it runs, out/state.safetensors holds what `resume` goes on from. preview(stage,
    step) is called at every checkpoint, with the averaged weights. Raises UserError for settings that do not
    fit, and where the loss or the gradient is NaN or infinite.
    """
    run = Run(stage, dataset, config, out, resume, accelerator)
    batches = run.batches(dataset)
    stage.train()
    while (progress := run.progress()) < 1:
        began = time.perf_counter()
        factor = lr_factor(run.step, progress, config)
        loss = torch.zeros((), device=run.accelerator.device)
        for part in run.parts:
            images, captions = next_batch(batches)
            text, mask = embed(encoder, captions, run.accelerator)
            loss += run.backward(images, text, mask, part)
        loss_value = run.accelerator.reduce(loss, "mean").item()
        if not math.isfinite(loss_value):
            raise diverged(f"the loss is {loss_value}", run.step)
        grad_norm = run.optimizers.step(factor)
        if not math.isfinite(grad_norm) and run.optimizers.scaler is None:
            raise diverged(f"the norm of the gradient is {grad_norm}", run.step)
        run.step += 1
        run.average.update_parameters(stage)
        if run.checkpoint_due():
            run.save(preview)
        seconds = time.perf_counter() - began
        yield {
            "step": run.step,
            "loss": loss_value,
            "lr_factor": factor,
            "lr": config.lr * factor,
            "grad_norm": grad_norm,
            "images_per_second": config.batch / seconds,
            "progress": run.progress_here(),
            "seconds": run.seconds_here(),
        }
    run.save(preview)
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


class Run:
    """The state of a training run: what a checkpoint saves, and which parts of a batch this process computes.

    A batch is split into (processes × grad_accum_steps) equal parts; `parts` are those of this process.
    """

    def __init__(
        self,
        stage: Stage,
        dataset: ImageDataset,
        config: TrainConfig,
        out: Path | None,
        resume: bool,
        accelerator: Accelerator | None,
    ) -> None:
        check_settings(config, out, resume)
        self.accelerator = accelerator or make_accelerator(cpu=not torch.cuda.is_available())
        self.stage, self.config, self.out = stage, config, out
        self.parts, self.num_parts = parts_of(self.accelerator, config)
        # wrapped where there are several processes
        self.model = self.accelerator.prepare(stage.to(self.accelerator.device))
        self.optimizers = Optimizers(stage.unet, config, self.accelerator.scaler)
        self.average = averaged_model(stage, config.ema_decay)
        self.ema = cast(Stage, self.average.module)
        self.settings = {**asdict(config), "precision": self.accelerator.mixed_precision}
        self.identity = {
            "data": dataset.identity,
            "run": {k: v for k, v in self.settings.items() if k not in FREE},
            "stage": asdict(stage.config),
        }
        self.step, self.spent = 0, 0.0
        resumed = resume and out is not None and (out / STATE).exists()
        if out is not None and self.accelerator.is_main_process:
            remove_leftovers(out)
        if out is not None and resumed:
            self.step, self.spent = load_checkpoint(
                out, stage.unet, self.ema.unet, self.optimizers, self.identity
            )
            self.average.n_averaged.fill_(1 + self.step)
        self.begun = self.saved = time.monotonic()
        if (
            not resumed
        ):  # step 0 too, so that a run killed before its first checkpoint can be resumed
            self.save()

    def batches(self, dataset: ImageDataset) -> Iterator[tuple[Tensor, list[str]]]:
        """Images and captions of this process's parts, from the present step on."""
        order = ShuffledBatches(
            len(dataset),
            self.config.batch,
            self.config.seed,
            self.step,
            self.parts,
            self.num_parts,
        )
        own = torch.Generator()  # or the loader would draw from the global one
        workers = self.config.workers
        return iter(
            DataLoader(Batches(dataset), None, sampler=order, num_workers=workers, generator=own)
        )

    def backward(self, images: Tensor, text: Tensor, mask: Tensor, part: int) -> Tensor:
        """Add the gradient of a part of the batch, and return its share of the batch's loss.

        All random numbers of the batch are drawn, and those of this part are kept. So a batch has the same
        loss in any number of parts and processes.
        """
        config, device = self.config, self.accelerator.device
        own = slice(part * len(images), (part + 1) * len(images))
        generator = step_generator(config.seed, self.step, 0, device)
        noise = self.stage.draw_noise(config.batch, images.shape[-1], generator)[own]
        if config.text_noise:
            generator = step_generator(config.seed, self.step, 1, device)
            drawn = draw_text_noise(config.batch, text.shape[-1], config.text_noise, generator)
            text = add_text_noise(text, mask, *(z[own] for z in drawn))
        last = part == self.parts[-1]  # gradients are summed over the processes once
        with nullcontext() if last else self.accelerator.no_sync(self.model):
            loss: Tensor = self.model(images.to(device), text, mask, noise) / len(self.parts)
            self.accelerator.backward(loss)
        return loss.detach()

    def seconds_here(self) -> float:
        """Seconds of training so far, by the clock of this process."""
        return self.spent + time.monotonic() - self.begun

    def progress_here(self) -> float:
        """The fraction of the run that is done, by the clock of this process."""
        return self._progress(self.seconds_here())

    def progress(self) -> float:
        """The fraction of the run that is done, by the main process's clock: all processes end at one step."""
        seconds = self.seconds_here()
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
            progress = {"step": self.step, "seconds": self.seconds_here()}
            metadata = {**progress, **self.identity, "run": self.settings}
            save_checkpoint(self.out, self.stage.unet, self.ema.unet, self.optimizers, metadata)
        if preview is not None:
            preview(self.ema, self.step)


def check_settings(config: TrainConfig, out: Path | None, resume: bool) -> None:
    """Raises UserError, with a sentence, for settings that do not fit together."""
    if (config.steps is None) == (config.minutes is None):
        raise UserError("give either steps or minutes, and not both")
    positive = ("batch", "grad_accum_steps", "decay_fraction")
    length = config.steps if config.minutes is None else config.minutes
    if (length or 0) <= 0 or any(getattr(config, name) <= 0 for name in positive):
        raise UserError(f"steps, minutes, {', '.join(positive)} must be above 0")
    if out is not None and not resume and (out / STATE).exists():
        raise UserError(f"{out} holds a run: go on with --resume, or give another folder")


def parts_of(accelerator: Accelerator, config: TrainConfig) -> tuple[range, int]:
    """Which parts of each batch this process computes, and how many there are in all processes.

    Raises UserError where the batch can't be divided evenly.
    """
    processes, accumulated = accelerator.num_processes, config.grad_accum_steps
    num_parts = processes * accumulated
    if config.batch % num_parts:
        raise UserError(
            f"a batch of {config.batch} can't be shared evenly by {processes} processes, each in "
            f"{accumulated} parts: choose a multiple of {num_parts}"
        )
    first = accelerator.process_index * accumulated
    return range(first, first + accumulated), num_parts


def next_batch(batches: Iterator[tuple[Tensor, list[str]]]) -> tuple[Tensor, list[str]]:
    """The next images and captions; an error in a worker process loses the worker's traceback, not its sentence."""
    try:
        return next(batches)
    except UserError as error:
        raise UserError(str(error).strip().split("UserError: ")[-1]) from error


def embed(
    encoder: TextEncoder, captions: list[str], accelerator: Accelerator
) -> tuple[Tensor, Tensor]:
    """Text embeddings (B, L, D) and mask (B, L), on the accelerator's device, in bf16 autocast if it uses that.

    Never in fp16, in which a T5 overflows.
    """
    device = accelerator.device
    with torch.autocast(device.type, torch.bfloat16, accelerator.mixed_precision == "bf16"):
        text, mask = encoder(captions)
    return text.to(device), mask.to(device)


def diverged(what: str, step: int) -> UserError:
    """The error for a loss or gradient that is NaN or infinite."""
    return UserError(
        f"{what} at step {step}: go on from the last checkpoint with --resume and lower learning rates "
        "(--lr, --muon-lr)"
    )
