"""Your own pictures with captions, as a data set."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ..images import to_tensor


class Folder(Dataset[tuple[torch.Tensor, str]]):
    """Your own pictures: an `imagefolder` with metadata.jsonl (file_name, text), read by `datasets`.

    Pictures are cropped to their middle square and averaged to size × size. Raises ValueError, with a
    sentence, where the folder is missing or empty, has no captions, or holds a picture that is damaged.
    """

    def __init__(self, folder: str | Path, size: int) -> None:
        self.folder, self.size = Path(folder), size
        if not self.folder.is_dir():
            raise ValueError(f"{folder} is no folder: give one with pictures and metadata.jsonl")
        if not (self.folder / "metadata.jsonl").is_file():
            raise ValueError(
                f"{folder} has no captions: put a metadata.jsonl beside the pictures, with lines like "
                '{"file_name": "cat.png", "text": "a cat on the grass"}'
            )
        try:
            os.environ.setdefault("HF_UPDATE_DOWNLOAD_COUNTS", "0")  # or `datasets` would call home
            from datasets import disable_progress_bars, load_dataset
        except ImportError as error:
            raise ValueError("your own pictures need a package: pip install datasets") from error
        disable_progress_bars()
        try:
            # "**", or it would tell splits from the names of files
            rows = load_dataset("imagefolder", None, str(folder), "**", split="train")
        except Exception as error:  # datasets raises many kinds; its reason is the last line
            reason = str(error.__cause__ or error).strip() or type(error).__name__
            line = reason.splitlines()[-1]
            raise ValueError(f"{folder} can't be read as an imagefolder: {line}") from error
        column = next((c for c in ("text", "caption") if c in rows.column_names), None)
        if column is None:
            raise ValueError(f"{folder}/metadata.jsonl has no field called text")
        self.captions: list[str] = [t.strip() if isinstance(t, str) else "" for t in rows[column]]
        for i, text in enumerate(self.captions):
            if not text:
                raise ValueError(f"line {i + 1} of {folder}/metadata.jsonl has an empty caption")
        self.rows = rows
        digest = zlib.crc32("\n".join(self.captions).encode())
        self.identity = f"{len(rows)} pictures of one's own, {digest:08x}"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, str]:
        caption = self.captions[i]
        try:
            image = self.rows[i]["image"].convert("RGBA")  # behind what is transparent: white
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        except Exception as error:  # a damaged picture raises many kinds
            raise ValueError(f"picture {i + 1} of {self.folder} is damaged: {error}") from error
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.crop((left, top, left + side, top + side))
        small = square.convert("RGB").resize((self.size, self.size), Image.Resampling.BOX)
        return to_tensor(np.array(small)), caption

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, list[str]]:
        """Pictures (B, 3, size, size) in [−1, 1] and their captions."""
        images, captions = zip(*(self[i] for i in indices), strict=True)
        return torch.stack(images), list(captions)
