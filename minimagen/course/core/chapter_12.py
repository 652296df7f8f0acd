"""Chapter 12: can I steer it. These stay in their notebook."""

from __future__ import annotations

from .base import Core

CORE: tuple[Core, ...] = ()
