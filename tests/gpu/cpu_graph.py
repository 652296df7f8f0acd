"""A CUDA graph that is played by the CPU: operations are recorded once, and launched again on the same tensors.

As with a CUDA graph, what Python computed while it was recorded stays as it was; results are written into the
tensors of the first time; random numbers come from the generators' present seeds; and to read a number is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Operation = tuple[Any, Any, Any, Any]  # function, arguments, keyword arguments, result


class Recording(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "_local_scalar_dense" in str(func):
            raise RuntimeError("operation not permitted when stream is capturing")
        out = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, out))
        return out


def storages(values: Any) -> set[int]:
    tensors = (x for x in tree_leaves(values) if isinstance(x, Tensor))
    return {x.untyped_storage()._cdata for x in tensors}


class CpuGraph:
    """In the place of minimagen.training.graph.Captured; `launches` are those of what was recorded."""

    warm_up = 3

    def __init__(self, work: Callable[[], Tensor], generators: Any, recover: Any) -> None:
        self.work, self.calls, self.launches = work, 0, 0
        self.operations: list[Operation] = []

    def __call__(self) -> Tensor:
        self.calls += 1
        if self.calls <= self.warm_up:
            return self.work()
        if not self.operations:
            states = self._clone()
            with Recording() as recording:
                self.result = self.work()
            self.operations = recording.operations
            self._restore(states)  # a capture computes nothing
        self.launch()
        return self.result

    def _clone(self) -> list[tuple[Tensor, Tensor]]:
        step: Any = self.work.__self__  # type: ignore[attr-defined]
        kept = [*step.stage.parameters(), *step.average.module.parameters()]
        for optimizer in step.optimizers.all:
            kept += [x for s in optimizer.state.values() for x in s.values()]
        self.generators = [(g, g.get_state()) for g in step.generators]
        return [(x, x.detach().clone()) for x in kept]

    def _restore(self, states: list[tuple[Tensor, Tensor]]) -> None:
        with torch.no_grad():
            for x, value in states:
                x.copy_(value)
        for generator, state in self.generators:
            generator.set_state(state)

    @torch.no_grad()
    def launch(self) -> None:
        self.launches += 1
        for func, args, kwargs, out in self.operations:
            new, known = func(*args, **kwargs), storages((args, kwargs))
            for old, value in zip(tree_leaves(out), tree_leaves(new), strict=True):
                if isinstance(old, Tensor) and old.untyped_storage()._cdata not in known:
                    old.detach().copy_(value)
