"""A time limit for code that may never end, on every system and in every thread."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TooLong(BaseException):
    """Not an Exception: a learner's `except Exception` must not catch it."""


def within(seconds: float, function: Callable[[], T]) -> T:
    """function(), or TooLong raised inside it after so many seconds.

    It comes between two steps of Python: one long call into torch ends first.
    """
    thread = ctypes.c_ulong(threading.get_ident())
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    lock, over = threading.Lock(), False

    def stop() -> None:
        with lock:
            if not over:
                raise_in(thread, ctypes.py_object(TooLong))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        return function()
    finally:
        timer.cancel()
        with lock:
            over = True
        raise_in(thread, None)  # one that is on its way, but has not arrived
