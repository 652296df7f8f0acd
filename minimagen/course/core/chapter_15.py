"""Chapter 15: why do I only get noise. These stay in their notebook."""

from __future__ import annotations

from .base import Core

CORE: tuple[Core, ...] = ()
