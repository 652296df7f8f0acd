"""What `make lab` does: copies of the learner's edition into the learner's folder, then JupyterLab on chapter 00.

A chapter that was not touched is renewed. For one in which something was typed, a newer text comes beside it as
NN_….new.ipynb, and one line says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from .folder import ROOT, work
from .kept import write_whole

RECORD = ".copies.json"  # name → what its copy was made of
FIRST = "00_start_here.ipynb"


def _sources(book: dict) -> str:
    """A hash of what a learner can type; a cell that was only run has not changed."""
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in book["cells"]]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:16]


def _cleared(book: dict) -> dict:
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    return book


def _is(path: Path) -> str:
    """What a copy holds now; nothing that can be read counts as the learner's own."""
    try:
        return _sources(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return "the learner's"


def copy(notebooks: Path = ROOT / "notebooks", folder: Path | None = None) -> list[str]:
    """Bring the copies up to date. Returns the lines that say what was put beside a chapter."""
    folder = folder or work()
    record = folder / RECORD
    try:
        known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    except ValueError:
        known = {}
    said = []
    for path in sorted(notebooks.glob("[0-9]*.ipynb")):
        book = _cleared(json.loads(path.read_text(encoding="utf-8")))
        text, newest = json.dumps(book, indent=1, ensure_ascii=False) + "\n", _sources(book)
        own, beside = folder / path.name, folder / f"{path.stem}.new.ipynb"
        for target in (own, beside):
            before = known.get(target.name, "")
            if not target.exists() or _is(target) == before:
                if before != newest or not target.exists():
                    write_whole(target, text)
                    known[target.name] = newest
                    if target == beside:
                        said.append(
                            f"{path.stem} has a newer text: {beside.name} stands beside yours"
                        )
                break
            if before == newest:  # touched, and there is nothing newer
                break
    complete = folder / "solutions"
    complete.mkdir(exist_ok=True)
    for path in sorted(
        (notebooks / "solutions").glob("[0-9]*.ipynb")
    ):  # for the links, and to look things up
        text = path.read_text(encoding="utf-8")
        target = complete / path.name
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            write_whole(target, text)
    write_whole(record, json.dumps(known, indent=1) + "\n")
    _reachable(folder)
    return said


def _reachable(folder: Path) -> None:
    """A folder outside the clone gets a link to it, by which cell 1 finds the course."""
    link = folder / "minimagen-course"
    if ROOT in folder.resolve().parents or link.exists():
        return
    try:
        link.unlink(missing_ok=True)  # one that leads nowhere
        link.symlink_to(ROOT, target_is_directory=True)
    except OSError as error:
        print(
            f"{folder} can't be linked to the course ({error}): set MINIMAGEN_WORK to a folder inside {ROOT}"
        )


def main(arguments: list[str]) -> None:
    folder = work()
    for line in copy(folder=folder):
        print(line)
    if arguments[:1] == ["--copy-only"]:
        print(folder)
        return
    _no_news()
    options = [f"--ServerApp.root_dir={folder}", f"--LabApp.default_url=/lab/tree/{FIRST}"]
    command = [sys.executable, "-m", "jupyterlab", *options, *arguments]
    if (
        os.name == "nt"
    ):  # exec would return to the shell at once there, and split a path at its spaces
        sys.exit(subprocess.call(command))
    os.execv(sys.executable, command)


def _no_news() -> None:
    """JupyterLab does not begin with a question about news, in an environment that is the course's own."""
    if sys.prefix == sys.base_prefix:
        return
    settings = Path(sys.prefix) / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    if not settings.exists():
        quiet = {
            "@jupyterlab/apputils-extension:notification": {
                "fetchNews": "false",
                "checkForUpdates": False,
            }
        }
        with contextlib.suppress(OSError):
            settings.parent.mkdir(parents=True, exist_ok=True)
            settings.write_text(json.dumps(quiet) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
