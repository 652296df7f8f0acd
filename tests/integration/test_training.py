"""Training survives: killed and resumed, it ends at the same weights, bit for bit."""

import copy
import itertools
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image
from safetensors.torch import load_file

from minimagen.assets import CASCADE, write_tensors
from minimagen.cli import main
from minimagen.config import TrainConfig
from minimagen.doctor import examine
from minimagen.images import downsample
from minimagen.randomness import seeded_noise
from minimagen.scenes import Scenes
from minimagen.stage import DEFAULTS, Stage
from minimagen.text import TextEncoder, add_text_noise, draw_text_noise
from minimagen.training import loop as training
from minimagen.training import optimizers
from minimagen.training.checkpoint import load_checkpoint, load_ema_stage, read_metadata, readable
from minimagen.training.ema import AveragedModel
from minimagen.training.log import read_log
from minimagen.training.order import ShuffledBatches
from minimagen.training.preview import preview_of

try:
    import resource
except ImportError:  # Windows has none
    resource = None
LIMITS = pytest.mark.skipif(resource is None, reason="needs a system with resource limits")
# torch maps other amounts of memory elsewhere, and macOS keeps no process to RLIMIT_AS
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

RUN = [sys.executable, "-m", "minimagen.cli", "train", "sr64", "--steps", "14", "--batch", "4"]
RUN += ["--device", "cpu"]  # equal to the last bit is not promised elsewhere
# a checkpoint after every step: kills fall between checkpoints, and inside them
RUN += ["--checkpoint-minutes", "0", "--previews", "0"]


