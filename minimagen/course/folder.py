"""The learner's folder: what one has written, guessed and drawn, out of git's way."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent  # the clone


def work() -> Path:
    """MINIMAGEN_WORK; else work/ in the clone; else one in the home folder, where the clone can't be written.

    The folder exists when this returns. A test that names no folder gets one that nobody keeps.
    """
    if named := os.environ.get("MINIMAGEN_WORK"):
        folder = Path(named).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    if "PYTEST_CURRENT_TEST" in os.environ:
        os.environ["MINIMAGEN_WORK"] = tempfile.mkdtemp(prefix="minimagen-work-")
        return work()
    for folder in (ROOT / "work", Path.home() / "minimagen-work"):
        try:
            folder.mkdir(exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise OSError(
        "neither the course's folder nor your home folder can be written: name one that can, "
        "MINIMAGEN_WORK=/some/folder"
    )


def in_complete_edition() -> bool:
    """Does this notebook lie among the solutions? What stands there is the course's, and is not kept."""
    return Path.cwd().name == "solutions"
