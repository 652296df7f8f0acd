"""A lock on the folder of a run: a second process that would write into it gets an error."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

from ..errors import UserError

if os.name == "nt":
    import msvcrt
else:
    import fcntl

LOCK = "run.lock"
_ours: set[str] = set()  # folders that this process holds: file locks are per process


@contextlib.contextmanager
def sole_owner(out: Path) -> Iterator[None]:
    """Hold a lock on `out` (created if need be) while the block runs. Raises UserError where another run holds it.

    It is a file lock on out/run.lock, which contains the owner's process id. The system releases it when the
    process ends, however it ends; worker processes do not inherit it. A file system without locks has none.
    """
    made = not out.exists()
    path = out / LOCK
    key = os.path.realpath(path)
    if key in _ours:
        raise UserError(
            f"{out} is being trained in this process: end that run, or give another folder"
        )
    file = _locked(path)
    _ours.add(key)
    try:
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
    finally:
        _ours.discard(key)
        with contextlib.suppress(OSError):  # Windows does not remove an open file
            path.unlink()
        file.close()
        with contextlib.suppress(OSError):  # there is something in it
            if made:
                out.rmdir()


P = ParamSpec("P")
T = TypeVar("T")


def owning(train: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
    """Decorator of a training generator: its main process holds the lock on its argument `out` while it runs."""
    signature = inspect.signature(train)

    @functools.wraps(train)
    def owned(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        out = signature.bind(*args, **kwargs).arguments.get("out")
        main_process = os.environ.get("RANK", "0") == "0"
        with sole_owner(out) if out is not None and main_process else contextlib.nullcontext():
            yield from train(*args, **kwargs)

    return owned


def _locked(path: Path) -> IO[str]:
    """The lock file, open, with the lock on it. Raises UserError where another process has it."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+", encoding="ascii", errors="replace")
        except (FileNotFoundError, FileExistsError):  # its last owner is removing the folder
            if path.parent.is_file():
                raise
            continue
        if not _lock(file):
            file.seek(0)
            owner = "".join(c for c in file.read(20) if c.isdigit()) or "another"
            file.close()
            raise UserError(
                f"{path.parent} is being trained by process {owner}: wait for its end, or give another folder"
            )
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # its last owner has just removed it


def _lock(file: IO[str]) -> bool:
    """Take the lock; False where another process has it."""
    try:
        if os.name == "nt":
            file.seek(0x7FFF0000)  # a byte beyond the text, which others may read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (PermissionError, BlockingIOError):
        return False
    except OSError:  # no locks on this file system
        return True
    return True
