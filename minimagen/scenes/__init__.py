"""Scenes: pictures with captions and exact ground truth; and folders of your own pictures."""

from .dataset import Item, Scenes
from .folder import Folder
from .scene import Scene, Thing, grammar, objects

__all__ = ["Folder", "Item", "Scene", "Scenes", "Thing", "grammar", "objects"]
