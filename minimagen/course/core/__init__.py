"""The core functions of the system, chapter by chapter: what the learner writes, and what stands in until then."""

from __future__ import annotations

from . import (
    chapter_01,
    chapter_02,
    chapter_03,
    chapter_04,
    chapter_05,
    chapter_06,
    chapter_07,
    chapter_08,
    chapter_09,
    chapter_10,
    chapter_11,
    chapter_12,
    chapter_13,
    chapter_14,
    chapter_15,
)
from .base import Core
from .given import GIVEN, MODULES

_CHAPTERS = (
    chapter_01, chapter_02, chapter_03, chapter_04, chapter_05,
    chapter_06, chapter_07, chapter_08, chapter_09, chapter_10,
    chapter_11, chapter_12, chapter_13, chapter_14, chapter_15,
)  # fmt: skip
CORE: dict[str, Core] = {core.name: core for chapter in _CHAPTERS for core in chapter.CORE}

__all__ = ["CORE", "GIVEN", "MODULES", "Core"]
