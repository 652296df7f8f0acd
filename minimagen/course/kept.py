"""The file of one's own, my_imagen.py: which functions in it are the learner's, read from it and put into it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .core import CORE, Core
from .folder import work

FILE = "my_imagen.py"
TOOLS = (
    "my_tools.py"  # functions of chapters 05 and 11 to 15, which the finished system does not use
)
OLD_TOOLS = "my_gan.py"  # its name before: what lies there is read, and goes on in the new file
_BLOCK = re.compile(
    r"^# (?P<whose>yours|lent by the course): (?P<name>\w+) \(chapter \d+\)\n(?P<text>.*?)^# end of (?P=name)$",
    flags=re.M | re.S,
)


def path_of(core: Core) -> Path:
    return work() / (FILE if core.in_file else TOOLS)


def block(core: Core, text: str | None) -> str:
    """A function as it stands in the file, between two marks. text None: the course's own, lent."""
    from .sources import source_of

    whose = "lent by the course" if text is None else "yours"
    body = source_of(core.reference) if text is None else text
    return (
        f"# {whose}: {core.name} (chapter {core.chapter:02})\n{body.strip()}\n# end of {core.name}"
    )


def read(path: Path) -> dict[str, str]:
    """The learner's functions in a file, by name. One that was lent and then changed by hand is the learner's."""
    from .sources import source_of

    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    for match in _BLOCK.finditer(path.read_text(encoding="utf-8")):
        name, text = match["name"], match["text"].strip() + "\n"
        if name not in CORE:
            continue
        if match["whose"] == "yours" or text.split() != source_of(CORE[name].reference).split():
            found[name] = text
    return found


def kept() -> dict[str, str]:
    """Every function that the learner has written and that was right, by name."""
    return {**read(work() / OLD_TOOLS), **read(work() / FILE), **read(work() / TOOLS)}


def keep(core: Core, text: str) -> Path:
    """Put a function into its file; the file is whole at every moment."""
    from .my_imagen import assemble

    path = path_of(core)
    own = read(path) | {core.name: text}
    if not core.in_file:
        own = read(work() / OLD_TOOLS) | own
    if core.in_file:
        whole = assemble(own)
    else:
        head = '"""The functions of chapters 05 and 11 to 15, as you wrote them."""'
        imports = "import torch\nimport torch.nn.functional as F"
        blocks = "\n\n\n".join(block(CORE[name], own[name]) for name in CORE if name in own)
        whole = f"{head}\n\n{imports}\n\n\n{blocks}\n"
    write_whole(path, whole)
    return path


def write_whole(path: Path, text: str) -> None:
    """Written aside and renamed: two notebooks at once, or a kill, leave one whole file."""
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
