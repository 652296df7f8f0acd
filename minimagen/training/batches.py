"""Where a step's images and embeddings come from: here, a data loader and the text encoder; in pool.py, a pool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..config import TrainConfig
from ..errors import UserError
from ..text import TextEncoder
from .order import ShuffledBatches


class ImageDataset(Protocol):
    """What can be trained on: Scenes, or a Folder of your own images."""

    @property
    def identity(self) -> str | dict[str, Any]:
        """What it is, as JSON: a run can be resumed only on the images that it began with."""

    def batch(self, indices: list[int]) -> tuple[Tensor, list[str]]:
        """Images (B, 3, H, W) in [−1, 1] and their captions."""

    def __len__(self) -> int:
        """The number of images."""


class Source(Protocol):
    """The images of a run's steps, with their text."""

    def prepare(self, step: int) -> None:
        """Get ready for a step; steps follow one another."""

    def part(self, own: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Those of the step's images: (B, 3, H, W), text (B, L, D) and mask (B, L), on the device.

        Images are in [−1, 1], or bytes from 0 to 255.
        """


@dataclass(frozen=True)
class Batches(Dataset[tuple[Tensor, list[str]]]):
    """An ImageDataset whose items are whole batches, by lists of indices, for a DataLoader."""

    images: ImageDataset

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, list[str]]:
        return self.images.batch(indices)


class Loaded:
    """The Source that repeats itself: which images a step has follows from (seed, step), and nothing else.

    parts: those of `num_parts` in a batch that this process computes, in the order in which they are asked for.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        encoder: TextEncoder,
        accelerator: Accelerator,
        config: TrainConfig,
        first_step: int = 0,
        parts: range = range(1),
        num_parts: int = 1,
    ) -> None:
        self.encoder, self.accelerator = encoder, accelerator
        order = ShuffledBatches(
            len(dataset), config.batch, config.seed, first_step, parts, num_parts
        )
        own = torch.Generator()  # or the loader would draw from the global one
        loader = DataLoader(
            Batches(dataset), None, sampler=order, num_workers=config.workers, generator=own
        )
        self.batches: Iterator[tuple[Tensor, list[str]]] = iter(loader)

    def prepare(self, step: int) -> None:
        """Nothing: the loader goes on from where it is."""

    def part(self, own: slice) -> tuple[Tensor, Tensor, Tensor]:
        """The next part of a batch."""
        try:
            images, captions = next(self.batches)
        except UserError as error:
            raise plain_error(error) from error
        text, mask = embed(self.encoder, captions, self.accelerator)
        return images.to(self.accelerator.device), text, mask


def plain_error(error: UserError) -> UserError:
    """An error in a worker process without the worker's traceback: its sentence alone."""
    return UserError(str(error).strip().split("UserError: ")[-1])


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
