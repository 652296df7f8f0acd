"""Take a newer list of what Colab has, and write it as versions.txt:

    python tests/colab/versions.py pip-freeze.gpu.txt os-info-gpu.txt [--date 2026-08-19]

Both files are published in the repository googlecolab/backend-info; the date is the day of its last change to them.
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from pathlib import Path

LIST = Path(__file__).resolve().parent / "versions.txt"
HEAD = """\
# What Colab's GPU runtime has installed, as its makers publish it.
# source: github.com/googlecolab/backend-info, pip-freeze.gpu.txt and os-info-gpu.txt
# date: {date}
# python: {python}
# `make colab-versions` writes this file.
"""
COURSE = ("torch", "numpy", "transformers", "accelerate", "ipywidgets", "ipython", "ipykernel")


def pinned(text: str) -> dict[str, str]:
    """Package → version, as pip writes them; what has no number (a path, a commit) is left out."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", text, flags=re.M))


def fact(text: str, name: str) -> str:
    """One of the facts in the head of the list: source, date, python."""
    found = re.search(rf"^# {name}: (.+)$", text, flags=re.M)
    if found is None:
        sys.exit(f"{LIST.name} does not say its {name}")
    return found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("freeze", type=Path)
    parser.add_argument("system", type=Path)
    parser.add_argument("--date", type=datetime.date.fromisoformat, default=datetime.date.today())
    options = parser.parse_args()
    try:
        freeze, system = (path.read_text("utf-8") for path in (options.freeze, options.system))
    except OSError as error:
        sys.exit(f"{error.filename} can't be read: {error.strerror}")
    new, python = pinned(freeze), re.search(r"^Python (\d+\.\d+)", system, flags=re.M)
    if missing := [name for name in COURSE if name not in new]:
        sys.exit(f"{options.freeze} is no list of Colab's: {', '.join(missing)} not in it")
    if python is None:
        sys.exit(f"{options.system} does not say which Python Colab has")
    old = pinned(LIST.read_text("utf-8")) if LIST.exists() else {}
    lines = [line for line in freeze.splitlines() if line and not line.startswith("#")]
    head = HEAD.format(date=options.date, python=python[1])
    LIST.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    changed = [n for n in sorted({*old, *new}, key=str.lower) if old.get(n) != new.get(n)]
    print(f"{LIST.name}: {len(lines)} packages, {len(changed)} of them changed")
    for name in changed:
        if name in COURSE:
            print(f"  {name} {old.get(name)} → {new[name]}")


if __name__ == "__main__":
    main()
