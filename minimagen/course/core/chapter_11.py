"""Chapter 11: is it any good. These stay in their notebook."""

from __future__ import annotations

from .base import Core

CORE: tuple[Core, ...] = ()
