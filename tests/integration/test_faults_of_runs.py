"""Runs: one has one owner, a failed start leaves nothing, and its settings come from where the help says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file

import minimagen
from minimagen.cli import main
from minimagen.errors import UserError
from minimagen.training.owner import LOCK, sole_owner

TRAIN = "train base --batch 2 --device cpu --previews 0 --checkpoint-minutes 0 --out".split()


@pytest.fixture(autouse=True)
def forget_the_precision():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def sentence(capsys, *arguments):
    assert main([str(a) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    return captured.err.strip().splitlines()[-1]


HOLD = """if True:
    import pathlib, sys, time
    from minimagen.training.owner import sole_owner
    with sole_owner(pathlib.Path(sys.argv[1])):
        print("mine", flush=True)
        time.sleep(60)"""


def test_a_second_process_is_told_who_the_owner_is(tmp_path, capsys):
    run = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", HOLD, run], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "mine\n"
        half = run / f"state.{process.pid}.tmp"
        half.write_text("half a checkpoint of the owner's")
        told = sentence(capsys, *TRAIN, run, "--steps", 1)
        assert f"is being trained by process {process.pid}: wait for its end" in told
        assert half.exists() and not (run / "state.safetensors").exists()
        process.kill()
    assert (run / LOCK).exists(), "a killed owner leaves its file, but no lock"
    assert main([*TRAIN, str(run), "--steps", "1", "--resume"]) == 0
    assert (run / "model.safetensors").exists() and not (run / LOCK).exists()
    assert not half.exists()


def test_a_run_has_one_owner_in_one_process_too(tmp_path):
    with sole_owner(tmp_path / "run"):
        with pytest.raises(UserError, match="in this process"), sole_owner(tmp_path / "run"):
            pass
        with sole_owner(tmp_path / "other"):
            pass
    assert not (tmp_path / "run").exists(), "empty folders that it made are removed"
    (tmp_path / "run").mkdir()
    with sole_owner(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK).is_file()
    assert list((tmp_path / "run").iterdir()) == [], "and those that were there stay"


def test_owners_take_turns(tmp_path):
    """However they meet, no two are inside at once."""
    code = """if True:
        import pathlib, sys, time
        from minimagen.errors import UserError
        from minimagen.training.owner import sole_owner
        out, held, end = pathlib.Path(sys.argv[1]), 0, time.monotonic() + 3
        while time.monotonic() < end:
            try:
                with sole_owner(out / "run"):
                    (out / "inside").touch(exist_ok=False)
                    (out / "inside").unlink()
                    held += 1
            except UserError:
                pass
        print(held)"""
    run = [sys.executable, "-c", code, tmp_path]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(run, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    ends = [process.communicate(timeout=60) for process in both]
    assert not any(errors for _, errors in ends), ends
    counts = [int(held) for held, _ in ends]
    assert min(counts) > 0 and not (tmp_path / "inside").exists()


def test_a_refused_start_leaves_nothing(tmp_path, capsys):
    run = tmp_path / "run"
    assert "choose a multiple of 3" in sentence(
        capsys, *TRAIN, run, "--steps", 1, "--accumulate", 3
    )
    assert not run.exists()


def test_a_bad_image_is_found_before_training_and_its_line_can_be_removed(tmp_path, capsys):
    """The last of ten, which a few steps would not meet."""
    folder, run = tmp_path / "mine", tmp_path / "run"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(10):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(folder / f"{i}.png")
    (folder / "9.png").write_bytes((folder / "9.png").read_bytes()[:1000])
    rows = [json.dumps({"file_name": f"{i}.png", "text": "a red cat"}) for i in range(10)]
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    start = [*TRAIN, run, "--steps", 1, "--data", folder]
    assert "line 10, 9.png: it is damaged" in sentence(capsys, *start)
    assert not run.exists()
    (folder / "metadata.jsonl").write_text("\n".join(rows[:9]))
    assert main([str(a) for a in start]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_home_that_can_not_be_written_is_no_fault_of_the_images(tmp_path):
    """Nothing is cached in it: the images are read where they are."""
    folder = tmp_path / "mine"
    folder.mkdir()
    Image.new("RGB", (20, 20), "red").save(folder / "a.png")
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a cat"}')
    home = {"HOME": "/proc/nobody", "PATH": os.environ["PATH"]}
    code = (
        "import sys; from minimagen.scenes import Folder; print(Folder(sys.argv[1], 16).captions)"
    )
    run = [sys.executable, "-c", code, folder]
    paths = {"PYTHONPATH": str(Path(minimagen.__file__).parents[1])}
    done = subprocess.run(run, env=home | paths, capture_output=True, text=True)
    assert done.stdout == "['a cat']\n" and done.stderr == "", done.stderr


def test_the_precision_is_the_command_line_s_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    AcceleratorState._reset_state(reset_partial_state=True)
    assert main([*TRAIN, str(tmp_path / "one"), "--steps", "2"]) == 0
    for name in ("MIXED_PRECISION", "GRADIENT_ACCUMULATION_STEPS", "DYNAMO_BACKEND"):
        monkeypatch.delenv(f"ACCELERATE_{name}")
    AcceleratorState._reset_state(reset_partial_state=True)
    assert main([*TRAIN, str(tmp_path / "two"), "--steps", "2"]) == 0
    one, two = (load_file(tmp_path / n / "model.safetensors") for n in ("one", "two"))
    assert all(torch.equal(one[k], two[k]) for k in one)
