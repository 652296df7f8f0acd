"""Train the cascade as the shipped weights were trained, on one GPU by the clock.

    python data/build/cascade.py --out runs/gpu --minutes 11

OUT then holds base, sr64 and sr256, and report.md. The training is the package's (minimagen/training); what stands
here is the recipe: the scenes. Shapes, batches and rates are those that a GPU takes by itself (SHIPPED in stage.py,
GPU_SETTINGS in config.py), and so are the shares of the minutes (SHARES in training/cascade.py). On a CPU it
rehearses, with the small shapes and batches. An earlier form of this script trained the shipped stages
(data/cascade/README.md); this one has run on a CPU only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from minimagen.training.cascade import run_all
from minimagen.training.run import TrainRequest

MIX = {"vocabulary": "whole", "starter": 0.2, "pairs": 0.55, "styled": 0.8, "version": 2}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="of training, compiling included")
    length.add_argument("--steps", type=int, help="of each stage")
    parser.add_argument("--from", dest="origin", type=Path, help="a cascade to go on from")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument("--batch", type=int, help="another one, for a rehearsal")
    parser.add_argument(
        "--workers", type=int, help="processes that draw (default: one a core but one)"
    )
    args = parser.parse_args()
    names = ("minutes", "steps", "batch", "workers")
    settings = {k: v for k in names if (v := getattr(args, k)) is not None}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    run_all(
        TrainRequest(
            "all", args.out, args.resume, args.origin, device=device, settings=settings, scenes=MIX
        )
    )


if __name__ == "__main__":
    main()
