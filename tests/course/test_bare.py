"""Cell 1 where Colab is: no repository, torch and transformers already there, at versions of their own.

Marked slow: it needs a package index, and some minutes.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
THERE = (  # what Colab brings; versions that constraints.txt does not have
    "torch", "numpy==2.2.6", "transformers==5.12.0", "matplotlib", "pillow", "tqdm", "ipykernel",
    "nbconvert", "nbclient", "huggingface_hub", "safetensors", "sentencepiece", "pyyaml", "psutil",
)  # fmt: skip


def versions(python):
    done = subprocess.run(
        [python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True
    )
    return {row["name"].lower(): row["version"] for row in json.loads(done.stdout)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["00_start_here", "01_forward_diffusion"])
def test_cell_1_clones_installs_and_touches_nothing(tmp_path, name):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", bare], check=True)
    python = bare / "bin" / "python"
    torch = next(line for line in (ROOT / "constraints.txt").read_text().splitlines()
                 if line.startswith("torch=="))  # fmt: skip
    subprocess.run(
        [python, "-m", "pip", "install", "-q", torch.split(";")[0].strip(), *THERE[1:]], check=True
    )
    colab = next((bare / "lib").glob("python*")) / "site-packages" / "google" / "colab"
    colab.mkdir(parents=True)
    (colab / "__init__.py").touch()
    before = versions(python)
    assert "accelerate" not in before and before["numpy"] == "2.2.6"
    content = tmp_path / "content"  # as on Colab: the notebook, and nothing else
    content.mkdir()
    shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", content)
    own = {"MINIMAGEN_REPO": str(ROOT), "MINIMAGEN_BUDGET": "quick", "JUPYTER_PATH": str(bare)}
    done = subprocess.run(
        [python, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", f"{name}.ipynb"],
        cwd=content, env={**os.environ, **own, "PATH": f"{bare / 'bin'}:{os.environ['PATH']}"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert (content / "minimagen-course" / "minimagen").is_dir()
    after = versions(python)
    assert {k: after[k] for k in before} == before, "what was there stays as it was"
    assert "accelerate" in after
