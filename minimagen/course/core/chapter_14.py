"""Chapter 14: where is it used, and what could go wrong. These stay in their notebook."""

from __future__ import annotations

from .base import Core

CORE: tuple[Core, ...] = ()
