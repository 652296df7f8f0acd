"""Ctrl-C on the command line: while libraries load, and while there is work that can be stopped properly."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

from .errors import PREFIX


class Interrupts:
    """What Ctrl-C does while the block runs.

    While libraries load it ends the process at once: nothing is half done, and inside an import an exception may
    become another one, or be lost. After `loaded` it raises KeyboardInterrupt, and sets `seen`.
    """

    def __init__(self) -> None:
        self.seen = False
        self.process = os.getpid()

    def __enter__(self) -> Interrupts:
        if self.possible():
            self.before = signal.signal(signal.SIGINT, self.end)
        return self

    def __exit__(self, *_: object) -> None:
        if self.possible():
            signal.signal(signal.SIGINT, self.before)

    @staticmethod
    def possible() -> bool:
        """Whether signals can be handled here: only in the main thread."""
        return threading.current_thread() is threading.main_thread()

    def loaded(self) -> None:
        """From now on there is work that can be stopped properly."""
        if self.possible():
            signal.signal(signal.SIGINT, self.note)

    def end(self, *_: object) -> None:
        """End the process."""
        if os.getpid() == self.process:  # and not a worker
            with contextlib.suppress(OSError):
                os.write(2, f"{PREFIX}interrupted\n".encode())
        os._exit(130)

    def note(self, *_: object) -> None:
        """Raise KeyboardInterrupt, and remember it."""
        self.seen = True
        raise KeyboardInterrupt
