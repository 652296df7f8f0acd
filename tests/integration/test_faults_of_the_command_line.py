"""The command line: what it says of its user's mistakes and of its own, and that its way out never fails itself."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from minimagen import cli, images
from minimagen.assets import CASCADE
from minimagen.cli import main
from minimagen.imagen import Imagen

RUN = [sys.executable, "-m", "minimagen.cli"]
DRAW = ["draw", "a cat", "--steps", "1"]


@pytest.fixture
def drawn(monkeypatch):
    """What is asked of the cascade; the pictures are grey, so that nothing has to be computed."""
    asked = []

    def generate(self, prompts, seeds, *options, callback=None, **more):
        asked.extend(zip(prompts, seeds, strict=True))
        return {"sr256": torch.zeros(len(prompts), 3, 256, 256)}

    monkeypatch.setattr(Imagen, "generate", generate)
    return asked


def sentence(capsys, *arguments):
    assert main([str(a) for a in arguments]) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert captured.out == "" and len(lines) == 1 and lines[0].startswith("minimagen: "), captured
    return lines[0].removeprefix("minimagen: ")


# --- prompts --------------------


@pytest.mark.parametrize(
    "prompt, read",
    [
        ("a cat\non\tthe  grass ", "a cat on the grass"),
        ("一只猫　在草地上", "一只猫 在草地上"),
        ("a\u200b cat\ufeff on\u00a0the gr\u00adass", "a cat on the grass"),
        ("cafe\u0301", "café"),
    ],
)
def test_a_prompt_is_read_in_one_form(prompt, read, drawn, tmp_path, capsys):
    assert main([*DRAW[:1], prompt, "--out", str(tmp_path / "a.png"), "--json"]) == 0
    assert drawn == [(read, 0)]
    assert json.loads(capsys.readouterr().out)["images"][0]["prompt"] == read


@pytest.mark.parametrize(
    "prompt, told",
    [
        ("a cafe\u0301", "unknown to the text encoder: 'é'"),
        ("a cat 𓀀", "unknown to the text encoder: '𓀀'"),
        ("a cat, " * 200, "too long: 'a cat, a cat, a cat,'… is cut after 64 tokens"),
    ],
)
def test_what_is_not_read_of_a_prompt_is_told_and_by_nobody_else(
    prompt, told, drawn, tmp_path, capsys
):
    assert main(["draw", prompt, "--out", str(tmp_path / "a.png")]) == 0
    lines = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("minimagen: ")
    ]
    assert lines == [f"minimagen: warning: {told}"]


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["draw", "\u200b"], "empty"),
        (["draw", "a\x00cat"], "holds U+0000, which is no text"),
        (["draw", "a \ud800cat"], "holds U+D800, which is no text"),
        (["draw", "кошка"], "no token of 'кошка'"),
        (["draw", "a cat", "—count", "2"], "begins with a dash that is no hyphen: write --count"),
        (["draw", "a cat", "--out", ".png"], "must end in .png, like cat.png"),
        (["train", "base", "--steps", "1", "--out", "x", "--data", ""], "--data '' is no folder"),
        (["train", "base", "--steps", "1", "--out", "x", "--from", ""], "--from '' is no folder"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, part, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a"}')
    assert part in sentence(capsys, *arguments)
    assert [p.name for p in tmp_path.iterdir()] == ["metadata.jsonl"]


def test_a_prompt_without_quotes_gets_a_hint(drawn, tmp_path, capsys):
    assert main(["draw", *"a cat on the grass".split(), "--out", str(tmp_path / "a.png")]) == 0
    assert 'put "a cat on the grass" in quotes' in capsys.readouterr().err


# --- files --------------------


def test_every_file_that_will_be_written_is_tried_before_the_drawing(drawn, tmp_path, capsys):
    (tmp_path / "g-1.png").mkdir()
    told = sentence(capsys, *DRAW, "--count", "2", "--json", "--out", tmp_path / "g.png")
    assert "g-1.png is a folder" in told and not drawn
    assert [p.name for p in tmp_path.iterdir()] == ["g-1.png"]


def test_a_link_stays_a_link_and_a_protected_file_is_kept(drawn, tmp_path, capsys, monkeypatch):
    (tmp_path / "real.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    assert main([*DRAW, "--out", str(tmp_path / "link.png")]) == 0
    assert (tmp_path / "link.png").is_symlink()
    with Image.open(tmp_path / "real.png") as image:
        assert image.size == (256, 256)
    capsys.readouterr()
    kept = (tmp_path / "real.png").read_bytes()
    (tmp_path / "real.png").chmod(stat.S_IREAD)
    access = os.access
    monkeypatch.setattr(  # root may write everything
        os, "access", lambda p, mode: access(p, mode) and "real.png" not in str(p)
    )
    assert "write-protected" in sentence(capsys, *DRAW, "--out", tmp_path / "real.png")
    assert (tmp_path / "real.png").read_bytes() == kept


def test_a_png_that_can_t_be_finished_leaves_nothing(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OSError):
        images.save_png(Image.new("RGB", (8, 8)), tmp_path / "a.png", "a cat", 0, "model")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
def test_a_path_that_is_no_utf_8_is_a_path(drawn, tmp_path, capsys):
    out = os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.png")
    assert main([*DRAW, "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"][0]["path"] == out
    assert os.path.exists(out)
    code = "import sys; from minimagen.cli import main, say; say(sys.argv[1]); main(['doctor', sys.argv[1]])"
    done = subprocess.run([sys.executable, "-c", code, out], capture_output=True)
    assert done.returncode == 0 and done.stdout == os.fsencode(out) + b"\n"
    assert b"b\\udcff.png' is no folder" in done.stderr and b"Traceback" not in done.stderr


def test_train_where_nothing_can_be_written_is_a_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    told = sentence(capsys, "train", "base", "--steps", "1", "--out", tmp_path / "a" / "b")
    assert "can't be written" in told and str(tmp_path) in told


def test_a_closed_pipe_is_no_mistake(tmp_path):
    """… | true: what was done is done."""
    code = "import sys, time; time.sleep(1); from minimagen.cli import say; say('a' * 10**6); sys.exit(3)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    _, told = process.communicate(timeout=60)
    assert told == b"" and process.returncode == 3


# --- ours, and theirs --------------------


def test_debug_shows_the_traceback_of_a_mistake_of_theirs_too(monkeypatch):
    monkeypatch.setenv("MINIMAGEN_DEBUG", "1")
    with pytest.raises(ValueError, match="no prompt"):
        main(["draw"])


def test_a_worker_that_died_is_not_called_too_little_memory_alone():
    told = cli.sentence_of(RuntimeError("DataLoader worker (pid 4711) exited unexpectedly"))
    assert "a worker process died" in told and "--workers" in told
    assert cli.sentence_of(RuntimeError("shapes do not fit")) is None
    assert "out of memory" in cli.sentence_of(torch.OutOfMemoryError("CUDA out of memory"))
    assert "out of memory" in cli.sentence_of(MemoryError())
    shared = RuntimeError("unable to write to file </torch_1>: No space left (shared memory)")
    assert "out of memory" in cli.sentence_of(shared)


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0 and capsys.readouterr().out.startswith("minimagen ")


# --- Ctrl-C --------------------


@pytest.mark.parametrize("moment", [0.3, 0.9])
def test_ctrl_c_while_libraries_load(moment, tmp_path):
    process = subprocess.Popen(
        [*RUN, *DRAW, "--out", tmp_path / "a.png"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    mapped = Path(f"/proc/{process.pid}/maps")
    while (
        "python3" in mapped.read_text()
        and "/select." not in mapped.read_text()
        and process.poll() is None
    ):
        time.sleep(0.005)
    while mapped.exists() and "libtorch" not in mapped.read_text():  # main has begun, torch loads
        time.sleep(0.005)
    time.sleep(moment)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    assert err.splitlines() == ["minimagen: interrupted"]
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("worker", [False, True])
def test_ctrl_c_is_told_once_and_not_by_every_worker(worker, monkeypatch):
    interrupts, told = cli.Interrupts(), []
    interrupts.process += worker
    monkeypatch.setattr(os, "write", lambda stream, text: told.append((stream, text)))
    monkeypatch.setattr(os, "_exit", lambda status: told.append(status))
    interrupts.end()
    assert told == [130] if worker else told == [(2, b"minimagen: interrupted\n"), 130]


def test_an_interrupt_that_became_another_error_is_still_one(monkeypatch, capsys):
    def lost(args, interrupts):
        interrupts.loaded()
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ModuleNotFoundError("Could not import module 'T5EncoderModel'") from error

    monkeypatch.setattr(cli, "draw", lost)
    before = signal.getsignal(signal.SIGINT)
    assert main(DRAW) == 130
    assert capsys.readouterr().err == "minimagen: interrupted\n"
    assert signal.getsignal(signal.SIGINT) == before


# --- folders that are given one for another --------------------


def test_a_folder_above_or_below_the_right_one_gets_a_hint(tmp_path, capsys):
    told = sentence(capsys, *DRAW, "--model", CASCADE / "base", "--out", tmp_path / "a.png")
    assert "is a stage itself: give the folder above it" in told
    told = sentence(
        capsys, "train", "base", "--steps", "1", "--from", CASCADE, "--out", tmp_path / "a"
    )
    assert f"give {CASCADE / 'base'}" in told
    run = tmp_path / "model" / "base"
    run.mkdir(parents=True)
    (run / "state.safetensors").write_bytes(b"half a run")
    told = sentence(capsys, *DRAW, "--model", run.parent, "--out", tmp_path / "a.png")
    assert (
        f"it is a run that has not ended: go on with minimagen train base --resume --out {run}"
        in told
    )
