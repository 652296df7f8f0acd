"""Colab's versions: pyproject.toml admits them, the list can be renewed, a twin that can't be had is one line."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "colab"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
sys.path.insert(0, str(FOLDER))

import twin  # noqa: E402
import versions  # noqa: E402

TEXT = versions.LIST.read_text("utf-8")
THERE = {canonicalize_name(name): version for name, version in versions.pinned(TEXT).items()}


def test_installing_the_course_on_colab_brings_and_changes_nothing():
    for line in PROJECT["dependencies"]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(THERE[canonicalize_name(wanted.name)]), line
    assert versions.fact(TEXT, "python") in PROJECT["requires-python"] + " 3.13"
    assert "jupyterlab" not in THERE
    assert [Requirement(x).name for x in PROJECT["optional-dependencies"]["lab"]] == ["jupyterlab"]


def test_the_list_says_where_and_when_it_is_from():
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", versions.fact(TEXT, "date"))
    assert "googlecolab/backend-info" in versions.fact(TEXT, "source")
    assert len(THERE) > 500


def test_the_twin_has_colabs_versions_but_for_the_cuda_build():
    pins = twin.pins(
        "torch==2.11.0+cu128\nnvidia-cublas-cu12==12.8\ncuda-bindings==12.9\nnumpy==2.1.3\n"
    )
    assert pins == ["torch==2.11.0", "numpy==2.1.3"]
    assert all(canonicalize_name(name) in THERE for name in twin.PACKAGES)


def refresh(folder, *more):
    files = [folder / "pip-freeze.gpu.txt", folder / "os-info-gpu.txt"]
    command = [sys.executable, folder / "versions.py", *files, *more]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_list_is_renewed_from_colabs_two_files(tmp_path):
    for name in ("versions.py", "versions.txt"):
        shutil.copy(FOLDER / name, tmp_path)
    freeze = "# a comment\n" + "".join(f"{name}==9.0\n" for name in versions.COURSE) + "odd\n"
    (tmp_path / "os-info-gpu.txt").write_text("Ubuntu 22.04.5 LTS\nPython 3.14.1\n")
    (tmp_path / "pip-freeze.gpu.txt").write_text(freeze)
    done = refresh(tmp_path, "--date", "2027-01-02")
    assert done.returncode == 0 and "torch 2." in done.stdout and "→ 9.0" in done.stdout
    text = (tmp_path / "versions.txt").read_text("utf-8")
    assert versions.fact(text, "date") == "2027-01-02" and versions.fact(text, "python") == "3.14"
    assert versions.pinned(text) == dict.fromkeys(versions.COURSE, "9.0") and "\nodd\n" in text
    (tmp_path / "pip-freeze.gpu.txt").write_text("torch==9.0\n")
    refused = refresh(tmp_path)
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    assert "numpy" in refused.stderr and (tmp_path / "versions.txt").read_text("utf-8") == text
    (tmp_path / "pip-freeze.gpu.txt").unlink()
    assert "can't be read" in refresh(tmp_path).stderr


def test_no_python_as_colabs_is_one_line_and_status_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(twin, "CACHE", tmp_path)
    monkeypatch.setattr(twin, "python_like_colabs", lambda version: None)
    with pytest.raises(SystemExit) as stopped:
        twin.build()
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and told.count("\n") == 1 and "No Python 3." in told


@pytest.mark.parametrize(
    "complaint, status",
    [("NewConnectionError: [Errno 101] Network is unreachable", 2), ("ResolutionImpossible", 1)],
)
def test_no_network_is_told_from_a_list_that_does_not_fit(
    tmp_path, monkeypatch, capsys, complaint, status
):
    def run(command, **how):
        failed = "install" in map(str, command)
        return subprocess.CompletedProcess(
            command, int(failed), "", f"WARNING\nERROR: {complaint}\n"
        )

    monkeypatch.setattr(twin, "ROOT", tmp_path)
    monkeypatch.setattr(twin, "CACHE", tmp_path / "colab")
    monkeypatch.setattr(twin, "python_like_colabs", lambda version: "python3.13")
    monkeypatch.setattr(twin.subprocess, "run", run)
    with pytest.raises(SystemExit) as stopped:
        twin.build()
    told = capsys.readouterr().err
    assert stopped.value.code == status and told.count("\n") == 1
    assert not (tmp_path / "colab" / "done").exists(), "the next call tries again"


def test_the_first_picture_is_timed_from_the_first_cell_on():
    def cell(begun, ended, data):
        when = {
            f"iopub.status.{k}": f"2026-01-01T00:00:{v:02}.500000Z"
            for k, v in (("busy", begun), ("idle", ended))
        }
        return {"cell_type": "code", "metadata": {"execution": when}, "outputs": [{"data": data}]}

    cells = [
        {"cell_type": "markdown"},
        cell(1, 5, {}),
        cell(6, 9, {"image/png": ""}),
        cell(9, 20, {"image/png": ""}),
    ]
    assert twin.first_picture({"cells": cells}) == 8
    assert twin.first_picture({"cells": cells[:2]}) is None


def test_one_notebook_that_fails_does_not_hide_the_others(monkeypatch, capsys):
    def run(name, folder):
        if "01" in name:
            twin.stop(1, "01 says why")
        return {"cells": []}

    for name, fake in (("build", None), ("test_figures", None), ("freeze", list), ("run", run)):
        monkeypatch.setattr(twin, name, fake or (lambda: None))
    monkeypatch.setattr(sys, "argv", ["twin.py", "a/01_x.ipynb", "a/02_y.ipynb"])
    with pytest.raises(SystemExit) as stopped:
        twin.main()
    told = capsys.readouterr()
    assert stopped.value.code == 1 and "✓ a/02_y.ipynb" in told.out
    assert told.err == "01 says why\nnot run in Colab's versions: a/01_x.ipynb\n"
