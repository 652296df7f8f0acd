"""Pictures with their tokens in a pool on the device, made by worker processes ahead of the training.

A step on a GPU takes milliseconds: it would wait for every batch that is made, encoded and copied for it. From the
pool it draws its batch without a number that crosses to the CPU, so that the whole step can be captured.
"""

from __future__ import annotations

import itertools
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..config import TrainConfig
from ..errors import UserError
from ..randomness import pool_generator
from ..text import TextEncoder, tokenize
from .batches import ImageDataset, Source, plain_error
from .order import ShuffledBatches
from .t5 import TensorT5

CHUNK_BYTES = 2**23  # of pictures that a worker hands over at once, at most
ENDLESS = 10**8  # so many pictures are not shuffled: their numbers mean nothing
AT_ONCE = 4  # chunks that are taken in between two steps

Chunk = tuple[
    Tensor, Tensor, Tensor
]  # pictures uint8 (n, 3, H, W), token ids int32 and mask (n, tokens)


@dataclass(frozen=True)
class Chunks(Dataset[Chunk]):
    """An ImageDataset whose items are chunks of pictures, as bytes, with their tokens, by lists of indices."""

    dataset: ImageDataset
    tokenizer: Any
    tokens: int

    def __getitem__(self, indices: list[int]) -> Chunk:
        images, captions = self.dataset.batch(indices)
        pictures = ((images + 1) * 127.5).round().to(torch.uint8)
        ids, mask = tokenize(self.tokenizer, captions, self.tokens)
        return pictures, ids.to(torch.int32), mask


class Feed:
    """Chunks in the order given, made ahead by a thread, or by worker processes behind it; the last is None."""

    def __init__(self, chunks: Chunks, order: Iterable[list[int]], workers: int) -> None:
        self.loader = DataLoader(
            chunks,
            None,
            sampler=order,
            num_workers=workers,
            generator=torch.Generator(),  # or the loader would draw from the global one
            # a forked process would inherit the GPU
            multiprocessing_context="spawn" if workers else None,
        )
        self.ready: queue.Queue[Chunk | BaseException | None] = queue.Queue(maxsize=2 * AT_ONCE)
        self.stopped = threading.Event()
        # or every worker would start a thread a core
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for chunk in self.loader:
                if not self._put(chunk):
                    return
            self._put(None)
        except BaseException as error:  # it is raised where the chunks are taken
            self._put(error)

    def _put(self, chunk: Chunk | BaseException | None) -> bool:
        """False where nobody wants it any more."""
        while not self.stopped.is_set():
            try:
                self.ready.put(chunk, timeout=0.2)
                return True
            except queue.Full:
                pass
        return False

    def take(self, wait: bool) -> Chunk | None:
        """The next chunk; None: there is none, or none yet. Raises what went wrong as it was made."""
        while True:
            try:
                chunk = self.ready.get(wait, timeout=1.0)
            except queue.Empty:
                if wait and self.thread.is_alive():
                    continue
                return None
            if isinstance(chunk, UserError):
                raise plain_error(chunk) from chunk
            if isinstance(chunk, BaseException):
                raise chunk
            return chunk

    def close(self) -> None:
        """End the thread and its processes."""
        self.stopped.set()
        self.thread.join(timeout=10)


