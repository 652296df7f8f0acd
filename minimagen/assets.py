"""Where data and weights are, and how files are written."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor

DATA = Path(__file__).resolve().parent.parent / "data"
CASCADE = DATA / "cascade"
DEFAULT_ENCODER = DATA / "text-encoder"


def write(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """safetensors, written aside and renamed: a kill or a full disk leaves the old file or the new one, whole.

    Raises OSError, with a sentence, where it can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, aside, metadata)
        aside.chmod(0o644)  # save_file's is for its owner's eyes alone
        with open(aside, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except (SafetensorError, OSError) as error:
        aside.unlink(missing_ok=True)
        raise OSError(
            f"{path} can't be written ({error}): what was there before is kept; make room, then go on"
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises SafetensorError or OSError where it can't be read."""
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:  # a name that is no UTF-8, which load_file does not take
        return load(path.read_bytes())
    return load_file(path)
