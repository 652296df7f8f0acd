"""Draw the diagrams of the course as SVG, beside this file (files.py says in which form).

make diagrams, or python notebooks/diagrams/draw.py NAME … for some of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import care  # noqa: E402
import cascade  # noqa: E402
import enlarging  # noqa: E402
import files  # noqa: E402
import judging  # noqa: E402
import learning  # noqa: E402
import lighter  # noqa: E402
import networks  # noqa: E402
import noise  # noqa: E402
import painting  # noqa: E402
import steering  # noqa: E402
from kit import Canvas  # noqa: E402

MODULES = (
    cascade,
    noise,
    learning,
    networks,
    steering,
    enlarging,
    judging,
    painting,
    lighter,
    care,
)
FIGURES: dict[str, Callable[[], Canvas]] = {k: v for m in MODULES for k, v in m.FIGURES.items()}


def main(names: list[str]) -> None:
    for name in names or FIGURES:
        canvas = FIGURES[name]()
        for problem in canvas.problems():
            print(f"{name}: {problem}", file=sys.stderr)
        files.write(name, canvas.svg())


if __name__ == "__main__":
    main(sys.argv[1:])
