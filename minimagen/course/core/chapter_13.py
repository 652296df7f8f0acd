"""Chapter 13: what changes with real hardware. These stay in their notebook."""

from __future__ import annotations

from .base import Core

CORE: tuple[Core, ...] = ()
