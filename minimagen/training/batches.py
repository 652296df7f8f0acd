"""Where a step's images and embeddings come from: here, a data loader and the text encoder; in pool.py, a pool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..config import TrainConfig
from ..errors import UserError
from ..text import TextEncoder
from .order import ShuffledBatches


class ImageDataset(Protocol):
    """A data set that can be trained on: Scenes, or a Folder of your own images."""

    @property
    def identity(self) -> str | dict[str, Any]:
        """Identifies the data, as JSON: a run can be resumed only on the images that it was begun with."""

    def batch(self, indices: list[int]) -> tuple[Tensor, list[str]]:
        """Images (B, 3, H, W) in [−1, 1] and their captions."""

    def __len__(self) -> int:
        """The number of images."""


class Source:
    """The images of a run's steps, with their text: begin, then for each step prepare and its parts, then close.

    in_tensors: whether `part` is tensor operations alone, so that a step can be compiled and captured.
    """

    in_tensors = False

    @property
    def identity(self) -> str | dict[str, Any]:
        """That of the data set."""
        raise NotImplementedError

    def begin(
        self, config: TrainConfig, first_step: int, parts: range, num_parts: int, half: bool
    ) -> None:
        """Get ready for the steps from first_step on.

        parts: those of `num_parts` in a batch that this process asks for, in this order; half: the text encoder
        computes in bfloat16.
        """

    def prepare(self, step: int) -> None:
        """Get ready for a step; steps follow one another."""

    def part(self, own: slice) -> tuple[Tensor, Tensor, Tensor]:
        """These of the step's images: (B, 3, H, W), text (B, L, D) and mask (B, L), on the device.

        Images are float in [−1, 1], or uint8.
        """
        raise NotImplementedError

    def compile(self, wanted: bool) -> None:
        """From now on compute the text embeddings with a compiled encoder, or with a plain one."""

    def close(self) -> None:
        """End what was begun."""


@dataclass(frozen=True)
class Batches(Dataset[tuple[Tensor, list[str]]]):
    """An ImageDataset whose items are whole batches, by lists of indices, for a DataLoader."""

    images: ImageDataset

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, list[str]]:
        return self.images.batch(indices)


class Loaded(Source):
    """The deterministic Source: which images a step has follows from (seed, step) alone.

    Images come from a DataLoader and are encoded and moved to `device` step by step.
    """

    def __init__(self, dataset: ImageDataset, encoder: TextEncoder, device: torch.device) -> None:
        self.dataset, self.encoder, self.device = dataset, encoder, device
        self.batches: Iterator[tuple[Tensor, list[str]]] = iter(())

    @property
    def identity(self) -> str | dict[str, Any]:
        """That of the data set."""
        return self.dataset.identity

    def begin(
        self, config: TrainConfig, first_step: int, parts: range, num_parts: int, half: bool
    ) -> None:
        """Start the loader, and its worker processes, at the images of first_step."""
        self.half = half
        order = ShuffledBatches(
            len(self.dataset), config.batch, config.seed, first_step, parts, num_parts
        )
        own = torch.Generator()  # without it, the loader would use the global generator
        workers = config.workers or 0
        loader = DataLoader(
            Batches(self.dataset), None, sampler=order, num_workers=workers, generator=own
        )
        self.batches = iter(loader)

    def part(self, own: slice) -> tuple[Tensor, Tensor, Tensor]:
        """The next part of a batch."""
        try:
            images, captions = next(self.batches)
        except UserError as error:
            raise plain_error(error) from error
        # never in fp16, in which a T5 overflows
        with torch.autocast(self.device.type, torch.bfloat16, self.half):
            text, mask = self.encoder(captions)
        return images.to(self.device), text.to(self.device), mask.to(self.device)

    def close(self) -> None:
        """End the worker processes."""
        self.batches = iter(())


def plain_error(error: UserError) -> UserError:
    """An error in a worker process without the worker's traceback: its sentence alone."""
    return UserError(str(error).strip().split("UserError: ")[-1])
