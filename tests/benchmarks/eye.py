"""The eye: does an ImageNet network that never met our art recognise the pictures?

    python tests/benchmarks/eye.py --quick                         # the whole cascade, 100 prompts
    python tests/benchmarks/eye.py --from all --json eye.json      # every stage, 400 prompts
    python tests/benchmarks/eye.py --development --from 16 --sr64 runs/sr64

What it computes: minimagen/evaluation/eye.py. A picture is recognised where the object asked for is the most
similar of all 100. Likeness is 1 for a real picture of it, 0 for any object.

--from says where the cascade begins: `words` is all of it; 16 and 64 are the true picture at that side, enlarged
by the stages above; `bilinear` is the true 64×64 enlarged without a network; `real` is the true 256×256.

Nothing is ever trained or chosen by the eye. Recipes may be compared with --development, whose places and seeds
are others, and whose references stand in those places.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from minimagen.assets import CASCADE, DATA
from minimagen.config import RESOLUTIONS, STAGES
from minimagen.errors import UserError
from minimagen.evaluation.alignment import wilson
from minimagen.evaluation.eye import KEYS, STYLES, Eye, likeness
from minimagen.evaluation.judge import Judge
from minimagen.imagen import Imagen
from minimagen.images import to_tensor, upsample
from minimagen.randomness import seeded_noise
from minimagen.scenes import Scene, Thing, grammar, objects
from minimagen.scenes.artwork import draw
from minimagen.stage import Stage
from minimagen.text import TextEncoder

STARTS = ("real", "bilinear", "64", "16", "words")
BENCHMARK, DEVELOPMENT = ("grass",), ("beach", "snow")  # places


@dataclass(frozen=True)
class Ask:
    """One prompt of the benchmark, what it asks for, and its seed."""

    text: str
    key: str
    style: str
    place: str
    seed: int

    @property
    def truth(self) -> Scene:
        return Scene((Thing(self.key),), "row", self.style, self.place, "day")

    @property
    def asked(self) -> Scene:
        return Scene((Thing(self.key),), style=self.style, place=self.place)

    def real(self, side: int) -> Tensor:
        """The true picture, (3, side, side); the same one at every side."""
        return to_tensor(draw(self.truth, random.Random(f"eye {self}"), side))


def asks(count: int, seeds: int, quick: bool, development: bool) -> list[Ask]:
    """`count` objects × 4 styles × `seeds`; quick: each object once, styles in turn."""
    words, places = grammar()["places"], DEVELOPMENT if development else BENCHMARK
    found = []
    for i in range(count):
        key = KEYS[i * len(KEYS) // count]
        for s in [i % 4] if quick else range(4):
            for n in range(seeds):
                style, place = STYLES[s], places[(i + n) % len(places)]
                name = objects()[key]["en"]
                article = "an" if name[0] in "aeiou" and not name.startswith("unicorn") else "a"
                text = f"{style} style, {article} {name} {words[place]['en'][0]}"
                seed = (i * 4 + s) * seeds + n + 1_000_000 * development
                found.append(Ask(text, key, style, place, seed))
    return found


def load(args: argparse.Namespace, device: str) -> Imagen:
    """The cascade, with single stages and their way of sampling replaced where asked for."""
    stages = {}
    for name in STAGES:
        stage = stages[name] = Stage.load(getattr(args, name) or args.cascade / name)
        prefix = "" if name == "base" else f"{name}_"
        names = {"steps": "steps", "guidance": "guidance", "aug_level": "level"}
        asked = {k: getattr(args, prefix + flag, None) for k, flag in names.items()}
        asked["threshold"] = args.threshold
        stage.config = replace(stage.config, **{k: v for k, v in asked.items() if v is not None})
    return Imagen(stages, TextEncoder()).to(device).eval()


@torch.inference_mode()
def pictures(imagen: Imagen | None, some: Sequence[Ask], start: str, device: str) -> Tensor:
    """(B, 3, 256, 256) in [−1, 1], with the cascade begun at `start`."""
    if imagen is None or start in ("real", "bilinear"):
        true = torch.stack([ask.real(256 if start == "real" else 64) for ask in some])
        return true if start == "real" else upsample(true)
    low = None if start == "words" else torch.stack([ask.real(int(start)) for ask in some])
    low = None if low is None else low.to(device)
    text, mask = (z.to(device) for z in imagen.text_encoder([ask.text for ask in some]))
    seeds = [ask.seed for ask in some]
    for k, name in enumerate(STAGES):
        if low is not None and RESOLUTIONS[name] <= low.shape[-1]:
            continue
        stage, side = imagen.stage(name), RESOLUTIONS[name]
        noise = seeded_noise(seeds, (3, side, side), 2 * k).to(device)  # as Imagen.generate has it
        extra = seeded_noise(seeds, (3, side // 4, side // 4), 2 * k + 1).to(device)
        guidance = 4.0 if stage.config.guidance is None else stage.config.guidance
        low = stage.sample(
            noise, text, mask, low, None if low is None else extra, guidance=guidance
        )
    assert low is not None
    return low.float().cpu()


def measure(
    eye: Eye, judges: dict[str, Judge], imagen: Imagen | None, every: list[Ask], start: str
) -> dict:
    """One row of the table."""
    begun, hits, likes = time.perf_counter(), [], []
    passes: dict[str, list[bool]] = {name: [] for name in judges}
    for first in range(0, len(every), 25):
        some = every[first : first + 25]
        images = pictures(imagen, some, start, eye.device)
        s = eye.similarities(images, [ask.place for ask in some])
        hit, like = likeness(s, torch.tensor([KEYS.index(ask.key) for ask in some]))
        hits += hit.tolist()
        likes += like.tolist()
        for name, judge in judges.items():
            seen = judge.read(images)
            passes[name] += [
                all(ask.asked.asks(z).values()) for ask, z in zip(some, seen, strict=True)
            ]
    n, like = len(hits), torch.tensor(likes)
    half = 1.96 * float(like.std()) / math.sqrt(n)
    row = {"from": start, "pictures": n, "recognised": sum(hits) / n}
    row["interval"] = wilson(sum(hits), n)
    row["likeness"] = float(like.mean())
    row["likeness_interval"] = (row["likeness"] - half, row["likeness"] + half)
    for name, passed in passes.items():
        refused = [p for p, hit in zip(passed, hits, strict=True) if not hit]
        row[f"{name}_passes"] = sum(passed) / n
        row[f"{name}_passes_refused"] = sum(refused) / max(len(refused), 1)
        row[f"{name}_passes_refused_interval"] = wilson(sum(refused), len(refused))
    row["by_style"] = {
        style: sum(h for h, a in zip(hits, every, strict=True) if a.style == style)
        / max(sum(a.style == style for a in every), 1)
        for style in STYLES
    }
    row["refused"] = [asdict(a) for a, hit in zip(every, hits, strict=True) if not hit]
    row["seconds"] = round(time.perf_counter() - begun, 1)
    return row


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="starts", nargs="+", default=["words"], metavar="START",
                        choices=(*STARTS, "all"), help=f"{', '.join(STARTS)} or all")  # fmt: skip
    parser.add_argument("--cascade", type=Path, default=CASCADE, help="holds base/ sr64/ sr256/")
    for name in STAGES:
        parser.add_argument(f"--{name}", type=Path, metavar="DIR", help="another one")
    parser.add_argument("--objects", type=int, default=100, help="how many of the 100")
    parser.add_argument("--seeds", type=int, default=1, help="pictures of each object and style")
    parser.add_argument("--quick", action="store_true", help="each object once, styles in turn")
    parser.add_argument("--development", action="store_true", help="other places and other seeds")
    parser.add_argument("--network", default="lite0", choices=("lite0", "lite2"))
    parser.add_argument("--guidance", type=float, help="of the base")
    parser.add_argument("--steps", type=int, help="of the base")
    for name in ("sr64", "sr256"):
        parser.add_argument(f"--{name}-guidance", type=float)
        parser.add_argument(f"--{name}-steps", type=int)
        parser.add_argument(f"--{name}-level", type=float, help="of augmentation")
    parser.add_argument("--threshold", choices=("dynamic", "static", "none"), help="of all stages")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    args = parser.parse_args()
    if not 1 <= args.objects <= len(KEYS) or args.seeds < 1:
        parser.error(f"--objects is from 1 to {len(KEYS)}, --seeds at least 1")
    return args


def main() -> None:
    args = parse()
    device = args.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    starts = STARTS if "all" in args.starts else args.starts
    try:
        imagen = load(args, device) if set(starts) & {"64", "16", "words"} else None
    except ValueError as error:
        raise SystemExit(f"eye: {error}") from error
    try:
        eye = Eye(args.network, device)
    except UserError as error:
        raise SystemExit(str(error)) from error
    judges = {"judge": Judge.load("whole")}
    if (DATA / "judge" / "strict" / "config.json").is_file():
        judges["strict"] = Judge.load("strict")
    every, rows = asks(args.objects, args.seeds, args.quick, args.development), []
    columns = ["from", "recognised", "likeness", "seconds"]
    columns += [f"{name} passes: of all | of the refused" for name in judges]
    print(f"| {' | '.join(columns)} |\n|{' --- |' * (len(columns) + len(judges))}")
    for start in starts:
        row = measure(eye, judges, imagen, every, start)
        rows.append(row)
        low, high = row["interval"]
        cells = [start, f"{row['recognised']:.1%} ({low:.0%} to {high:.0%})"]
        cells += [f"{row['likeness']:.3f}", f"{row['seconds']:.0f}"]
        for name in judges:
            low, high = row[f"{name}_passes_refused_interval"]
            refused = f"{row[f'{name}_passes_refused']:.0%} ({low:.0%} to {high:.0%})"
            cells += [f"{row[f'{name}_passes']:.0%}", refused if row["refused"] else "none"]
        print(f"| {' | '.join(cells)} |", flush=True)
    if args.json:
        kept = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
        args.json.write_text(json.dumps({"arguments": kept, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
