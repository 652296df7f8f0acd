"""Pictures in files: PNGs that say what they show, written whole or not at all."""

from __future__ import annotations

import math
import os
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo


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


def save(picture: Image.Image, path: Path, prompt: str, seed: int | str, model: str) -> None:
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
