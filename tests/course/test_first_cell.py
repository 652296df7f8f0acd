"""Cell 1: it finds the course, on Colab it fetches it, and what it can't do it says in one sentence."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOOKS = sorted((ROOT / "notebooks").glob("**/[0-9]*.ipynb"))


def first_cell(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return next(cell for cell in cells if cell["cell_type"] == "code")


CELL = "".join(first_cell(BOOKS[0])["source"])


@pytest.mark.parametrize("path", BOOKS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_it_is_the_same_everywhere_and_folded(path):
    cell = first_cell(path)
    assert "".join(cell["source"]) == CELL
    assert cell["metadata"] == {"cellView": "form", "jupyter": {"source_hidden": True}}
    assert CELL.startswith("# @title ")


@pytest.fixture
def course(tmp_path):
    """A repository that has of the course only what cell 1 imports."""
    folder = tmp_path / "a course 课程"
    check = folder / "minimagen" / "course" / "check"
    check.mkdir(parents=True)
    for package in (check, check.parent, check.parent.parent):
        (package / "__init__.py").touch()
    (folder / "minimagen" / "diffusion.py").touch()
    (check / "__init__.py").write_text(
        "def start():\n    print('started')\n    return 'cpu', 'quick'\n"
    )
    me = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    for command in (["init", "-q"], ["add", "."], [*me, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture
def colab(tmp_path):
    """Runs cell 1 in an empty folder, in a Python that has google.colab and the packages that Colab has."""
    there = tmp_path / "there"
    for name in ("google/colab", "accelerate", "ipywidgets", "transformers"):
        (there / name).mkdir(parents=True)
        (there / name / "__init__.py").touch()
    content = tmp_path / "content"
    content.mkdir()

    def run(source=CELL, cwd=content, **env):
        ours = ("MINIMAGEN", "COLAB", "KAGGLE", "PYTHONPATH")
        outer = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        return subprocess.run(
            [sys.executable, "-c", source],
            cwd=cwd, env={**outer, "PYTHONPATH": str(there), **env}, capture_output=True, text=True,
        )  # fmt: skip

    return run


def test_on_colab_it_clones_from_the_address_that_is_set(course, colab, tmp_path):
    done = colab(MINIMAGEN_REPO=course.as_uri())
    assert (done.returncode, done.stdout, done.stderr) == (0, "started\n", "")
    again = colab(MINIMAGEN_REPO="nowhere")  # it is there now
    assert (again.returncode, again.stdout) == (0, "started\n")


@pytest.fixture
def sessions():
    """Colab's own list of what is open: the address of each notebook, quoted."""
    opened = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/api/sessions" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(opened).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield opened, {"COLAB_JUPYTER_IP": "127.0.0.1", "KMP_TARGET_PORT": str(server.server_port)}
    server.shutdown()
    server.server_close()


def test_on_colab_it_asks_where_it_was_opened_from(course, colab, sessions):
    opened, env = sessions
    address = "https://github.com/some-one/a.course/blob/main/notebooks/00_start_here.ipynb"
    opened.append({"path": f"fileId={quote(address, safe='')}", "name": "00_start_here.ipynb"})
    env |= {  # git takes the repository from here instead of from GitHub
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{course.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/some-one/a.course",
    }
    done = colab(**env)
    assert (done.returncode, done.stdout) == (0, "started\n"), done.stderr


def test_an_address_that_nobody_tells_is_one_sentence(colab, sessions):
    opened, env = sessions
    opened.append({"path": "fileId=1AbC", "name": "of my own Drive.ipynb"})
    for told in (env, {}):
        last = colab(**told).stderr.splitlines()[-1]
        assert last == (
            "AssertionError: Where is the course? Set os.environ['MINIMAGEN_REPO'], then run this again."
        )


def test_outside_a_clone_it_says_what_to_do(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CELL], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stderr.splitlines()[-1].startswith(
        "AssertionError: Open this notebook inside a clone"
    )


@pytest.mark.parametrize("missing", ["torch", "ipywidgets"])
def test_in_a_python_without_its_packages_it_says_which_kernel_to_choose(missing):
    source = f"import sys; sys.modules[{missing!r}] = None\n" + CELL
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT / "notebooks", capture_output=True, text=True
    )
    last = done.stderr.splitlines()[-1]
    assert f"this Python has no {missing}: open the notebook with make lab" in last


@pytest.mark.parametrize("kind", ["package", "namespace package", "module"])
def test_another_minimagen_is_named(kind, course, colab, tmp_path):
    """The one on PyPI, a folder of that name without __init__.py, or a file: it was imported before."""
    other = tmp_path / "other"
    (other / "minimagen").mkdir(parents=True)
    if kind == "package":
        (other / "minimagen" / "__init__.py").touch()
    if kind == "module":
        (other / "minimagen").rmdir()
        (other / "minimagen.py").touch()
    source = f"import sys; sys.path.insert(0, {str(other)!r}); import minimagen\n" + CELL
    done = colab(source, MINIMAGEN_REPO=course.as_uri())
    last = done.stderr.splitlines()[-1]
    assert last.startswith("AssertionError: Another minimagen was imported: pip uninstall")


def test_below_the_clone_and_on_a_path_with_spaces_and_chinese_letters(course, tmp_path):
    below = course / "notebooks" / "solutions"
    below.mkdir(parents=True)
    done = subprocess.run([sys.executable, "-c", CELL], cwd=below, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "started\n"), done.stderr
