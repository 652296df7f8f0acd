"""Your own pictures, end to end: twelve real photographs become a folder, a cascade learns it, and draws it.

    .venv/bin/pip install --no-deps --target ~/photos scikit-image==0.26.0   # it brings photographs
    .venv/bin/python tests/benchmarks/photographs.py --photos ~/photos --minutes 12 --out runs/photographs

It goes the way that README.md shows: a folder with metadata.jsonl, `minimagen train` for each stage from the
shipped weights, then `minimagen draw`. A drawn picture counts as right where the photograph nearest to it, at
16×16, is one that its caption was written for. In sheet.png: photographs above, one picture drawn of each below.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from minimagen.config import STAGES
from minimagen.images import grid

WORDS = {
    "astronaut.png": "a woman in an orange suit",
    "brick.png": "a wall of bricks",
    "camera.png": "a man with a camera",
    "chelsea.png": "the face of a cat",
    "coffee.png": "a cup of coffee on a table",
    "coins.png": "old coins in rows",
    "grass.png": "grey grass",
    "hubble_deep_field.jpg": "many galaxies in black space",
    "moon.png": "the surface of the moon",
    "motorcycle_left.png": "a motorcycle in a garage",
    "retina.jpg": "the inside of an eye",
    "rocket.jpg": "a rocket that starts at night",
}
SEEDS = 4


def crops(path: Path) -> list[Image.Image]:
    """The middle square, and four a little smaller from its corners."""
    image = Image.open(path).convert("RGB")
    side = min(image.size)
    left, top, small = (image.width - side) // 2, (image.height - side) // 2, side * 7 // 8
    boxes = [(left, top, left + side, top + side)]
    for x in (left, left + side - small):
        boxes += [(x, y, x + small, y + small) for y in (top, top + side - small)]
    return [image.crop(box).resize((256, 256), Image.Resampling.BOX) for box in boxes]


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((16, 16), Image.Resampling.BOX), dtype=float)


def command(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "minimagen.cli", *map(str, arguments)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--out", type=Path, default=Path("runs/photographs"))
    args = parser.parse_args()

    folder, rows, known = args.out / "folder", [], []
    folder.mkdir(parents=True)
    for name, text in WORDS.items():
        for i, crop in enumerate(crops(args.photos.expanduser() / "skimage" / "data" / name)):
            file = f"{Path(name).stem}-{i}.png"
            crop.save(folder / file)
            rows.append({"file_name": file, "text": text})
            known.append((text, crop))
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))

    share = {"base": 0.5, "sr64": 0.3, "sr256": 0.2}
    cascade = Path(__file__).resolve().parents[2] / "data" / "cascade"
    for stage in STAGES:
        start = ("--from", cascade / stage, "--data", folder, "--out", args.out / stage)
        command("train", stage, "--minutes", args.minutes * share[stage], "--batch", 24, *start)

    sheet = args.out / "drawn.png"
    drawing = ("--model", args.out, "--count", SEEDS, "--guidance", 2, "--json", "--out", sheet)
    command("draw", *WORDS.values(), *drawing)
    right, shown = 0, []
    for i, text in enumerate(text for text in WORDS.values() for _ in range(SEEDS)):
        drawn = Image.open(args.out / f"drawn-{i}.png")
        distances = [np.square(pixels(drawn) - pixels(crop)).mean() for _, crop in known]
        right += known[int(np.argmin(distances))][0] == text
        if i % SEEDS == 0:
            shown.append(drawn)
    first = [crop for i, (_, crop) in enumerate(known) if i % 5 == 0]
    grid([p.resize((128, 128)) for p in first + shown], len(WORDS)).save(args.out / "sheet.png")
    total = SEEDS * len(WORDS)
    print(f"{right} of {total} pictures are nearest to a photograph of their own caption")


if __name__ == "__main__":
    main()
