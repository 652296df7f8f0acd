"""Assets: where the shipped data and weights are, and how files are written, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor

DATA = Path(__file__).resolve().parent.parent / "data"
CASCADE = DATA / "cascade"
JUDGES = DATA / "judge"
DEFAULT_ENCODER = DATA / "text-encoder"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`, which takes the place of `path` once the block has ended well.

    A process that is killed, or a full disk, leaves the old file or the new one, whole. Raises OSError, with a
    sentence, where it can't be written.
    """
    target = Path(os.path.realpath(path))  # a link stays one: the file that it names is written
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        yield aside
        aside.chmod(0o644)  # safetensors makes files that only their owner can read
        with open(aside, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(aside, target)
    except (SafetensorError, OSError) as error:
        aside.unlink(missing_ok=True)
        raise OSError(
            f"{path} can't be written ({error}): what was there before is kept; make room, then go on"
        ) from error
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_tensors(
    tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors and metadata as safetensors, whole or not at all. Raises OSError as `replacing` does."""
    with replacing(path) as aside:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, aside, metadata)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises SafetensorError or OSError where it can't be read."""
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:  # a name that is no UTF-8, which load_file does not take
        return load(path.read_bytes())
    return load_file(path)


def int8(tensors: dict[str, Tensor], by_row: bool = True) -> dict[str, Tensor]:
    """Each tensor in 255 steps a row, or in all, as `NAME` (int8) and `NAME/step`. Integers stay."""
    packed = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            packed[name] = tensor
            continue
        within = tuple(range(1, tensor.ndim)) if by_row and tensor.ndim > 1 else None
        largest = tensor.abs().amax(within, keepdim=True) if within else tensor.abs().max()
        step = largest.clamp(min=1e-8) / 127
        packed[name] = (tensor / step).round().to(torch.int8)
        packed[f"{name}/step"] = step
    return packed


def from_int8(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that `int8` packed, to within half a step; others as they are."""
    return {
        name: tensor.float() * packed[f"{name}/step"] if f"{name}/step" in packed else tensor
        for name, tensor in packed.items()
        if not name.endswith("/step")
    }


def write_json(values: Any, path: Path) -> None:
    """Write JSON, whole or not at all. Raises OSError as `replacing` does."""
    with replacing(path) as aside:
        aside.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
