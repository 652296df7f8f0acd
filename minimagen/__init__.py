"""Imagen (Saharia et al. 2022, arXiv 2205.11487), built from scratch: the package behind the course."""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.3.0"
__all__ = ["Imagen", "Judge", "Scenes", "TextEncoder", "UNet"]

if TYPE_CHECKING:
    from .evaluation.judge import Judge
    from .imagen import Imagen
    from .scenes import Scenes
    from .text import TextEncoder
    from .unet import UNet

_HOME = {
    "Imagen": "imagen",
    "Judge": "evaluation.judge",
    "Scenes": "scenes",
    "TextEncoder": "text",
    "UNet": "unet",
}


def __getattr__(name: str) -> object:
    # loaded on first use: `minimagen --help` and a wrong option should answer at once
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'minimagen' has no attribute {name!r}")
