"""Every notebook runs top to bottom, and what it saved is what it prints."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
NOTEBOOKS = sorted((HERE.parent / "notebooks").glob("**/[0-9]*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs(path):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "--nbval-sanitize-with",
         HERE / "nbval_sanitize.cfg", "-q", "-p", "no:cacheprovider", "-W", "ignore", path],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


def first_cell(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "".join(next(c for c in cells if c["cell_type"] == "code")["source"])


def test_the_first_cell_is_the_same_everywhere():
    assert len({first_cell(path) for path in NOTEBOOKS}) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_its_form(path):
    book = json.loads(path.read_text(encoding="utf-8"))
    assert path.stat().st_size <= 300_000 and "widgets" not in book["metadata"]
    assert book["metadata"]["kernelspec"]["name"] == "python3"
    code = [c for c in book["cells"] if c["cell_type"] == "code"]
    assert all(c["execution_count"] for c in code), "saved without outputs"
    lengths = sorted(len("".join(c["source"]).splitlines()) for c in code)
    assert lengths[len(lengths) // 2] <= 8 and lengths[-1] <= 30
    outputs = [o for c in code for o in c["outputs"]]
    assert not any(o["output_type"] == "error" or o.get("name") == "stderr" for o in outputs)
