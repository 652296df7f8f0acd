"""A chapter in Chinese: made from the complete edition and notebooks/chinese/NN_….json, by `make editions`.

The file has, by the id of a cell, a text cell's Chinese text, or for code the phrases that replace English ones.
Nothing else of the code changes, and a diagram is the English cell's: ![its description](diagram:NAME).
"""

from __future__ import annotations

import copy
import re

SPEAK = 'from minimagen.course.language import speak\n\nspeak("zh")'
DIAGRAM = re.compile(r"!\[(?P<alt>[^\]]*)\]\(diagram:(?P<name>[\w-]+)\)")
PICTURE = re.compile(r"^\[(?P<name>[\w-]+)(?P<digest>@[0-9a-f]{8})\]: data:\S+$", re.M)


def translated(book: dict, told: dict[str, str | dict[str, str]]) -> dict:
    """The complete edition in Chinese. Raises ValueError for a phrase or diagram that the English cell lacks."""
    made = copy.deepcopy(book)
    for cell in made["cells"]:
        ours, text = told.get(cell["id"]), "".join(cell["source"])
        if isinstance(ours, dict):
            for english, chinese in ours.items():
                if english not in text:
                    raise ValueError(
                        f"{cell['id']} does not say {english!r}: see notebooks/chinese"
                    )
                text = text.replace(english, chinese)
        elif ours is not None:
            text = _with_pictures(ours, text)
        cell["source"] = text.splitlines(keepends=True)
    set_up = next(i for i, cell in enumerate(made["cells"]) if cell["cell_type"] == "code")
    speak: dict = {"cell_type": "code", "id": "speak", "metadata": {}, "outputs": []}
    speak |= {"execution_count": None, "source": SPEAK.splitlines(keepends=True)}
    made["cells"].insert(set_up + 2, speak)  # behind the text that says so
    made["metadata"]["minimagen"] = {**made["metadata"]["minimagen"], "language": "zh"}
    return made


def _with_pictures(ours: str, text: str) -> str:
    pictures = {picture["name"]: picture for picture in PICTURE.finditer(text)}
    named = [diagram["name"] for diagram in DIAGRAM.finditer(ours)]
    if missing := set(named) - set(pictures):
        raise ValueError(f"the English cell has no diagram {', '.join(sorted(missing))}")
    for name in named:
        ours = ours.replace(f"(diagram:{name})", f"[{name}{pictures[name]['digest']}]")
    return "\n\n".join([ours, *(pictures[name][0] for name in named)])
