"""Run notebooks in the versions that Colab has: make test-colab (ALL=1 for every notebook).

    python tests/colab/twin.py [--all] [NOTEBOOK …]

The twin is an environment in .cache/colab, built once from versions.txt; that takes minutes, some gigabytes and a
network. In it each notebook runs as on Colab: alone in an empty folder, its first cell clones the course, here from
this repository's last commit. Exits with 1 where a notebook fails or what is installed was changed, with 2 where
there is no twin to be had: no Python as Colab's, or no network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from versions import LIST, fact, pinned

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache" / "colab"
TWIN = CACHE / "twin"
PYTHON = TWIN / "bin" / "python"
FIRST = ("00", "03", "10")
# what the course meets there; what these need comes at Colab's versions, too
PACKAGES = (
    *("torch", "numpy", "scipy", "pandas", "transformers", "tokenizers", "sentencepiece"),
    *("accelerate", "datasets", "huggingface_hub", "safetensors", "matplotlib", "pillow", "tqdm"),
    *("ipython", "ipykernel", "ipywidgets", "notebook", "nbclient", "nbconvert", "setuptools"),
    "pytest",
)
FIGURES = ("test_show.py", "test_slider.py", "test_grounds.py")  # tests of what depends on versions
NO_NETWORK = r"NewConnection|name resolution|unreachable|timed out|ProxyError|RemoteDisconnected"


def stop(status: int, sentence: str) -> None:
    print(sentence, file=sys.stderr)
    raise SystemExit(status)


def python_like_colabs(version: str) -> str | None:
    """An interpreter of that version: a command, or one that pyenv or uv keeps."""
    home = Path.home()
    kept = [
        *(home / ".pyenv" / "versions").glob(f"{version}*/bin/python"),
        *(home / ".local/share/uv/python").glob(f"cpython-{version}*/bin/python{version}"),
    ]
    for python in (os.environ.get("PYTHON_COLAB"), f"python{version}", *map(str, kept)):
        if python is None:
            continue
        asked = [python, "-c", "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"]
        try:
            told = subprocess.run(asked, capture_output=True, text=True)
        except OSError:
            continue
        if told.returncode == 0 and told.stdout.strip() == version:
            return python
    return None


def pins(text: str) -> list[str]:
    """The list for pip, but for the CUDA build of torch (+cu128) and its libraries: it has an index of its own."""
    return [
        f"{name}=={version.split('+')[0]}"
        for name, version in pinned(text).items()
        if not re.match("nvidia|cuda|pip$", name)
    ]


def build() -> None:
    """The twin, unless one of this list is there."""
    text = LIST.read_text("utf-8")
    stamp, wanted = CACHE / "done", hashlib.sha256((text + repr(PACKAGES)).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted and PYTHON.exists():
        return
    version = fact(text, "python")
    python = python_like_colabs(version)
    if python is None:
        stop(2, f"No Python {version} here, which Colab has: install it, or set PYTHON_COLAB.")
        return
    print(
        f"Building a twin of Colab in {CACHE.relative_to(ROOT)}: minutes and gigabytes, once",
        flush=True,
    )
    shutil.rmtree(CACHE, ignore_errors=True)
    CACHE.mkdir(parents=True)
    subprocess.run([python, "-m", "venv", TWIN], check=True)
    constraints = CACHE / "constraints.txt"
    constraints.write_text("".join(f"{pin}\n" for pin in pins(text)), encoding="utf-8")
    install = [PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    done = subprocess.run([*install, "-c", constraints, *PACKAGES], capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1]
        no_network = re.search(NO_NETWORK, done.stderr)
        reason = "no network" if no_network else last
        stop(2 if no_network else 1, f"The twin of Colab could not be built: {reason}")
    # `import google.colab` works there, and tells a notebook where it is
    google = next((TWIN / "lib").glob("python*/site-packages")) / "google" / "colab"
    google.mkdir(parents=True)
    (google / "__init__.py").touch()
    stamp.write_text(wanted)


def freeze() -> list[str]:
    listed = subprocess.run(
        [PYTHON, "-m", "pip", "freeze", "--all"], capture_output=True, text=True, check=True
    ).stdout
    return [line for line in listed.splitlines() if "minimagen" not in line]


def test_figures() -> None:
    """Widgets, figures and sliders as they are in the working tree, under ipywidgets 7 and IPython 7."""
    files = [str(ROOT / "tests" / "course" / name) for name in FIGURES]
    command = [PYTHON, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", ROOT, *files]
    quiet = ["-p", "no:cacheprovider", "-W", "ignore"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    if subprocess.run([*command, *quiet], cwd=ROOT, env=env).returncode:
        stop(1, "figures or widgets do not work in Colab's versions")


def run(name: str, folder: Path) -> dict[str, Any]:
    """Run one notebook of the last commit in an empty folder; its outputs and the time of each cell."""
    home, content = folder / "home", folder / "content"
    home.mkdir()
    content.mkdir()
    shown = subprocess.run(["git", "-C", ROOT, "show", f"HEAD:{name}"], capture_output=True)
    if shown.returncode:
        stop(1, f"{name} is not in the last commit")
    book = content / Path(name).name
    book.write_bytes(shown.stdout)
    own = {
        **{"HOME": str(home), "MINIMAGEN_REPO": ROOT.as_uri(), "MINIMAGEN_BUDGET": "quick"},
        **{"HF_HUB_OFFLINE": "1", "PATH": f"{PYTHON.parent}:{os.environ['PATH']}"},
    }
    there = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    command = [PYTHON, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", book.name]
    done = subprocess.run(
        command, cwd=content, env={**there, **own}, capture_output=True, text=True
    )
    if done.returncode:
        stop(1, f"{done.stderr[-3000:]}\n{name} does not run in Colab's versions")
    return json.loads(book.read_text("utf-8"))


def clock(cell: dict[str, Any], event: str) -> float:
    return datetime.fromisoformat(cell["metadata"]["execution"][event]).timestamp()


def first_picture(book: dict[str, Any]) -> float | None:
    """Seconds from the start of the first cell to the end of the first one that shows a picture."""
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    for cell in code:
        if any("image/png" in output.get("data", {}) for output in cell["outputs"]):
            return clock(cell, "iopub.status.idle") - clock(code[0], "iopub.status.busy")
    return None


def size(folder: Path) -> float:
    """MB of all files in it."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--all", action="store_true", help="every notebook, not 00, 03 and 10 only")
    parser.add_argument("notebooks", nargs="*", help="notebooks/05_gan_or_diffusion.ipynb …")
    options = parser.parse_args()
    build()
    git = ["git", "-C", str(ROOT)]
    tracked = subprocess.run(
        [*git, "ls-files", "notebooks"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    books = [
        name for name in tracked if re.fullmatch(r"notebooks/(\w+/)?\d\d_\w+(\.zh)?\.ipynb", name)
    ]
    if not options.all:
        books = [n for n in books if re.match(rf"notebooks/({'|'.join(FIRST)})_\w+\.ipynb", n)]
    if subprocess.run([*git, "diff", "--quiet", "HEAD"]).returncode:
        print("What is not committed is not in the clone that these notebooks make.")
    test_figures()
    before, failed = freeze(), []
    for name in options.notebooks or books:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="colab-") as folder:
            try:
                book = run(name, Path(folder))
            except SystemExit:  # which has said why
                failed.append(name)
                continue
            clone = Path(folder) / "content" / "minimagen-course"
            line = f"✓ {name}: {time.monotonic() - begun:.0f} s; clone {size(clone):.0f} MB"
            if (seconds := first_picture(book)) is not None:
                line += f", first picture after {seconds:.0f} s"
        print(line, flush=True)
        if "VBox(children" in json.dumps(book["cells"]):
            stop(1, f"{name} shows a widget's code instead of the widget")
        if (after := freeze()) != before:
            stop(1, f"{name} changed what was installed: {sorted({*before} ^ {*after})}")
    if failed:
        stop(1, f"not run in Colab's versions: {', '.join(failed)}")
    print(
        f"in Colab's versions of {fact(LIST.read_text('utf-8'), 'date')}: nothing changed in them"
    )


if __name__ == "__main__":
    main()
