"""Work on a GPU as one CUDA graph: a step of a small network is many short kernels, which would otherwise be
launched one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import complain

# calls that are not captured: they compile, choose kernels, and create the optimizers' state
WARM_UP = 3

Work = Callable[[], Tensor]


class Captured:
    """A function that is called WARM_UP times, then captured as a CUDA graph and replayed.

    work: takes no arguments and returns a tensor, which each replay overwrites. It must not read numbers from the
    device, and what changes from call to call must be in tensors. generators: all those on the device that it
    draws from; a replay starts from their present seeds. recover: called where capturing fails; a line on stderr
    says so, and from then on the function is called as it is.
    """

    def __init__(
        self, work: Work, generators: Sequence[torch.Generator], recover: Callable[[], object]
    ) -> None:
        self.work, self.generators, self.recover = work, generators, recover
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.result: Tensor | None = None
        self.given_up = False

    def __call__(self) -> Tensor:
        """The work's result."""
        self.calls += 1
        if self.calls <= WARM_UP:
            return self._beside()
        if self.graph is None and not self.given_up:
            self._try_to_capture()
        if self.graph is None or self.result is None:
            return self.work()
        self.graph.replay()
        return self.result

    def _beside(self) -> Tensor:
        """Call it on a side stream, as CUDA requires before a capture."""
        stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self.work()
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _try_to_capture(self) -> None:
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        try:
            # thread_local: the thread that fills the pool may use CUDA meanwhile
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.result = self.work()
            torch.cuda.synchronize()
            self.graph = graph
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.given_up, self.result = True, None
            reason = " ".join(str(error).split())[:200]
            complain(f"steps are launched kernel by kernel, which is slower: {reason}")
            self.recover()
