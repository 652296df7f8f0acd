"""Your own images with captions, as a data set."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from ..errors import UserError
from ..images import read_image, to_tensor
from ..text import TextEncoder, normalized

EXAMPLE = '{"file_name": "cat.png", "text": "a cat on the grass"}'
SHOWN = 20  # problems in a message


class Folder(Dataset[tuple[torch.Tensor, str]]):
    """Your own images: a folder in the `imagefolder` format, with metadata.jsonl (file_name, text or caption).

    What is read is the metadata.jsonl of this folder and the files it names inside the folder, in its order, and
    nothing else. All images are read at once, cropped to their middle square, averaged to size × size and kept:
    0.8 kB each at 16×16, 12 kB at 64×64, 197 kB at 256×256. `identity` is a hash of the files and captions.

    encoder: what the captions are for; where given, it must know something in each. What it does not know, and
    what it cuts off, is then told in `warnings`. Raises UserError with a list of all that is wrong, each with its
    line and file.
    """

    def __init__(self, folder: str | Path, size: int, encoder: TextEncoder | None = None) -> None:
        if not str(folder):  # Path("") would be the working directory
            raise UserError("'' is no folder: give one with images and metadata.jsonl")
        self.folder, self.size = Path(folder), size
        self.captions: list[str] = []
        self.warnings: list[str] = []
        self._images: list[np.ndarray] = []
        self._problems: list[tuple[int, str]] = []  # line, sentence
        digest = hashlib.sha256()
        rows = list(self._rows())
        for line, row in tqdm(rows, desc="reading images", delay=2, leave=False, file=sys.stderr):
            name = row.get("file_name")
            where = f"line {line}"
            if isinstance(name, str) and name:
                where += f", {name if name.isprintable() else ascii(name)}"
            try:
                path, caption = self._path(name), self._caption(row)
                for warning in [] if encoder is None else encoder.check(caption):
                    self.warnings.append(f"{where}: {warning}")
                self._images.append(read_image(path, size))
                self.captions.append(caption)
                digest.update(hashlib.sha256(path.read_bytes()).digest() + caption.encode() + b"\0")
            except (UserError, OSError) as error:
                self._problems.append((line, f"{where}: {error}"))
        self._report(len(rows))
        self.identity = f"{len(self)} images of one's own, {digest.hexdigest()[:16]}"

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Line number and JSON object of each row. An object may go over several lines."""
        text, at, line, decoder = self._metadata(), 0, 1, json.JSONDecoder()
        while at < len(text):
            if text[at].isspace():
                line += text[at] == "\n"
                at += 1
                continue
            try:
                row, end = decoder.raw_decode(text, at)
                if not isinstance(row, dict):
                    raise ValueError(f"a {type(row).__name__} and no object")
                yield line, row
            except (ValueError, RecursionError) as error:
                reason = str(error).split(": line")[0]
                told = f"line {line}: it must be like {EXAMPLE} ({reason})"
                self._problems.append((line, told))
                end = text.find("\n", at)  # go on with the next line, if there is one
                end = len(text) if end < 0 else end
            line, at = line + text.count("\n", at, end), end

    def _metadata(self) -> str:
        path = self.folder / "metadata.jsonl"
        if not self.folder.is_dir():
            raise UserError(f"{self.folder} is no folder: give one with images and metadata.jsonl")
        if not path.is_file():
            raise UserError(
                f"{self.folder} has no captions: put a metadata.jsonl beside the images, with lines like {EXAMPLE}"
            )
        data = path.read_bytes()
        try:  # UTF-8, with or without a mark, or what a shell of Windows writes
            return data.decode(json.detect_encoding(data))
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path} is not in UTF-8: save it in this encoding ({error})"
            ) from error

    def _path(self, name: object) -> Path:
        """The file that a row names; it must be a relative path that stays inside the folder."""
        if not isinstance(name, str) or not name:
            raise UserError(f"it has no file_name: it must be like {EXAMPLE}")
        for relative in (name, name.replace("\\", "/")):
            pure = PurePosixPath(relative)
            if pure.is_absolute() or Path(relative).is_absolute() or ".." in pure.parts:
                raise UserError("its file_name leads out of the folder: give the path from there")
            if (self.folder / relative).is_file():
                return self.folder / relative
        raise UserError(f"there is no such file{self._near(name)}")

    def _near(self, name: str) -> str:
        """A file whose name differs in its case, or in how its accents are encoded."""

        def alike(name: str) -> str:
            return unicodedata.normalize("NFC", name).casefold()

        folder = (self.folder / name).parent
        there = os.listdir(folder) if os.path.isdir(folder) else []
        near = [n for n in there if alike(n) == alike(PurePosixPath(name).name)]
        return f", but there is {near[0]!r}: use its very name" if near else ""

    @staticmethod
    def _caption(row: dict[str, Any]) -> str:
        given = [row[key] for key in ("text", "caption") if row.get(key) is not None]
        if not given:
            raise UserError(f"it has no caption: give it a text, like {EXAMPLE}")
        if not isinstance(given[0], str):
            raise UserError(f"its text is {json.dumps(given[0])[:40]}: put it in quotes")
        if not (caption := normalized(given[0])):
            raise UserError("it has an empty caption: say what the image shows")
        return caption

    def _report(self, rows: int) -> None:
        path = self.folder / "metadata.jsonl"
        problems = [told for _, told in sorted(self._problems)]
        if not rows and not problems:
            raise UserError(f"{path} is empty: give it lines like {EXAMPLE}")
        if len(problems) == 1:
            raise UserError(f"{path}, {problems[0]}")
        if problems:
            listed = "".join(f"\n  {problem}" for problem in problems[:SHOWN])
            more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
            raise UserError(f"{path} has {len(problems)} lines to put right:{listed}{more}")

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, str]:
        return to_tensor(self._images[i]), self.captions[i]

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, list[str]]:
        """Images (B, 3, size, size) in [−1, 1] and their captions."""
        images = np.stack([self._images[i] for i in indices])
        return to_tensor(images), [self.captions[i] for i in indices]