@pytest.fixture(autouse=True)
def forget_the_precision():
    yield
    # Accelerate keeps the first precision and device for the whole process
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The folder of RUN, in a process of its own and in one piece."""
    out = tmp_path_factory.mktemp("unbroken")
    subprocess.run([*RUN, "--out", out], check=True, capture_output=True)
    return out


def written(out):
    """When the last checkpoint was written, in nanoseconds."""
    state = out / "state.safetensors"
    return state.stat().st_mtime_ns if state.exists() else 0


def survives(unbroken, out, run, kills, seconds):
    """Run, kill up to so many seconds after a step, resume, …, until the end; compare with `unbroken`."""
    luck, landed = random.Random(kills), 0
    for _ in range(kills):
        before, deadline = written(out), time.monotonic() + 120
        process = subprocess.Popen(
            [*run, "--out", out, "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while written(out) == before and process.poll() is None:  # until it has taken a step
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(luck.uniform(0, seconds))
        landed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*run, "--out", out, "--resume"], check=True, capture_output=True)
    print(f"{landed} of {kills} kills landed inside the run")
    assert landed == kills
    one, other = (load_file(folder / "model.safetensors") for folder in (unbroken, out))
    assert equal(one, other)
    assert not list(out.glob("*.tmp")), "what a kill left half-written is cleaned up"
    logs = [read_log(folder / "log.jsonl") for folder in (unbroken, out)]
    steps_and_losses = [[(row["step"], row["loss"]) for row in rows] for rows in logs]
    assert steps_and_losses[0] == steps_and_losses[1], "no step twice, none missing"


def test_killed_twice_and_resumed_is_the_same_to_the_last_bit(unbroken, tmp_path):
    survives(unbroken, tmp_path, RUN, kills=2, seconds=0.1)


@pytest.mark.slow
def test_killed_fifty_times_and_resumed_is_the_same_to_the_last_bit(tmp_path):
    run = [*RUN, "--steps", "200"]
    subprocess.run([*run, "--out", tmp_path / "unbroken"], check=True, capture_output=True)
    survives(tmp_path / "unbroken", tmp_path / "killed", run, kills=50, seconds=0.4)


def test_killed_before_its_first_step_it_still_knows_what_it_was(tmp_path):
    """--resume alone: the weights of --from, the shares and the noise are in the first checkpoint."""
    run = "train base --device cpu --previews 0 --out".split()
    settings = "--steps 3 --batch 4 --vocabulary whole --pairs 0.8 --text-noise 0.6 --from"
    begin = [*settings.split(), str(CASCADE / "base")]
    assert main([*run, str(tmp_path / "unbroken"), *begin]) == 0
    command = [sys.executable, "-m", "minimagen.cli", *run, str(tmp_path / "killed"), *begin]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (tmp_path / "killed" / "state.safetensors").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert read_metadata(tmp_path / "killed")["step"] == 0
    assert main([*run, str(tmp_path / "killed"), "--resume"]) == 0
    one, other = (load_file(tmp_path / n / "model.safetensors") for n in ("unbroken", "killed"))
    assert equal(one, other)


def test_from_a_run_that_went_on_after_its_end_takes_its_newest_weights(tmp_path):
    args = "train base --minutes {} --batch 2 --device cpu --previews 0 --checkpoint-minutes 0 --out {}"
    old, new = tmp_path / "old", tmp_path / "new"
    assert main(args.format("0.02", old).split()) == 0
    run = [sys.executable, "-m", "minimagen.cli", *args.format("9", old).split(), "--resume"]
    process, seen = subprocess.Popen(run, stderr=subprocess.DEVNULL), set()
    while len(seen) < 9 and process.poll() is None:  # checkpoints
        seen.add(written(old))
        time.sleep(0.01)
    process.kill()
    process.wait()
    still = "train base --steps 1 --batch 2 --device cpu --previews 0 --lr 1e-7 --muon-lr 1e-7"
    assert main([*still.split(), "--from", str(old), "--out", str(new)]) == 0
    begun, newest = (
        load_file(new / "model.safetensors"),
        load_ema_stage(old).unet.state_dict(),
    )
    assert all(torch.allclose(begun[k].float(), v, atol=1e-3) for k, v in newest.items())
    gone = load_file(old / "model.safetensors")
    assert any(not torch.allclose(begun[k].float(), v.float(), atol=1e-3) for k, v in gone.items())


CPUS = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
TWO = "-m torch.distributed.run --standalone --nproc_per_node 2 -m minimagen.cli"


def test_two_processes_train_as_one(tmp_path):
    """On two gloo processes that share a batch: the losses and weights of one process that has all of it."""
    run = "train sr64 --steps 11 --batch 4 --text-noise 0.6 --device cpu --previews 0 --out".split()
    assert main([*run, str(tmp_path / "one")]) == 0
    command = [sys.executable, *TWO.split(), *run, str(tmp_path / "two")]
    subprocess.run(command, check=True, capture_output=True, env=CPUS)
    logs = [read_log(tmp_path / name / "log.jsonl") for name in ("one", "two")]
    losses, same = ([row["loss"] for row in rows] for rows in logs)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert len(losses) == 11 and losses == pytest.approx(same, rel=1e-3)
    assert apart(one, two, "sr64") < 0.1


def test_two_processes_that_are_given_minutes_end_at_the_same_step(tmp_path):
    """By one clock, which goes on from the checkpoint: one that went on alone would wait for the other for ever."""
    run = "train base --batch 4 --device cpu --previews 0 --checkpoint-minutes 0.01".split()
    run += ["--out", str(tmp_path), "--minutes"]
    assert main([*run, "0.02"]) == 0
    before = read_metadata(tmp_path)
    longer = str(before["seconds"] / 60 + 0.04)
    command = [sys.executable, *TWO.split(), *run, longer, "--resume"]
    subprocess.run(command, check=True, capture_output=True, env=CPUS, timeout=300)
    assert read_metadata(tmp_path)["step"] > before["step"]


def trained(accelerator=None, stage="base", resume=False, out=None, workers=0, **settings):
    """Weights and losses of a short run."""
    torch.manual_seed(0)
    stage = Stage(DEFAULTS[stage])
    settings = {"steps": 3, "batch": 8, "text_noise": 0.5, "workers": workers, **settings}
    encoder = TextEncoder(cache_size=0)
    config = TrainConfig(**settings)
    run = training.train(stage, Scenes(16), encoder, config, out, resume, accelerator)
    losses = [report["loss"] for report in run]
    return {k: v.clone() for k, v in stage.unet.state_dict().items()}, losses


def equal(a, b):
    return all(torch.equal(a[k], b[k]) for k in b)


def apart(one, other, stage="base"):
    """How far two ends lie apart, as a share of the way from the beginning."""
    torch.manual_seed(0)
    start = Stage(DEFAULTS[stage]).unet.state_dict()
    way = sum((one[k].float() - start[k]).square().sum() for k in start) ** 0.5
    return sum((one[k].float() - other[k].float()).square().sum() for k in start) ** 0.5 / way


def test_a_batch_in_parts_or_from_other_processes_is_the_same_batch():
    whole, losses = trained()
    workers, _ = trained(workers=1)
    assert equal(workers, whole)
    parts, same = trained(grad_accum_steps=4)  # captions are padded to other lengths there
    assert losses == pytest.approx(same, rel=1e-4)
    assert apart(whole, parts) < 0.01
    with pytest.raises(ValueError, match="choose a multiple of 3"):
        trained(grad_accum_steps=3)


def test_half_precision(tmp_path, capsys):
    _, losses = trained()
    AcceleratorState._reset_state()
    _, half = trained(Accelerator(cpu=True, mixed_precision="bf16"), out=tmp_path)
    assert half != losses and half == pytest.approx(losses, rel=0.02)
    AcceleratorState._reset_state()
    with pytest.raises(ValueError, match="other training settings \\(precision\\)"):
        trained(Accelerator(cpu=True, mixed_precision="no"), resume=True, out=tmp_path)
    run = ["train", "base", "--steps", "1", "--device", "cpu", "--out", "x"]
    assert "needs a CUDA device" in sentence(capsys, *run, "--precision", "fp16")
    facts = read_metadata(tmp_path)
    facts["run"]["precision"] = "fp16"  # as if begun on a GPU: here it would go on in fp32
    write_tensors(
        load_file(state := tmp_path / "state.safetensors"), state, {"facts": json.dumps(facts)}
    )
    run = ["train", "base", "--resume", "--device", "cpu", "--out", tmp_path]
    assert "needs a CUDA device" in sentence(capsys, *run)


def scaling(scale):
    """An accelerator that scales the loss, as in fp16."""
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return accelerator


def test_a_scaled_loss_trains_alike_and_a_step_that_overflows_is_left_out(tmp_path, monkeypatch):
    plain, _ = trained()
    scaled, _ = trained(scaling(2.0**16))  # a power of two costs no bit
    assert equal(scaled, plain)
    plain, _ = trained(muon_lr=0.0)
    scaled, _ = trained(scaling(2.0**16), muon_lr=0.0)
    assert equal(scaled, plain), "with AdamW alone, too"
    forward = Stage.forward

    def overflow(self, *inputs):  # in one of AdamW's gradients: Muon must not step either
        loss, bias = forward(self, *inputs), self.unet.stem.bias
        bias.register_hook(lambda gradient: gradient * math.inf)
        return loss

    monkeypatch.setattr(Stage, "forward", overflow)
    torch.manual_seed(0)
    start = Stage(DEFAULTS["base"]).unet.state_dict()
    assert equal(trained(scaling(1.0))[0], start)
    accelerator = scaling(2.0**127)
    monkeypatch.setattr(Stage, "forward", lambda *inputs: 8 * forward(*inputs))
    moved, losses = trained(accelerator, out=tmp_path)
    assert all(math.isfinite(loss) for loss in losses) and all(
        v.isfinite().all() for v in moved.values()
    )
    assert accelerator.scaler.get_scale() < 2.0**127
    again = scaling(1.0)
    trained(again, resume=True, out=tmp_path)
    assert again.scaler.get_scale() == accelerator.scaler.get_scale(), "the scale is resumed too"


def test_previews_show_the_averaged_weights_and_change_nothing(unbroken, tmp_path):
    run = [*RUN[3:], "--previews", "2", "--out", str(tmp_path)]
    assert main(run) == 0
    sheets = sorted((tmp_path / "previews").glob("*.png"))
    assert [p.stem for p in sheets][-1] == "0000014"
    with Image.open(sheets[-1]) as picture:
        assert picture.width == 2 * 128 + 4 and len(picture.info["Prompt"].split(" | ")) == 2
    assert equal(*(load_file(out / "model.safetensors") for out in (tmp_path, unbroken)))
    stage = Stage.load(tmp_path)
    state = load_file(tmp_path / "state.safetensors")
    shown = {}
    for kind in ("ema", "model"):
        stage.unet.load_state_dict({k: state[f"{kind}.{k}"] for k in stage.unet.state_dict()})
        look = preview_of(Scenes(64, version=2), TextEncoder(cache_size=0), tmp_path / kind, 2)
        (tmp_path / kind).mkdir()
        look(stage, 14)
        shown[kind] = np.array(Image.open(tmp_path / kind / "previews" / "0000014.png"))
    last = np.array(Image.open(sheets[-1]))
    assert (shown["ema"] == last).all() and (shown["model"] != last).any()


@pytest.mark.parametrize("guidance, expected", [(None, 4.0), (0.0, 0.0), (1.0, 1.0), (2.5, 2.5)])
def test_previews_are_guided_as_the_stage_says(tmp_path, monkeypatch, guidance, expected):
    stage, seen = Stage(replace(DEFAULTS["base"], guidance=guidance)), []

    def sample(self, noise, *_, guidance):
        seen.append(guidance)
        return noise.clamp(-1, 1)

    monkeypatch.setattr(Stage, "sample", sample)
    preview_of(Scenes(16), TextEncoder(), tmp_path, 1)(stage, 3)
    assert seen == [expected]


def test_a_preview_has_images_above_and_samples_below_by_noise_of_their_own(tmp_path, monkeypatch):
    """Start and low-resolution image are noised from different streams, always the same ones."""
    asked = []

    def sample(self, noise, text, mask, low_res, low_res_noise, *, guidance):
        asked.append((noise, low_res, low_res_noise))
        return torch.ones_like(noise)

    monkeypatch.setattr(Stage, "sample", sample)
    scenes, stage = Scenes(64), Stage(DEFAULTS["sr64"])
    preview_of(scenes, TextEncoder(), tmp_path, 2)(stage, 3)
    noise, low_res, low_res_noise = asked[0]
    images = torch.stack([scenes[i].image for i in range(2)])
    assert torch.equal(noise, seeded_noise([0, 1], (3, 64, 64), 0))
    assert torch.equal(low_res, downsample(images, 16))
    assert torch.equal(low_res_noise, seeded_noise([0, 1], (3, 16, 16), 1))
    sheet = np.array(Image.open(tmp_path / "previews" / "0000003.png"))
    assert (sheet[-128:, :128] == 255).all() and not (sheet[:128, :128] == 255).all()


def sentence(capsys, *arguments, running=False):
    """The one line on stderr; behind a progress bar, if the run had begun."""
    assert main([str(a) for a in arguments]) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert (running or len(lines) == 1) and "Traceback" not in captured.err
    assert lines[-1].startswith("minimagen: ") and captured.out == ""
    return lines[-1]


def test_a_checkpoint_that_is_cut_or_foreign_is_refused_and_kept(unbroken, tmp_path, capsys):
    out = shutil.copytree(unbroken, tmp_path / "run")
    state = out / "state.safetensors"
    whole = state.read_bytes()
    assert "holds a model" in sentence(capsys, *RUN[3:], "--out", out)
    other = ["train", "sr64", "--steps", "9", "--batch", "4", "--out", out, "--resume"]
    assert "other training settings (steps)" in sentence(capsys, *other)
    other[1] = "base"
    assert "that is a stage sr64" in sentence(capsys, *other)
    other = [*RUN[3:], "--out", out, "--resume", "--vocabulary", "whole"]
    assert "another data set (vocabulary)" in sentence(capsys, *other)
    other[-2:] = ["--muon-lr", "0"]
    assert "another optimizer" in sentence(capsys, *other)
    other[-2:] = ["--pairs", "0.6"]
    assert "another data set (pairs)" in sentence(capsys, *other)
    assert state.read_bytes() == whole, "the last good checkpoint is never lost"
    more = ["train", "sr64", "--resume", "--accumulate", "2", "--out"]
    assert main([*more, str(out)]) == 0, "all else is in the checkpoint"
    capsys.readouterr()
    (out / "config.json").rename(tmp_path / "config.json")
    (out / "model.safetensors").rename(tmp_path / "model.safetensors")
    assert "holds a run" in sentence(capsys, *RUN[3:], "--out", out)
    ended, unended = Stage.load(tmp_path), load_ema_stage(out)
    for name, value in ended.unet.state_dict().items():  # which is in fp16
        torch.testing.assert_close(value, unended.unet.state_dict()[name], atol=1e-3, rtol=1e-3)
    more = ["train", "sr64", "--steps", "1", "--batch", "2", "--previews", "0"]
    assert main([*more, "--from", str(out), "--out", str(tmp_path / "further")]) == 0
    capsys.readouterr()
    model = (tmp_path / "model.safetensors").read_bytes()
    assert "holds a model" in sentence(capsys, *more, "--resume", "--out", tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == model, "a model is not overwritten"
    state.write_bytes(whole[: len(whole) // 2])
    assert "is damaged" in sentence(capsys, *RUN[3:], "--out", out, "--resume")


def test_what_a_run_reads_and_writes_stays_free_for_others(tmp_path, capsys):
    foreign = tmp_path / "thesis.tmp"
    foreign.write_text("mine")
    (tmp_path / "state.123.tmp").write_text("half a checkpoint")
    run = "train sr64 --minutes 0.01 --batch 2 --device cpu --previews 0 --out".split()
    assert main([*run, str(tmp_path)]) == 0
    assert foreign.exists() and not (tmp_path / "state.123.tmp").exists()
    state = tmp_path / "state.safetensors"
    assert state.stat().st_mode & 0o044, "a model is for others too"
    capsys.readouterr()
    assert "--minutes is of the whole run" in sentence(capsys, *run, tmp_path, "--resume")
    stage, config = load_ema_stage(tmp_path), TrainConfig()
    ema = copy.deepcopy(stage.unet)
    both = optimizers.Optimizers(stage.unet, config)
    load_checkpoint(tmp_path, stage.unet, ema, both, read_metadata(tmp_path))
    maps = Path("/proc/self/maps")  # Linux tells what is mapped, Windows refuses to replace it
    assert not maps.exists() or str(state) not in maps.read_text(), "it is still held open"
    os.replace(shutil.copy(state, tmp_path / "next"), state)
    with pytest.raises(RuntimeError, match="^CUDA out of memory"), readable(state):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_checkpoint_can_be_looked_at_while_it_is_replaced(tmp_path):
    code = """if True:
        import json, sys, pathlib, torch
        from minimagen.assets import write_tensors
        for i in range(10**9):
            facts = {"facts": json.dumps({"step": 10 ** (i % 9)})}
            write_tensors({"a": torch.zeros(i % 7)}, pathlib.Path(sys.argv[1]), facts)"""
    state = tmp_path / "state.safetensors"
    process = subprocess.Popen([sys.executable, "-c", code, state])
    while not state.exists():
        assert process.poll() is None
        time.sleep(0.01)
    deadline, steps, reads = time.monotonic() + 60, set(), 0
    try:
        while (len(steps) < 9 or reads < 2000) and time.monotonic() < deadline:
            steps.add(read_metadata(tmp_path)["step"])
            reads += 1
    finally:
        process.kill()
        process.wait()
    assert len(steps) == 9


@LIMITS
def test_a_full_disk_is_a_sentence_and_the_last_checkpoint_stays(tmp_path):
    run = "train sr64 --batch 4 --device cpu --previews 0 --out".split() + [str(tmp_path)]
    assert main([*run, "--minutes", "0.01"]) == 0
    before = (tmp_path / "state.safetensors").read_bytes()

    def full():  # no file may grow beyond 10 MB: the same error in the same place
        resource.setrlimit(resource.RLIMIT_FSIZE, (10**7, 10**7))

    more = [*run, "--minutes", "9", "--checkpoint-minutes", "0", "--resume"]
    command = [sys.executable, "-m", "minimagen.cli", *more]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=full)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert last.startswith("minimagen: ") and "can't be written" in last and "make room" in last
    assert (tmp_path / "state.safetensors").read_bytes() == before
    assert not list(tmp_path.glob("*.tmp"))
    a_little = read_metadata(tmp_path)["seconds"] / 60 + 0.02
    assert main([*more, "--minutes", str(a_little)]) == 0


@LINUX
def test_too_little_memory_is_a_sentence(tmp_path):
    code = """if True:
        import resource, sys
        import minimagen.training.run
        from minimagen.cli import main
        mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + 4 * 10**8,) * 2)
        sys.exit(main(sys.argv[1:]))"""
    run = ["train", "base", "--steps", "1", "--batch", "256", "--device", "cpu", "--out", tmp_path]
    done = subprocess.run(
        [sys.executable, "-c", code, *run],
        capture_output=True,
        text=True,
        env={**CPUS, "TOKENIZERS_PARALLELISM": "false"},  # its threads need memory, too, and panic
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert (
        "out of memory: close other programs, or train with --accumulate 4"
        in done.stderr.splitlines()[-1]
    )


def test_your_own_pictures_end_to_end(tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    rows = []
    for i, colour in enumerate(("red", "blue", "green", "white")):
        name = f"{('train', 'test')[i % 2]}_{i}.png"  # no splits: all are trained on
        Image.new("RGB", (80, 60), colour).save(folder / name)
        rows.append({"file_name": name, "text": f"a {colour} wall"})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = [
        "train",
        "base",
        "--steps",
        "3",
        "--batch",
        "2",
        "--previews",
        "0",
        "--data",
        folder,
        "--out",
    ]
    assert main([str(a) for a in (*run, tmp_path / "run", "--resume")]) == 0
    assert "holds no run: a new one begins" in capsys.readouterr().err
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert all("denoising" not in f for f in examine(tmp_path / "run")), "emoji it never saw"
    assert "give --data again" in sentence(
        capsys, "train", "base", "--out", tmp_path / "run", "--resume"
    )
    assert "--styled is for scenes" in sentence(capsys, *run, tmp_path / "a", "--styled", 0.8)
    again = [
        "train",
        "base",
        "--steps",
        "1",
        "--from",
        tmp_path / "run",
        "--out",
        tmp_path / "more",
    ]
    assert main([str(a) for a in again]) == 0
    capsys.readouterr()

    (folder / "train_2.png").write_bytes(b"no picture")
    assert "line 3, train_2.png: it is no image" in sentence(capsys, *run, tmp_path / "a")
    assert not (tmp_path / "a").exists(), "no half-begun run is left"
    Image.new("RGB", (80, 60), "green").save(folder / "train_2.png")
    rows[1]["text"] = " "
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "empty caption" in sentence(capsys, *run, tmp_path / "b")
    (folder / "metadata.jsonl").write_bytes(b'{"file_name": "train_0.png", "text": "\xff"}')
    assert "UTF-8" in sentence(capsys, *run, tmp_path / "b")
    (folder / "metadata.jsonl").unlink()
    assert "no captions" in sentence(capsys, *run, tmp_path / "c")
    (tmp_path / "nothing").mkdir()
    assert "no captions" in sentence(
        capsys,
        "train",
        "base",
        "--steps",
        1,
        "--data",
        tmp_path / "nothing",
        "--out",
        tmp_path / "d",
    )
    assert "no folder" in sentence(
        capsys, "train", "base", "--steps", 1, "--data", tmp_path / "gone", "--out", tmp_path / "e"
    )


@pytest.mark.parametrize(
    "arguments, part",
    [
        (["train", "sr1024", "--steps", "1", "--out", "x"], "no stage called 'sr1024'"),
        (["train", "base", "--out", "x"], "--minutes M or --steps N"),
        (["train", "base", "--out", "x", "--resume"], "--minutes M or --steps N"),
        (["train", "base", "--steps", "0", "--out", "x"], "not a whole number from 1"),
        (["train", "base", "--steps", "1"], "--out"),
        (["train", "base", "--steps", "1", "--out", __file__], "is no folder"),
        (["train", "base", "--steps", "1", "--out", ""], "is no folder"),
        (
            ["train", "base", "--steps", "1", "--out", "x", "--from", "gone"],
            "config.json is missing",
        ),
    ],
)
def test_bad_training_input_is_one_sentence(arguments, part, capsys):
    assert part in sentence(capsys, *arguments)


def test_nan_stops_the_run_with_a_sentence_and_keeps_the_checkpoint(tmp_path, capsys, monkeypatch):
    forward, calls = Stage.forward, []

    def break_at_the_third_step(self, *inputs):
        calls.append(1)
        return forward(self, *inputs) * (torch.nan if len(calls) == 3 else 1)

    monkeypatch.setattr(Stage, "forward", break_at_the_third_step)
    run = ["train", "sr256", "--steps", "5", "--batch", "2", "--checkpoint-minutes", "0"]
    assert "the loss is nan" in sentence(capsys, *run, "--out", tmp_path, running=True)
    state = load_file(tmp_path / "state.safetensors")
    assert all(v.isfinite().all() for v in state.values() if v.is_floating_point())
    again = [*run, "--out", tmp_path, "--resume", "--lr", "0.001"]
    assert main([str(a) for a in again]) == 0, (
        "going on with a lower rate is what the sentence says"
    )


def test_every_picture_once_an_epoch_in_mixed_order():
    for n in (1, 2, 10, 97):
        batches = iter(ShuffledBatches(n, n, seed=3))
        epochs = [next(batches) for _ in range(2)]
        assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(n))
    assert epochs[0] != epochs[1] != list(range(n))


def test_a_batch_of_a_sorted_folder_meets_its_classes():
    """3000 images, sorted by their ten classes: 48 drawn at random meet 9.94 of them on average."""
    batches = iter(ShuffledBatches(3000, 48))
    met = [len({i // 300 for i in next(batches)}) for _ in range(300)]  # nearly five epochs
    assert sum(met) / len(met) > 9.8 and min(met) >= 7


def test_the_parts_of_a_batch_and_a_later_beginning_are_the_same_order():
    def batches(count, *arguments):
        return [i for batch in itertools.islice(ShuffledBatches(*arguments), count) for i in batch]

    whole = batches(6, 50, 12, 5)
    assert batches(4, 50, 12, 5, 2) == whole[24:], "from step 2 on"
    halves = [batches(6, 50, 12, 5, 0, range(k, k + 1), 2) for k in range(2)]
    joined = [i for k in range(6) for half in halves for i in half[6 * k : 6 * k + 6]]
    assert joined == whole
    assert batches(6, 50, 12, 6) != whole, "another seed"


def test_orthogonal_is_u_vt():
    g = torch.randn(40, 90)
    s = torch.linalg.svdvals(optimizers.orthogonal(g))
    assert s.min() > 0.6 and s.max() < 1.3
    u, _, vt = torch.linalg.svd(g, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(
        optimizers.orthogonal(g).flatten(), (u @ vt).flatten(), dim=0
    ) > 0.95  # fmt: skip


def test_muon_goes_downhill_and_a_young_ema_forgets_fast():
    torch.manual_seed(0)
    net = torch.nn.Linear(20, 20, bias=False)
    target = torch.randn(20, 20) / 4
    optimizer = optimizers.Muon([net.weight], lr=0.02)
    losses = []
    for _ in range(100):
        loss = (net.weight - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]
    average = AveragedModel(torch.nn.Linear(20, 20, bias=False), 0.999)
    torch.nn.init.zeros_(average.module.weight)
    average.update_parameters(net)
    torch.testing.assert_close(average.module.weight.detach(), net.weight.detach() * 9 / 11)


def test_muons_weights_do_not_grow_without_end():
    """A gradient that always points one way: a step stays a tenth of a per cent of the weights, or more."""
    largest = {}
    for decay in (0.0, 0.1):
        weight = torch.nn.Parameter(torch.eye(16))
        optimizer = optimizers.Muon([weight], 0.02, decay)
        for _ in range(3000):
            weight.grad = torch.eye(16)
            optimizer.step()
        largest[decay] = torch.linalg.matrix_norm(weight.detach(), 2).item()
    assert largest[0.1] < 1.3 / 0.1 < largest[0.0] / 3, largest


def test_the_rate_warms_up_stays_and_decays_to_nothing():
    stage = Stage(DEFAULTS["base"])
    settings = TrainConfig(steps=20, batch=1, warmup_steps=4, decay_fraction=0.5)
    rows = list(training.train(stage, Scenes(16), TextEncoder(), settings))
    rates = [row["lr_factor"] for row in rows]
    assert [row["lr"] for row in rows] == pytest.approx([settings.lr * rate for rate in rates])
    expected = [min(1, (n + 1) / 4, (1 - n / 20) / 0.5) for n in range(20)]
    assert rates == pytest.approx(expected) and rates[3:11] == [1.0] * 8


def test_both_optimizers_together_hold_every_parameter_once():

    unet = Stage(DEFAULTS["base"]).unet
    for muon_lr in (0.02, 0.0):
        both = optimizers.Optimizers(unet, TrainConfig(muon_lr=muon_lr)).all
        assert len(both) == (2 if muon_lr else 1)
        held = [p for o in both for g in o.param_groups for p in g["params"]]
        assert len(held) == len({id(p) for p in held}) == len(list(unet.parameters()))


def test_the_average_of_a_first_step_has_forgotten_most_of_the_beginning(tmp_path):
    torch.manual_seed(0)
    start = Stage(DEFAULTS["base"]).unet.state_dict()
    trained(out=tmp_path, steps=1, lr=0.01)
    state = load_file(tmp_path / "state.safetensors")
    for k, v in start.items():
        torch.testing.assert_close(state[f"ema.{k}"], v * 2 / 11 + state[f"model.{k}"] * 9 / 11)


def test_noise_on_token_states_spares_padding_and_repeats_itself():
    text = torch.ones(400, 6, 32)
    mask = torch.arange(6) < torch.arange(1, 401)[:, None]
    drawn = [draw_text_noise(400, 32, 0.5, torch.Generator().manual_seed(3)) for _ in range(2)]
    one, again = (add_text_noise(text, mask, *each) - text for each in drawn)
    assert torch.equal(one, again) and not one[~mask].any()
    sigma = one.flatten(1).square().sum(1).div(mask.sum(1) * 32).sqrt()  # of each caption
    assert 0.45 < sigma.max() < 0.6 and sigma.min() < 0.05
    assert abs(sigma.mean() - 0.25) < 0.03, "U(0, 0.5)"
