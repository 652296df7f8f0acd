"""Images: tensors, PIL images and PNG files, and their sizes."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .errors import UserError

# Not every format of Pillow's: EPS would start another program.
FORMATS = "PNG JPEG MPO WEBP BMP DIB GIF TIFF AVIF JPEG2000 PPM TGA ICO".split()
MAX_PIXELS = 100_000_000  # 400 MB while a picture is read


def writable(name: str) -> Path:
    """The path, if a PNG can be written there; found out before the work, not after it."""
    path = Path(name)
    if os.path.isdir(path):
        raise ValueError(f"--out {name} is a folder: give the name of a .png file")
    if path.suffix.lower() != ".png":
        raise ValueError(f"--out {name} must end in .png, like cat.png")
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise ValueError(f"--out {name} can't be written: it is write-protected")
    try:  # what is saved is written beside it and renamed, so the folder must be writable too
        target = Path(os.path.realpath(path))  # a link stays one: the file that it names is written
        aside = target.with_name(f".{target.name}.{os.getpid()}")
        aside.touch()
        aside.unlink()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"--out {name} can't be written: {reason}") from error
    return path


def save_png(picture: Image.Image, path: Path, prompt: str, seed: int | str, model: str) -> None:
    """A PNG that carries its prompt, seed and model, and says that it was generated."""
    info, facts = PngInfo(), {"Prompt": prompt, "Seed": str(seed), "Model": model}
    for key, value in {**facts, "Software": "minimagen", "Source": "AI-generated"}.items():
        # a path need not be UTF-8
        info.add_itxt(key, value.encode("utf-8", "backslashreplace").decode())
    path = Path(os.path.realpath(path))
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        picture.save(aside, format="PNG", pnginfo=info)
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


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
    """(B, 3, H, W) in [−1, 1] → PIL images. Raises UserError where a number is NaN or infinite."""
    if not images.isfinite().all():
        raise UserError("an image holds NaN or infinity: look at the model with minimagen doctor")
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(p) for p in pixels]


def read_image(path: Path, size: int) -> np.ndarray:
    """The middle square of an image file, averaged down to (size, size, 3) uint8; white behind what is transparent.

    Of an animation, the first frame. Raises UserError, with the reason alone, where the file is no image, is
    damaged, is too large, or has pixels whose range is not known.
    """
    if not path.is_file():
        raise UserError("there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of large and of odd files
            Image.init()
            with Image.open(path, formats=[f for f in FORMATS if f in Image.OPEN]) as image:
                return _middle_square(image, size)
    except Image.DecompressionBombError as error:
        raise UserError(f"it has over {MAX_PIXELS:,} pixels: make it smaller") from error
    except (UserError, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        raise UserError(
            "it is no image, or of a format that can't be read: save it as PNG"
        ) from error
    except Exception as error:  # a damaged image raises many kinds
        raise UserError(f"it is damaged ({error or type(error).__name__})") from error


def _middle_square(image: Image.Image, size: int) -> np.ndarray:
    if image.width * image.height > MAX_PIXELS:
        raise UserError(f"it has over {MAX_PIXELS:,} pixels: make it smaller")
    # a JPEG is decoded at an eighth, quarter or half of its size, where that is enough: ten times faster
    image.draft(None, (2 * size, 2 * size))
    image.load()
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = _eight_bits(image).crop((left, top, left + side, top + side))
    small = square.resize((size, size), Image.Resampling.BOX)  # transparent pixels weigh nothing
    if small.mode == "RGBA":
        small = Image.alpha_composite(Image.new("RGBA", small.size, "white"), small)
    small.info = dict(image.info)
    return np.array(ImageOps.exif_transpose(small).convert("RGB"))  # as the camera was held


def _eight_bits(image: Image.Image) -> Image.Image:
    """RGB or RGBA of an image of any mode that tells which value is white; UserError of the others."""
    mode, tags = image.mode, getattr(image, "tag_v2", {})
    deep = mode.startswith("I;16") or (mode == "I" and image.format in ("PNG", "PPM"))
    if deep and tags.get(258, (16,)) == (16,) and tags.get(262, 1) == 1:  # 16 bits, and 0 is black
        grey = np.asarray(image).astype(np.float32)
        if isinstance(clear := image.info.get("transparency"), int):
            grey[grey == clear] = 65535
        return Image.fromarray((grey / 257).round().astype(np.uint8)).convert("RGB")
    if deep or mode in ("I", "F", "LAB", "HSV"):
        raise UserError(
            f"it has pixels of mode {mode}, whose range is not known: save it as 8-bit PNG"
        )
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def downsample(images: Tensor, side: int) -> Tensor:
    """Average down to side × side: antialiased, so that a stage never learns aliased pictures."""
    return F.interpolate(images, size=(side, side), mode="area")


def upsample(images: Tensor, factor: int = 4) -> Tensor:
    return F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)
