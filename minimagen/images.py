"""Images: as tensors, PIL images and PNG files, and between resolutions.

As tensors they are float, (B, 3, H, W), in [−1, 1].
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .assets import replacing
from .errors import UserError

GAP = 4  # pixels between the images of a grid
# Not every format of Pillow's: EPS would start another program.
FORMATS = "PNG JPEG MPO WEBP BMP DIB GIF TIFF AVIF JPEG2000 PPM TGA ICO".split()
MAX_PIXELS = 100_000_000  # 400 MB while an image is read


def to_tensor(image: np.ndarray) -> Tensor:
    """uint8 (…, H, W, 3) → float (…, 3, H, W) in [−1, 1]."""
    channels_first = np.ascontiguousarray(np.moveaxis(image, -1, -3))
    return from_bytes(torch.from_numpy(channels_first))


def from_bytes(images: Tensor) -> Tensor:
    """uint8, any shape → float in [−1, 1]."""
    return images.float().div_(127.5).sub_(1)


def to_pil(images: Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [−1, 1] → PIL images; values outside are clipped.

    Raises UserError where a number is NaN or infinite.
    """
    if not images.isfinite().all():
        raise UserError("an image holds NaN or infinity: look at the model with minimagen doctor")
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(p) for p in pixels]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image file. Raises UserError, with the reason alone, where it is no image, is damaged or is too large."""
    if not path.is_file():
        raise UserError("there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of large and of odd files
            Image.init()
            with Image.open(path, formats=[f for f in FORMATS if f in Image.OPEN]) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                yield image
    except Image.DecompressionBombError as error:
        raise UserError(f"it has over {MAX_PIXELS:,} pixels: make it smaller") from error
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise UserError(
            "it is no image, or of a format that can't be read: save it as PNG"
        ) from error
    except Exception as error:  # a damaged image raises many kinds
        raise UserError(f"it is damaged ({error or type(error).__name__})") from error


def read_image(path: Path, size: int) -> np.ndarray:
    """The middle square of an image file, averaged down to (size, size, 3) uint8; white behind what is transparent.

    Of an animation, the first frame. Raises UserError, with the reason alone, where the file is no image, is
    damaged, is too large, or has pixels whose range is not known.
    """
    with opened(path) as image:
        return _middle_square(image, size)


def read_mask(path: Path, size: int) -> np.ndarray:
    """The middle square of a black and white image file: (size, size) bool, True where it is white or transparent.

    Raises UserError as read_image does, and where nothing is white.
    """
    white = read_image(path, size).mean(axis=-1) > 127
    if not white.any():
        raise UserError("it is black everywhere: paint white what is to be drawn anew")
    return np.asarray(white)


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file as the camera was held. Raises UserError as read_image does."""
    with opened(path) as image:
        image.load()  # the orientation may stand behind the pixels
        upright = Image.new("L", (1, 2))
        upright.info = dict(image.info)
        turned = ImageOps.exif_transpose(upright).width == 2
        return (image.height, image.width) if turned else image.size


def _middle_square(image: Image.Image, size: int) -> np.ndarray:
    # a JPEG is decoded at 1/8, 1/4 or 1/2 of its size, where that is enough: 4.5 times as fast for 12 megapixels
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


def downsample(images: Tensor, resolution: int) -> Tensor:
    """(B, 3, H, W) → (B, 3, resolution, resolution) by area averaging, which does not alias."""
    return F.interpolate(images, size=(resolution, resolution), mode="area")


def upsample(images: Tensor, factor: int = 4) -> Tensor:
    """(B, 3, H, W) → (B, 3, factor · H, factor · W), bilinear."""
    return F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)


def grid(images: list[Image.Image], columns: int | None) -> Image.Image:
    """Images of one size in rows on white; columns None: about as many columns as rows."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows, step = math.ceil(len(images) / columns), images[0].width + GAP
    sheet = Image.new("RGB", (columns * step - GAP, rows * step - GAP), "white")
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * step, i // columns * step))
    return sheet


def writable(name: str) -> Path:
    """The path of a PNG that can be written; tested before the work, not after it.

    Raises UserError where `name` is a folder, does not end in .png or can't be written.
    """
    path = Path(name)
    if os.path.isdir(path):
        raise UserError(f"--out {name} is a folder: give the name of a .png file")
    if path.suffix.lower() != ".png":
        raise UserError(f"--out {name} must end in .png, like cat.png")
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise UserError(f"--out {name} can't be written: it is write-protected")
    try:  # the image is written beside it and renamed, so the folder must be writable too
        target = Path(os.path.realpath(path))  # a link stays one: the file that it names is written
        aside = target.with_name(f".{target.name}.{os.getpid()}")
        aside.touch()
        aside.unlink()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--out {name} can't be written: {reason}") from error
    return path


def save_png(
    image: Image.Image,
    path: Path,
    prompt: str,
    seed: int | str,
    model: str,
    more: Mapping[str, str] | None = None,
) -> None:
    """Write a PNG with its prompt, seed, model, what `more` says and the mark "AI-generated" in its metadata.

    It is written whole or not at all. Raises OSError where it can't be written.
    """
    info = PngInfo()
    for key, value in {
        "Prompt": prompt,
        "Seed": str(seed),
        "Model": model,
        "Software": "minimagen",
        "Source": "AI-generated",
        **(more or {}),
    }.items():
        # a path need not be UTF-8
        info.add_itxt(key, value.encode("utf-8", "backslashreplace").decode())
    with replacing(path) as aside:
        image.save(aside, format="PNG", pnginfo=info)
