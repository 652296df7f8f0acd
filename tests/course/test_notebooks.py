"""Every notebook runs top to bottom, and what it saved is what it prints."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minimagen.course.slider import SCRIPT

HERE = Path(__file__).resolve().parent
NOTEBOOKS = sorted((HERE.parents[1] / "notebooks").glob("**/[0-9]*.ipynb"))


def edition(path):
    """ "complete" or "learner" for a chapter that has both (tests/course/test_editions.py), else nothing."""
    return (
        json.loads(path.read_text(encoding="utf-8"))["metadata"].get("minimagen", {}).get("edition")
    )


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs(path, tmp_path):
    """In the gpu budget tests/gpu/run_notebooks.py does this, and several at a time."""
    report = tmp_path / "report.json"
    form = "--nbval-lax" if edition(path) == "learner" else "--nbval"  # it has no outputs to hold
    done = subprocess.run(
        [sys.executable, "-m", "pytest", form, "--nbval-current-env", "--nbval-sanitize-with",
         HERE / "nbval_sanitize.cfg", "-q", "-p", "no:cacheprovider", "-W", "ignore", path],
        capture_output=True,
        text=True,
        env={**os.environ, "MINIMAGEN_REPORT": str(report), "MINIMAGEN_WORK": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert json.loads(report.read_text())["minutes"] < 15


def shape(value):
    """A number is a number, a tuple or list is as long as its like."""
    return (
        len(value.elts)
        if isinstance(value, ast.Tuple)
        else type(ast.literal_eval(value)) in (int, float, list)
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_budget_changes_sizes_and_nothing_else(path):
    """So the gpu budget has no code of its own: what runs in quick, here, runs there."""
    sizes, uses = 0, 0
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        for node in ast.walk(ast.parse("".join(cell["source"]))):
            uses += (
                isinstance(node, ast.Name)
                and node.id == "budget"
                and isinstance(node.ctx, ast.Load)
            )
            if (
                isinstance(node, ast.Subscript)
                and isinstance(node.slice, ast.Name)
                and node.slice.id == "budget"
            ):
                assert [ast.literal_eval(k) for k in node.value.keys] == ["quick", "laptop", "gpu"]
                assert len({shape(v) for v in node.value.values}) == 1
                sizes += 1
    assert uses == sizes


def test_every_output_is_checked(capsys):
    """Cells that nbval is told to skip or not to check: their number may only fall."""
    ignored = [
        (path.name, cell["id"])
        for path in NOTEBOOKS
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if re.search("nbval|raises-exception", str(cell["metadata"]), flags=re.I)
        or (cell["cell_type"] == "code" and "NBVAL" in "".join(cell["source"]))
    ]
    with capsys.disabled():
        print(f"\ncells whose outputs nbval does not check: {len(ignored)}")
    assert len(ignored) <= 0, ignored


def first_cell(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "".join(next(c for c in cells if c["cell_type"] == "code")["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_its_form(path):
    book = json.loads(path.read_text(encoding="utf-8"))
    assert path.stat().st_size <= 400_000 and "widgets" not in book["metadata"]
    assert book["metadata"]["kernelspec"]["name"] == "python3"
    code = [c for c in book["cells"] if c["cell_type"] == "code"]
    if edition(path) == "learner":
        assert path.stat().st_size <= 120_000
    else:
        assert all(c["execution_count"] for c in code), "saved without outputs"
    # a docstring is for reading, and nbgrader's marks are no code
    lengths = sorted(
        len(re.sub(r'"""(.|\n)*?"""', "", "".join(c["source"])).splitlines()) for c in code
    )
    assert lengths[len(lengths) // 2] <= 8 and lengths[-1] <= 30
    outputs = [o for c in code for o in c["outputs"]]
    assert not any(o["output_type"] == "error" or o.get("name") == "stderr" for o in outputs)


def test_badges_come_from_one_place(tmp_path):
    """`make badges` writes every address, twice the same, and changes nothing else."""
    root = HERE.parents[1]
    shutil.copytree(root / "notebooks", tmp_path / "notebooks")
    shutil.copy(root / "README.md", tmp_path)
    script = tmp_path / "notebooks" / "badges.py"
    texts = []
    for repo in ("some/course", "another/place", "another/place"):
        subprocess.run([sys.executable, script, repo], check=True)
        files = sorted((tmp_path / "notebooks").glob("**/[0-9]*.ipynb"))
        texts.append([path.read_text(encoding="utf-8") for path in files])
        texts[-1].append((tmp_path / "README.md").read_text(encoding="utf-8"))
    assert texts[1] == texts[2]
    assert texts[1] == [text.replace("some/course", "another/place") for text in texts[0]]
    for path, text in zip(files, texts[2], strict=False):
        assert "https://github.com/another/place" in first_cell(path)
        address = f"colab.research.google.com/github/another/place/blob/main/notebooks/{path.name}"
        assert (address in text) == (path.parent.name != "solutions")
        ours, theirs = (json.loads(p.read_text(encoding="utf-8"))["cells"] for p in (
            root / path.relative_to(tmp_path), path))  # fmt: skip
        changed = [a for a, b in zip(ours, theirs, strict=True) if a != b]
        kinds = ["code"] if path.parent.name == "solutions" else ["markdown", "code"]
        assert [cell["cell_type"] for cell in changed] == kinds
    refused = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert refused.returncode == 1 and "make badges REPO=owner/name" in refused.stderr


def markdown(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_screen_reader_can_follow(path):
    """One title, no heading level skipped, alt text on every figure, and links that lead somewhere."""
    text = "\n".join(markdown(path))
    plain = re.sub(r"```.*?```", "", text, flags=re.S)
    levels = [len(marks) for marks in re.findall(r"^(#+) ", plain, flags=re.M)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", plain):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for output in (o for cell in cells for o in cell.get("outputs", [])):
        if "image/png" in output.get("data", {}):
            alt = output["metadata"].get("image/png", {}).get("alt", output["metadata"].get("alt"))
            assert alt and len(alt) > 10


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_nothing_that_only_a_kernel_can_show_is_saved(path):
    """No widget without its model, and no Python code of one; a saved slider has today's script."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for output in (o for cell in cells for o in cell.get("outputs", [])):
        data = output.get("data", {})
        assert "application/vnd.jupyter.widget-view+json" not in data, "run notebooks/tidy.py on it"
        assert not re.search(r"(VBox|Slider|Text)\(", "".join(data.get("text/plain", "")))
        live = "".join(data.get("text/html", ""))
        if "minimagen-frames" in live:
            assert live.endswith(f"<script>{SCRIPT}</script>")
