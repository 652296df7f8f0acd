"""A shared machine: the course is read-only, each learner has a folder, and nobody sees another's functions."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "classroom.py"
SPEC = spec_from_file_location("classroom", SCRIPT)
classroom = module_from_spec(SPEC)
SPEC.loader.exec_module(classroom)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or (os.geteuid() == 0 and shutil.which("setpriv") is None),
    reason="needs Linux, and as root setpriv",
)
NAMES = ("ada", "bob")
TOGETHER = """
from pathlib import Path

Path("ready").touch()
while len(list(Path("..").glob("*/ready"))) < 2:
    pass
"""


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A clone that can't be written, without the pictures of its data."""
    course = tmp_path_factory.mktemp("course")
    shutil.copytree(
        classroom.ROOT / "minimagen",
        course / "minimagen",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for path in [*course.rglob("*"), course]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield course
    classroom.unlocked(course)


def test_two_who_save_at_once_keep_their_own(course, tmp_path):
    """Each in a home of their own, at the same moment: each file holds its writer's function alone."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        cell = classroom.SAVE.format(name=name).replace("@yours", f"{TOGETHER}\n\n@yours")
        (tmp_path / name / "cell.py").write_text(f"{cell}\n{classroom.WHERE}\n")
    running = [
        subprocess.Popen(
            [*classroom.as_a_user(), sys.executable, "cell.py"],
            cwd=tmp_path / name, env=classroom.surroundings(tmp_path / name, course, 1),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for name in NAMES
    ]  # fmt: skip
    for name, process in zip(NAMES, running, strict=True):
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0 and "1 of" in said, said
        folder = tmp_path / name / "minimagen-work"
        assert said.splitlines()[-1] == str(folder)
        text = (folder / "my_imagen.py").read_text(encoding="utf-8")
        assert [n for n in NAMES if f"written by {n}" in text] == [name]
    assert not (course / "work").exists()


@pytest.mark.slow
def test_a_class_of_two_draws_its_first_pictures():
    """In a process of its own: jupyter_client leaves sockets and loops to the garbage collector."""
    command = [sys.executable, SCRIPT, "--learners", "2", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[0])
    assert found["pictures"] == [1, 1]
    assert all(100 < mib < 1500 for mib in found["pss_mib"])