class Pool(Source):
    """A Source whose images wait on the device, as bytes, beside their tokens; `encoder` runs in every step.

    A data set of at most `size` pictures lies in it whole, and which of them a step has follows from (seed, step),
    as without a pool. Of a larger one the pool is a ring: workers put new pictures in the place of the oldest,
    as fast as they can, and a step draws at random from what is there. So a run that is resumed goes on with the
    same weights and noise, but with other pictures.

    tokens: of a caption; longer ones are cut. workers: processes that make pictures; 0: a thread of this one.
    """

    in_tensors = True

    def __init__(
        self,
        dataset: ImageDataset,
        encoder: TextEncoder,
        device: torch.device,
        size: int,
        tokens: int = 40,
        workers: int = 0,
    ) -> None:
        self.dataset, self.device, self.workers = dataset, device, workers
        self.size, self.whole = min(size, len(dataset)), len(dataset) <= size
        self.chunks = Chunks(dataset, encoder.tokenizer, tokens)
        self.encoder = TensorT5(encoder, tokens).to(device)
        self.encode: Callable[[Tensor, Tensor], Tensor] = self.encoder
        self.made = 0  # pictures that have come in so far
        side = dataset.batch([0])[0].shape[-1]
        self.chunk = max(1, min(256, CHUNK_BYTES // (3 * side * side)))
        self.images = torch.zeros(self.size, 3, side, side, dtype=torch.uint8, device=device)
        self.ids = torch.zeros(self.size, tokens, dtype=torch.int32, device=device)
        self.mask = torch.zeros(self.size, tokens, dtype=torch.bool, device=device)
        self.feed: Feed | None = None

    @property
    def identity(self) -> str | dict[str, Any]:
        """That of the data set."""
        return self.dataset.identity

    def begin(
        self,
        config: TrainConfig,
        first_step: int,
        parts: range = range(1),
        num_parts: int = 1,
        half: bool = False,
    ) -> None:
        """Fill the pool, or as much of it as a run can begin with."""
        self.config, self.half = config, half
        self.index = torch.zeros(config.batch, dtype=torch.int64, device=self.device)
        batches = ShuffledBatches(len(self.dataset), config.batch, config.seed, first_step)
        self.order = iter(batches) if self.whole else None
        self.feed = Feed(self.chunks, self._order(first_step * config.batch), self.workers)
        enough = self.size if self.whole else min(self.size, 2 * config.batch)
        while self.made < enough:
            self._let_in(wait=True)

    def _order(self, first: int) -> Iterator[list[int]]:
        """Chunks of indices: of all pictures once, or of the run's pictures from number `first` on."""
        n, chunk, seed = len(self.dataset), self.chunk, self.config.seed
        if self.whole:
            return (list(range(i, min(i + chunk, n))) for i in range(0, n, chunk))
        if n < ENDLESS:
            return iter(ShuffledBatches(n, chunk, seed, first // chunk))
        return ([i % n for i in range(k, k + chunk)] for k in itertools.count(first, chunk))

    def _let_in(self, wait: bool = False) -> None:
        """New pictures come in on the stream of the training: no step sees half of one."""
        assert self.feed is not None
        chunk = self.feed.take(wait)
        if chunk is None:
            if wait:
                raise RuntimeError(
                    "the pool can't be filled: the thread that brings pictures ended"
                )
            return
        pinned = [self._pinned(z) for z in chunk]
        while n := len(pinned[0]):
            at = self.made % self.size
            n = min(n, self.size - at)  # up to the end of the ring, then on at its beginning
            for kept, new in zip((self.images, self.ids, self.mask), pinned, strict=True):
                kept[at : at + n].copy_(new[:n], non_blocking=True)
            pinned = [new[n:] for new in pinned]
            self.made += n

    def _pinned(self, z: Tensor) -> Tensor:
        """A copy from memory that is not pinned would wait for the device."""
        return z.pin_memory() if self.device.type == "cuda" else z

    def prepare(self, step: int) -> None:
        """Let in what is ready, and choose the pictures of a step."""
        if self.order is not None:
            index = torch.tensor(next(self.order))
        else:
            for _ in range(AT_ONCE):
                self._let_in()
            filled = min(self.made, self.size)
            generator = pool_generator(self.config.seed, step)
            index = torch.randint(filled, (self.config.batch,), generator=generator)
        self.index.copy_(self._pinned(index), non_blocking=True)

    @torch.no_grad()
    def part(self, own: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Those of the step's pictures, as bytes, with their embeddings and mask, in tensor operations alone."""
        index = self.index[own]
        ids, mask = self.ids[index].long(), self.mask[index]
        with torch.autocast(self.device.type, torch.bfloat16, self.half, cache_enabled=False):
            text = self.encode(ids, mask)
        return self.images[index], text.float(), mask

    def compile(self, wanted: bool) -> None:
        """From now on `part` computes the embeddings with a compiled encoder, or with a plain one."""
        self.encode = torch.compile(self.encoder, dynamic=False) if wanted else self.encoder

    def close(self) -> None:
        """End the workers."""
        if self.feed is not None:
            self.feed.close()
