"""Whose numbers: under MINIMAGEN_STUDENT every draw of a check is that student's own, and the same at each run."""

from __future__ import annotations

import os
import random
import zlib


def student() -> str:
    """The student's id, or nothing."""
    return os.environ.get("MINIMAGEN_STUDENT", "").strip()


def seed_of(purpose: str) -> int:
    """A number that belongs to the student and the purpose; a fresh one where no student is named."""
    if not student():
        return random.SystemRandom().getrandbits(31)
    return zlib.crc32(f"{student()}/{purpose}".encode()) >> 1


def dice(purpose: str) -> random.Random:
    """Draws for one check: other ones for each student, and without a student other ones each time."""
    return random.Random(seed_of(purpose))
