"""Errors that the user can put right, and the lines on stderr that tell of them."""

from __future__ import annotations

import contextlib
import sys

PREFIX = "minimagen: "
# torch has no exception of its own for a CPU's memory
_OUT_OF_MEMORY = ("memoryerror", "out of memory", "allocate memory", "shared memory")


class UserError(ValueError):
    """A mistake of the user. Its text is the sentence that they see: what is wrong, and what to do."""


class TextWarning(UserWarning):
    """A prompt that the text encoder reads only in part."""


def complain(sentence: str) -> None:
    """Print a sentence on stderr, behind the program's name; a closed stderr is no error."""
    with contextlib.suppress(OSError, ValueError):
        print(f"{PREFIX}{sentence}", file=sys.stderr, flush=True)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, the CPU's or the GPU's, ran out."""
    kinds = isinstance(error, RuntimeError | MemoryError)
    return kinds and any(sign in repr(error).lower() for sign in _OUT_OF_MEMORY)
