"""One training step of a stage: loss, gradient, optimizers, EMA.

What changes from step to step (learning rates, EMA decay, seeds, images) is set before it. With a pool, all of that
is in tensors, and nothing is read from the device: on CUDA such a step is captured as a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor

from ..config import TrainConfig
from ..errors import UserError, complain
from ..images import from_bytes
from ..randomness import TrainingNoise, step_seed
from ..stage import Stage
from ..text import add_text_noise, draw_text_noise
from .batches import Source
from .ema import AveragedModel
from .graph import Captured
from .optimizers import Optimizers


class Step:
    """The steps of a run, and what they update: the stage, the optimizers and the EMA.

    A batch is split into (processes × grad_accum_steps) equal parts; `parts` are those of this process.
    """

    def __init__(
        self, stage: Stage, config: TrainConfig, accelerator: Accelerator, source: Source
    ) -> None:
        self.stage, self.config, self.accelerator = stage, config, accelerator
        self.device, self.source = accelerator.device, source
        self.parts, self.num_parts = parts_of(accelerator, config)
        # wrapped where there are several processes
        self.model = accelerator.prepare(stage.to(self.device))
        self.optimizers = Optimizers(stage.unet, config, accelerator.scaler, source.in_tensors)
        self.average = AveragedModel(stage, config.ema_decay, source.in_tensors)
        self.generators = [torch.Generator(self.device) for _ in range(2)]  # diffusion, text
        self.network: Callable[..., Tensor] | None = None  # the U-Net, compiled
        self.launch: Callable[[], Tensor] = self._update

    @property
    def captured(self) -> bool:
        """Whether a step is compiled and captured: on CUDA, where the images come in tensor operations alone."""
        return self.source.in_tensors and self.device.type == "cuda"

    def begin(self, first_step: int) -> None:
        """Get ready for the steps from first_step on."""
        half = self.accelerator.mixed_precision == "bf16"
        self.source.begin(self.config, first_step, self.parts, self.num_parts, half)
        if self.captured:
            self.network = torch.compile(self.stage.unet, dynamic=False)
            self.source.compile(True)
            self.launch = Captured(self._update, self.generators, self.forget)

    def __call__(self, step: int, lr_factor: float) -> Tensor:
        """Step number `step` (from 0) at lr_factor times the learning rates: its loss and gradient norm, (2,).

        On CUDA the result may still be in computation. With several processes, each returns the loss of the
        whole batch.
        """
        self.source.prepare(step)
        for stream, generator in enumerate(self.generators):
            generator.manual_seed(step_seed(self.config.seed, step, stream))
        self.optimizers.set_lr(lr_factor)
        self.average.updates = step
        self.average.next_update()
        try:
            result = self.launch()
        except (torch.OutOfMemoryError, UserError):
            raise
        except Exception as error:
            if self.network is None:
                raise
            self._without_compiling(error)
            result = self.launch()
        return result

    def _without_compiling(self, error: Exception) -> None:
        """Go on with the plain U-Net and text encoder, and say why on stderr."""
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        complain(f"the U-Net is not compiled, which is slower: {reason}")
        self.network = None
        self.source.compile(False)
        self.forget()

    def forget(self) -> None:
        """Clean up after a step that failed: drop gradients, and replace generators that were being captured."""
        for p in self.stage.parameters():
            p.grad = None
        seeds = [generator.initial_seed() for generator in self.generators]
        self.generators[:] = [torch.Generator(self.device).manual_seed(s) for s in seeds]

    def _update(self) -> Tensor:
        """The gradient of all parts, then a step of the optimizers and the EMA; returns loss and norm, (2,)."""
        size = self.config.batch // self.num_parts
        noise: TrainingNoise | None = None
        loss = torch.zeros((), device=self.device)
        for part in self.parts:
            own = slice(part * size, (part + 1) * size)
            images, text, mask = self.source.part(own)
            # drawn for the whole batch: its loss is the same in any number of parts and processes
            if noise is None:
                noise, text_noise = self._draw_noise(images.shape[-1], text.shape[-1])
            if text_noise is not None:
                text = add_text_noise(text, mask, *(z[own] for z in text_noise))
            loss += self._backward(images, text, mask, noise[own], last=part == self.parts[-1])
        if self.accelerator.num_processes > 1:
            loss = self.accelerator.reduce(loss, "mean")
        norm = self.optimizers.step()
        self.average.move(self.stage)
        return torch.stack([loss, norm.to(loss)])

    def _draw_noise(
        self, resolution: int, width: int
    ) -> tuple[TrainingNoise, tuple[Tensor, Tensor] | None]:
        """The random numbers of a batch: of the diffusion, and on the text."""
        config, (diffusion, words) = self.config, self.generators
        noise = self.stage.draw_noise(config.batch, resolution, diffusion)
        if not config.text_noise:
            return noise, None
        return noise, draw_text_noise(
            config.batch, width, config.text_noise, words, config.text_noise_exponent
        )

    def _backward(
        self, images: Tensor, text: Tensor, mask: Tensor, noise: TrainingNoise, last: bool
    ) -> Tensor:
        """Add the gradient of a part of the batch, and return its share of this process's loss."""
        if images.dtype == torch.uint8:  # cropped while they are small
            images = from_bytes(self.stage.cropped(images, noise))
            noise = replace(noise, crop=None)
        # gradients are summed over the processes once
        with nullcontext() if last else self.accelerator.no_sync(self.model):
            extra = () if self.network is None else (self.network,)
            loss: Tensor = self.model(images, text, mask, noise, *extra) / len(self.parts)
            self.accelerator.backward(loss)
        return loss.detach()


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
