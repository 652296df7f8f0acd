"""Where a diagram is kept: as .svg where a page links to it, else as .svgz, in a third of the bytes."""

from __future__ import annotations

import gzip
from pathlib import Path

HERE = Path(__file__).resolve().parent
LINKED = {"map"}  # the README shows it


def path_of(name: str) -> Path:
    return HERE / f"{name}.{'svg' if name in LINKED else 'svgz'}"


def read(name: str) -> str:
    """The diagram's SVG."""
    kept = path_of(name).read_bytes()
    return (kept if name in LINKED else gzip.decompress(kept)).decode()


def write(name: str, svg: str) -> None:
    """A file whose SVG is the same stays as it is: compressors differ from machine to machine."""
    path = path_of(name)
    if not path.is_file() or read(name) != svg:
        path.write_bytes(svg.encode() if name in LINKED else gzip.compress(svg.encode(), mtime=0))
