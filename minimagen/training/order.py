"""The order in which images are trained on: a new random permutation every epoch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.data import Sampler


@lru_cache(maxsize=2)  # a batch may reach into the next epoch
def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """A random permutation of n images, (n,), by (seed, epoch) alone."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(n, generator=generator)


class ShuffledBatches(Sampler[list[int]]):
    """Endless lists of indices into n images: the parts of each batch that this process computes.

    A batch is split into `num_parts` equal parts; `parts` are those of this process, in order. Which images
    come at a step follows from (seed, step) alone: a run that starts at first_step goes on exactly where
    an earlier one stopped, whatever the number of parts.
    """

    def __init__(
        self,
        n: int,
        batch: int,
        seed: int = 0,
        first_step: int = 0,
        parts: range = range(1),
        num_parts: int = 1,
    ) -> None:
        self.n, self.batch, self.seed, self.first_step = n, batch, seed, first_step
        self.parts, self.num_parts = parts, num_parts

    def __iter__(self) -> Iterator[list[int]]:
        size = self.batch // self.num_parts
        for step in itertools.count(self.first_step):
            for part in self.parts:
                first = step * self.batch + part * size
                yield [self._image(k) for k in range(first, first + size)]

    def _image(self, k: int) -> int:
        """The index of the run's image number k."""
        epoch, place = divmod(k, self.n)
        return int(epoch_order(self.n, self.seed, epoch)[place])
