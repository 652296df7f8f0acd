"""Chapter 12 counted once, with more pictures than a notebook has time for.

    python tests/benchmarks/steering.py --json tests/benchmarks/steering.json

Inpainting: real pictures of one object, a square hole over it, another object asked for; how often do the judge
and the strict judge read the new one, and how far did the pixels outside move? Icons: twelve prompts of one style,
seeds 0 to 3; for each the first seed that the judge passes (else seed 0), then the same judges, and the eye where
it is installed (pip install -e ".[eye]"). The eye chooses nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import torch
from eye import KEYS, Eye, likeness

from minimagen.control import edit
from minimagen.evaluation.alignment import wilson
from minimagen.evaluation.judge import Judge
from minimagen.imagen import Imagen
from minimagen.scenes import Scene, Scenes, Thing, grammar, objects

ICONS = "key crown heart star book gift bell mushroom castle dragon ghost apple".split()
STYLE, PLACE = "flat", "snow"


def named(key: str) -> str:
    """The object with its article."""
    row = objects()[key]
    return f"{row['article']} {row['en']}"


def holes(count: int, vocabulary: str) -> tuple[torch.Tensor, list[str], list[str], list[str]]:
    """Real pictures (count, 3, 256, 256) of one object each, the object to put there, its place, and the prompt."""
    pool = tuple(key for key, row in objects().items() if row.get(vocabulary))
    scenes = Scenes(256, "seen", "whole", objects=pool, pairs=0.0, seed=77)
    chosen = [i for i in range(4 * count) if len(scenes.describe(i)[0].things) == 1][:count]
    pictures = torch.stack([scenes[i].image for i in chosen])
    rng, keys, places, prompts = random.Random(1), [], [], []
    for i in chosen:
        scene = scenes.describe(i)[0]
        keys.append(rng.choice([k for k in pool if k != scene.things[0].key]))
        places.append(str(scene.place))
        prompts.append(f"{named(keys[-1])} {grammar()['places'][scene.place]['en'][0]}")
    return pictures, keys, places, prompts


def inpainting(imagen: Imagen, judges: dict[str, Judge], count: int, vocabulary: str) -> dict:
    """How often the new object is read, and the largest change outside the hole, of 255."""
    pictures, keys, _, prompts = holes(count, vocabulary)
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 40:250, 22:234] = 1
    read: dict[str, list[bool]] = {name: [] for name in judges}
    moved = 0.0
    for first in range(0, count, 10):
        part = slice(first, first + 10)
        seeds = range(first, first + len(prompts[part]))
        made = edit(imagen, prompts[part], list(seeds), pictures[part], mask=mask)["sr256"]
        moved = max(moved, float(((made - pictures[part]) * (1 - mask)).abs().max()) * 127.5)
        for name, judge in judges.items():
            seen = judge.read(made)
            read[name] += [
                any(t.key == k for t in s.things) for s, k in zip(seen, keys[part], strict=True)
            ]
    shares = {
        name: {"share": sum(hits) / count, "interval": wilson(sum(hits), count)}
        for name, hits in read.items()
    }
    return {"pictures": count, "vocabulary": vocabulary, "moved_outside": moved, **shares}


def icons(imagen: Imagen, judges: dict[str, Judge]) -> dict:
    """Which of the twelve pass."""
    where = grammar()["places"][PLACE]["en"][0]
    prompts = [f"{STYLE} style, {named(key)} {where}" for key in ICONS]
    asked = [Scene((Thing(key),), style=STYLE, place=PLACE) for key in ICONS]
    seeds = []
    for prompt, scene in zip(prompts, asked, strict=True):
        small = imagen.generate([prompt] * 4, range(4), last="sr64")["sr64"]
        right = [all(scene.asks(seen).values()) for seen in judges["judge"].read(small)]
        seeds.append(right.index(True) if True in right else 0)
    made = imagen.generate(prompts, seeds)["sr256"]
    row: dict = {"style": STYLE, "place": PLACE, "seeds": dict(zip(ICONS, seeds, strict=True))}
    for name, judge in judges.items():
        row[name] = [
            k
            for k, a, s in zip(ICONS, asked, judge.read(made), strict=True)
            if all(a.asks(s).values())
        ]
    try:
        s = Eye().similarities(made, [PLACE] * len(ICONS))
    except SystemExit as error:
        return {**row, "eye": str(error)}
    hit, like = likeness(s, torch.tensor([KEYS.index(key) for key in ICONS]))
    row["eye"] = [key for key, h in zip(ICONS, hit.tolist(), strict=True) if h]
    row["likeness"] = float(like.mean())
    row["passed"] = [key for key in ICONS if key in row["judge"] and key in row["eye"]]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--count", type=int, default=100, help="pictures with a hole, of each vocabulary"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    args = parser.parse_args()
    imagen = Imagen.from_pretrained()
    judges = {"judge": Judge.load("whole"), "strict": Judge.load("strict")}
    found: dict = {"date": time.strftime("%Y-%m-%d"), "icons": icons(imagen, judges)}
    print(json.dumps(found), flush=True)
    for vocabulary in ("starter", "whole"):
        found[f"inpainting_{vocabulary}"] = inpainting(imagen, judges, args.count, vocabulary)
        print(json.dumps(found[f"inpainting_{vocabulary}"]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
