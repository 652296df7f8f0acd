"""A stand-in for a GPU where there is none: tensors that compute on the CPU and refuse what a GPU's refuse.

A tensor on the device "meta" is here a `Gpu`, which holds its numbers. As on CUDA, an operation on it and a
tensor of the CPU raises RuntimeError (single numbers and indices may mix), NumPy can't read it, and a generator
of the CPU can't draw on it. So a missing .cpu() or .to(device) is found without a GPU; speed and precision are not.

    with FakeGpu():
        net = net.to("meta")
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# these may be given tensors of both: indices, and copies from one to the other
MIXES = {"index", "index_put", "index_put_", "_index_put_impl_", "copy_", "_to_copy"}


class Gpu(Tensor):
    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Gpu:
        shape = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        new = Tensor._make_wrapper_subclass(
            cls, held.size(), dtype=held.dtype, device="meta", **shape
        )
        new.held = held
        return new

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("this tensor is on the GPU: .cpu() first")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.held.detach().tolist()

    def __repr__(self, **_: Any) -> str:
        return f"Gpu({self.held})"

    def __format__(self, spec: str) -> str:
        return format(self.held.detach(), spec)

    def __deepcopy__(self, memo: dict) -> Tensor:
        new: Tensor = Gpu(self.held.detach().clone())
        memo[id(self)] = new = nn.Parameter(new) if isinstance(self, nn.Parameter) else new
        return new.requires_grad_(self.requires_grad)


def compute(func: Any, args: Any, kwargs: dict) -> Any:
    """One operation, on the CPU, after the checks that a GPU makes."""
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    ours = [x for x in tensors if isinstance(x, Gpu)]
    name = func._schema.name.split("::")[1]
    to = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else None
    if ours and name not in MIXES and any(x.dim() for x in tensors if not isinstance(x, Gpu)):
        raise RuntimeError(f"{name}: one tensor is on the GPU and another on the CPU")
    if (ours or to == "meta") and any(
        isinstance(x, torch.Generator) for x in tree_leaves((args, kwargs))
    ):
        raise RuntimeError(f"{name}: a generator of the CPU can't draw on the GPU")
    if to == "meta":
        kwargs = {**kwargs, "device": torch.device("cpu")}
    held_args, held_kwargs = tree_map(lambda x: x.held if isinstance(x, Gpu) else x, (args, kwargs))
    out = func(*held_args, **held_kwargs)
    if name.endswith("_") and args and isinstance(args[0], Tensor):  # in place
        return args[0]
    if not (to == "meta" or (ours and to is None)):
        return out
    known = {id(x.held): x for x in ours}
    wrap = lambda x: (known.get(id(x)) or Gpu(x)) if isinstance(x, Tensor) else x  # noqa: E731
    return tree_map(wrap, out)


class FakeGpu(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})
