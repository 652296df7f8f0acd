"""tests/gpu/run_notebooks.py: what it records, and that it ends."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
START = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom minimagen.course.check import start\n_ = start()"


def book(path, *cells):
    """A notebook with these code cells, saved as if they had printed nothing."""
    code = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "execution_count": i + 1,
         "source": source, "outputs": []}
        for i, source in enumerate(cells)
    ]  # fmt: skip
    out = {"output_type": "stream", "name": "stdout", "text": "device ≈ x, budget ≈ x, torch ≈ x\n"}
    code[0]["outputs"] = [out]
    about = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(
        json.dumps({"cells": code, "metadata": about, "nbformat": 4, "nbformat_minor": 5})
    )


def run(folder, *options):
    return subprocess.run(
        [sys.executable, ROOT / "tests/gpu/run_notebooks.py", "--folder", folder, "--report",
         folder / "report.json", "--jobs", "2", *options],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    """One that passes, one that fails, one that takes too long, one that is not asked for."""
    folder = tmp_path_factory.mktemp("books")
    book(folder / "00_good.ipynb", START, "x = 1")
    book(folder / "01_bad.ipynb", START, "assert 1 == 2, 'what is wrong'")
    book(folder / "02_slow.ipynb", START, "import time\ntime.sleep(200)")
    old = {"notebooks": {"03_old": {"minutes": 1, "passed": True}}}
    (folder / "report.json").write_text(json.dumps(old))
    begun = time.monotonic()
    done = run(folder, "02", "00", "01", "--deadline", "60", "--without-gpu")
    return done, json.loads((folder / "report.json").read_text()), time.monotonic() - begun, folder


def test_it_records_what_passed(rehearsal):
    done, report, _, _ = rehearsal
    entries = report["notebooks"]
    passed = {name: entry["passed"] for name, entry in entries.items()}
    assert passed == {"00_good": True, "01_bad": False, "02_slow": False, "03_old": True}
    facts = {"device", "minutes", "peak_mib", "versions", "date", "commit", "passed"}
    assert set(entries["00_good"]) == facts and None not in entries["00_good"].values()
    assert done.returncode == 1 and "1 of 3 passed" in done.stdout


def test_the_deadline_ends_it(rehearsal):
    done, _, seconds, _ = rehearsal
    assert "02_slow: too long" in done.stdout and seconds < 100


def test_the_log_says_why(rehearsal):
    assert "what is wrong" in (rehearsal[3] / "report.log").read_text()


def test_nothing_on_the_gpu_is_a_failure(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    book(tmp_path / "00_good.ipynb", START)
    assert run(tmp_path, "00").returncode == 1
    assert (
        json.loads((tmp_path / "report.json").read_text())["notebooks"]["00_good"]["passed"]
        is False
    )
