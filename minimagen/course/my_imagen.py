"""The finale: one file that is a text-to-image system, made of the learner's functions, lent ones, and glue.

my_imagen.txt is the glue, to be read from top to bottom: `#: name` says where a core function goes, `#: given name`
where a small helper of the course goes. `python -m minimagen.course.my_imagen` writes the file anew.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import torch

from .core import CORE, GIVEN
from .folder import ROOT, work
from .kept import FILE, block, read, write_whole
from .sources import source_of

GLUE = Path(__file__).with_suffix(".txt")
IN_FILE = [name for name, core in CORE.items() if core.in_file]


def assemble(own: Mapping[str, str]) -> str:
    """The whole file. own: the learner's functions, name → source; the rest is lent."""

    def put(match: re.Match[str]) -> str:
        given, name = match["given"], match["name"]
        text = source_of(GIVEN[name]).rstrip() if given else block(CORE[name], own.get(name))
        return text + ("\n\n\n" if match["more"] else "")

    text = re.sub(
        r"^#: (?P<given>given )?(?P<name>\w+)$(?P<more>\n(?=#: ))?",
        put,
        GLUE.read_text(encoding="utf-8"),
        flags=re.M,
    )
    yours = sum(name in own for name in IN_FILE)
    text = text.replace("{{count}}", f"{yours} of its {len(IN_FILE)} core functions are yours.")
    return text.replace("{{data}}", repr(str(ROOT / "data")))


def write(path: Path | None = None) -> Path:
    """The file with what the learner has written so far: in their folder, or at `path`. Returns where it is."""
    there = work() / FILE
    write_whole(path or there, assemble(read(there)))
    return path or there


def load(path: Path) -> ModuleType:
    """The file as a module, under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"my_imagen_{abs(hash(path))}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wrong_in(path: Path) -> dict[str, str]:
    """Functions of the file that fail their check, each with the sentence that says why."""
    from .yours import judge_source

    found = {}
    for name, text in read(path).items():
        if (sentence := judge_source(CORE[name], text)) is not None:
            found[name] = sentence
    return found


def largest_difference(path: Path, prompts: Sequence[str], seeds: Sequence[int]) -> float:
    """Between the file's pictures and the package's, over all stages of the shipped cascade, in [−1, 1]."""
    from minimagen import Imagen

    theirs = Imagen.from_pretrained().generate(list(prompts), list(seeds))
    ours = load(path).draw(list(prompts), list(seeds))
    pairs = zip(theirs.values(), ours, strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def prove(prompts: Sequence[str] = ("一只小猫在草地上玩耍",), seeds: Sequence[int] = (0,)) -> float:
    """Is the picture of the learner's file the package's? Returns the largest difference.

    Raises AssertionError where it is more than 1e-3, with the function that is to blame.
    """
    path = write()
    if wrong := wrong_in(path):
        raise AssertionError(
            "; ".join(f"{name} is not right: {sentence}" for name, sentence in wrong.items())
        )
    with torch.random.fork_rng(devices=[]):
        off = largest_difference(path, prompts, seeds)
    if not off <= 1e-3:
        raise AssertionError(
            f"the pictures differ by {off:.3g}, in [−1, 1]: something outside the functions was changed"
        )
    return off


if __name__ == "__main__":
    print(write(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
