"""A pool: a buffer of images and token ids on the device, filled by worker processes ahead of the training.

A step on a GPU would otherwise wait for its batch to be rendered, encoded and copied. It indexes the pool without a
transfer to or from the CPU, so that the whole step can be captured as a CUDA graph.
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

CHUNK_BYTES = 2**23  # the largest size of the images of a chunk
ENDLESS = 10**8  # a data set of this many images is not shuffled: its items are random already
AT_ONCE = 4  # chunks that are copied to the device between two steps, at most

# images uint8 (n, 3, H, W), token ids int32 (n, tokens) and mask (n, tokens)
Chunk = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Chunks(Dataset[Chunk]):
    """A map-style data set of chunks: images as uint8, with token ids and masks, by lists of indices."""

    dataset: ImageDataset
    tokenizer: Any
    tokens: int

    def __getitem__(self, indices: list[int]) -> Chunk:
        images, captions = self.dataset.batch(indices)
        pixels = ((images + 1) * 127.5).round().to(torch.uint8)
        ids, mask = tokenize(self.tokenizer, captions, self.tokens)
        return pixels, ids.to(torch.int32), mask


class Feed:
    """A queue of chunks in the order given, filled by a thread, from worker processes if any; the last is None."""

    def __init__(self, chunks: Chunks, order: Iterable[list[int]], workers: int) -> None:
        self.loader = DataLoader(
            chunks,
            None,
            sampler=order,
            num_workers=workers,
            generator=torch.Generator(),  # or the loader would draw from the global one
            # a forked process would inherit the CUDA context
            multiprocessing_context="spawn" if workers else None,
        )
        self.ready: queue.Queue[Chunk | BaseException | None] = queue.Queue(maxsize=2 * AT_ONCE)
        self.stopped = threading.Event()
        # otherwise every worker would start as many tokenizer threads as there are cores
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
        """Put a chunk into the queue; False where the feed was closed meanwhile."""
        while not self.stopped.is_set():
            try:
                self.ready.put(chunk, timeout=0.2)
                return True
            except queue.Full:
                pass
        return False

    def take(self, wait: bool) -> Chunk | None:
        """The next chunk; None: there is none, or none yet. Raises the error of the thread or worker, if any."""
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
    """A Source whose images are on the device, as uint8, with their token ids; the text encoder runs in every step.

    A data set of at most `size` images is held whole, and which of them a step has follows from (seed, step), as
    without a pool. Otherwise the pool is a ring buffer: workers replace the oldest images by new ones as fast as
    they can, and a step samples uniformly from what is there. So a resumed run has the same weights and noise,
    but other images.

    tokens: of a caption; longer ones are cut. workers: processes that make images; 0: a thread of this one.
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
        self.made = 0  # images copied into the pool so far
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
        """Chunks of indices: of all images once, or of the run's images from number `first` on."""
        n, chunk, seed = len(self.dataset), self.chunk, self.config.seed
        if self.whole:
            return (list(range(i, min(i + chunk, n))) for i in range(0, n, chunk))
        if n < ENDLESS:
            return iter(ShuffledBatches(n, chunk, seed, first // chunk))
        return ([i % n for i in range(k, k + chunk)] for k in itertools.count(first, chunk))

    def _let_in(self, wait: bool = False) -> None:
        """Copy the next chunk into the pool, on the stream of the training, so that no step sees half of it."""
        assert self.feed is not None
        chunk = self.feed.take(wait)
        if chunk is None:
            if wait:
                raise RuntimeError("the pool can't be filled: the thread that makes images ended")
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
        """In pinned memory, on CUDA: a copy from other memory would synchronise with the device."""
        return z.pin_memory() if self.device.type == "cuda" else z

    def prepare(self, step: int) -> None:
        """Copy the chunks that are ready into the pool, and choose the images of a step."""
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
        """These of the step's images, as uint8, with their embeddings and mask, in tensor operations alone."""
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
