"""Images: tensors, PIL images and PNG files, and their sizes."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor


def writable(name: str) -> Path:
    """The path, if a PNG can be written there; found out before the work, not after it."""
    path = Path(name)
    if os.path.isdir(path):
        raise ValueError(f"--out {name} is a folder: give the name of a .png file")
    if path.suffix.lower() != ".png":
        raise ValueError(f"--out {name} must end in .png")
    try:  # what is saved is written beside it and renamed, so the folder must be writable too
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.touch()
        aside.unlink()
    except OSError as error:
        raise ValueError(f"--out {name} can't be written: {error.strerror}") from error
    return path


def save_png(picture: Image.Image, path: Path, prompt: str, seed: int | str, model: str) -> None:
    """A PNG that carries its prompt, seed and model, and says that it was generated."""
    info, facts = PngInfo(), {"Prompt": prompt, "Seed": str(seed), "Model": model}
    for key, value in {**facts, "Software": "minimagen", "Source": "AI-generated"}.items():
        info.add_itxt(key, value)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    picture.save(aside, format="PNG", pnginfo=info)
    os.replace(aside, path)


def grid(pictures: list[Image.Image], columns: int | None) -> Image.Image:
    """Pictures of one size in rows; columns None: about as many as there are rows."""
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    rows, side = math.ceil(len(pictures) / columns), pictures[0].width
    sheet = Image.new("RGB", (columns * (side + 4) - 4, rows * (side + 4) - 4), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * (side + 4), i // columns * (side + 4)))
    return sheet


def to_tensor(picture: np.ndarray) -> torch.Tensor:
    """uint8 (…, H, W, 3) → float (…, 3, H, W) in [-1, 1]."""
    channels_first = np.ascontiguousarray(np.moveaxis(picture, -1, -3))
    return torch.from_numpy(channels_first).float().div_(127.5).sub_(1)


def to_pil(images: Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [−1, 1] → PIL images."""
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(p) for p in pixels]


def downsample(images: Tensor, side: int) -> Tensor:
    """Average down to side × side: antialiased, so that a stage never learns aliased pictures."""
    return F.interpolate(images, size=(side, side), mode="area")


def upsample(images: Tensor, factor: int = 4) -> Tensor:
    return F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)
