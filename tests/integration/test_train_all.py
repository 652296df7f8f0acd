"""`minimagen train all`: three stages, one after the other; resumed, it goes on with the one that has not ended."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image

from minimagen.assets import write_tensors
from minimagen.cli import main
from minimagen.config import PLAN, STAGES, STATE
from minimagen.errors import UserError
from minimagen.stage import DEFAULTS, Stage
from minimagen.training import cascade, report
from minimagen.training.log import RunLog, read_log
from minimagen.training.run import TrainRequest, run_stage
from minimagen.unet import UNetConfig

RUN = "train all --batch 2 --device cpu --previews 0".split()


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """A judge that reads nothing, which takes no time, and one sample."""
    told = {
        "interval": (0.0, 1.0),
        "alignment": 0.5,
        "by_category": {"named object": 0.25, "one": 1.0},
    }
    monkeypatch.setattr(report, "evaluate", lambda *_: told)
    monkeypatch.setattr(report, "SHOWN", 1)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def sentence(capsys, *arguments):
    assert main([str(a) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err.strip().splitlines()[-1]


def test_it_is_stopped_goes_on_with_the_unfinished_stage_and_reports(tmp_path, capsys, monkeypatch):
    out, asked = tmp_path / "run", []

    def stopped(request):
        asked.append((request.stage, request.resume))
        if request.stage == "sr64" and len(asked) == 2:
            raise KeyboardInterrupt
        return run_stage(request)

    monkeypatch.setattr(cascade, "run_stage", stopped)
    assert main([*RUN, "--steps", "1", "--out", str(out)]) == 130
    capsys.readouterr()
    assert "go on with --resume" in sentence(capsys, *RUN, "--steps", 1, "--out", out)
    assert "begun with --steps 1" in sentence(capsys, *RUN, "--steps", 2, "--resume", "--out", out)
    assert main([*RUN, "--resume", "--out", str(out)]) == 0
    assert [name for name, _ in asked] == ["base", "sr64", "sr64", "sr256"]
    assert capsys.readouterr().out.strip() == str(out / "report.md")
    report = (out / "report.md").read_text("utf-8")
    assert "1 steps a stage" in report and "**50.0%**" in report and "object 25%" in report
    assert all(f"| {name} |" in report for name in (*STAGES, "judge", "samples"))
    with Image.open(out / "samples.png") as picture:
        assert picture.size == (256, 256)


def test_minutes_are_shared_out(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(cascade, "run_stage", asked.append)
    monkeypatch.setattr(cascade, "write_report", lambda *_: None)
    assert main([*RUN, "--minutes", "10", "--out", str(tmp_path / "run")]) == 0
    assert [r.settings["minutes"] for r in asked] == pytest.approx([5.0, 3.5, 1.5])
    assert [r.out.name for r in asked] == list(STAGES) and sum(cascade.SHARES.values()) == 1


def test_a_row_of_the_report_by_numbers(tmp_path):
    """40 steps of 6 images in 12 seconds are 20 images a second; the loss is of the last twentieth of the rows."""
    stage = Stage(replace(DEFAULTS["base"], unet=UNetConfig((16,), (1,), ("",), embedding=32)))
    assert report.stage_row(tmp_path, stage).endswith("| – | – | – | – |")
    for step in range(1, 41):
        RunLog(tmp_path / "log.jsonl", step).append(
            {"step": step, "loss": 1.0 if step < 39 else 0.25 * (step - 38), "seconds": step * 0.3}
        )
    write_tensors({}, tmp_path / STATE, {"facts": '{"run": {"batch": 6}}'})
    size = sum(p.numel() for p in stage.parameters()) / 1e6
    row = f"| base | {size:.2f} M | 40 × 6 | 20 | 0.3750 | 12.0 |"
    assert report.stage_row(tmp_path, stage) == row


def test_the_judge_reads_the_prompts_with_seeds_from_nought_on(monkeypatch):
    met = []

    class Cascade:
        vocabulary = "whole"

        def generate(self, prompts, seeds, last):
            met.append((list(prompts), list(seeds), last))
            return {"base": torch.zeros(1), "sr64": torch.ones(1)}

    def evaluate(sample, suite, count, vocabulary):
        assert (suite, count, vocabulary) == ("seen", report.JUDGED, "whole")
        assert sample(["a", "b"], 0) == sample(["c"], 2) == torch.ones(1)
        return {"interval": (0.5, 0.75), "alignment": 0.625, "by_category": {"named object": 1.0}}

    monkeypatch.setattr(report, "evaluate", evaluate)
    told = " ".join(report.judged(Cascade()))
    assert met == [(["a", "b"], [0, 1], "sr64"), (["c"], [2], "sr64")]
    assert "**62.5%** (95 %: 50.0% to 75.0%)" in told and "object 100%" in told


def test_a_stage_that_had_its_minutes_is_ended_and_not_trained(tmp_path, monkeypatch):
    """It was stopped between its last step and its end; one that lacks a second goes on."""
    asked = []
    monkeypatch.setattr(cascade, "run_stage", asked.append)
    stage = Stage(
        replace(DEFAULTS["sr64"], unet=replace(UNetConfig((16,), (1,), ("",)), low_res=True))
    )
    monkeypatch.setattr(cascade, "load_ema_stage", lambda out: stage)
    request = TrainRequest("all", tmp_path, resume=True, settings={"minutes": 10})
    for seconds, trained in ((209.0, 1), (210.0, 0)):  # 0.35 of ten minutes
        monkeypatch.setattr(cascade, "read_metadata", lambda out, s=seconds: {"seconds": s})
        asked.clear()
        cascade.train_one(request, "sr64", resume=True)
        assert len(asked) == trained
    assert (tmp_path / "sr64" / "model.safetensors").is_file()


def test_bad_input_is_one_sentence_before_anything_is_trained(tmp_path, capsys):
    assert "--minutes M or --steps N" in sentence(capsys, *RUN, "--out", tmp_path / "a")
    run = [*RUN, "--steps", 1, "--out", tmp_path / "a"]
    assert "config.json is missing" in sentence(capsys, *run, "--from", tmp_path)
    (tmp_path / "b" / "sr64").mkdir(parents=True)
    assert "is there already" in sentence(capsys, *RUN, "--steps", 1, "--out", tmp_path / "b")
    (tmp_path / "b" / PLAN).write_text("[")
    again = [*RUN, "--steps", 1, "--resume", "--out", tmp_path / "b"]
    assert "plan.json is damaged" in sentence(capsys, *again)
    assert not (tmp_path / "a").exists() and torch.is_grad_enabled()


def folder_of(path, captions=("a red cat", "a blue dog", "a green pig")):
    """A folder of images of your own."""
    path.mkdir()
    rng = np.random.default_rng(len(captions))
    for i in range(len(captions)):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)).save(path / f"{i}.png")
    rows = [json.dumps({"file_name": f"{i}.png", "text": t}) for i, t in enumerate(captions)]
    (path / "metadata.jsonl").write_text("\n".join(rows))
    return path


def test_bad_images_are_found_before_the_plan_is_written(tmp_path, capsys):
    mine, out = folder_of(tmp_path / "mine"), tmp_path / "run"
    (mine / "1.png").write_bytes(b"no image")
    run = [*RUN, "--steps", 1, "--out", out, "--data", mine]
    assert "line 2, 1.png" in sentence(capsys, *run)
    assert not out.exists()


def test_a_resumed_run_keeps_what_it_was_begun_with(tmp_path, capsys, monkeypatch):
    """Stages that have not begun, too: their data, their settings and their scenes."""
    mine, other = folder_of(tmp_path / "mine"), folder_of(tmp_path / "other", ("a cat", "a dog"))
    out, asked = tmp_path / "run", []

    def stopped(request):
        asked.append(request)
        raise KeyboardInterrupt

    monkeypatch.setattr(cascade, "run_stage", stopped)
    run = [*RUN, "--steps", "2", "--lr", "0.001", "--out", str(out)]
    assert main([*run, "--data", str(mine)]) == 130
    again = [*RUN, "--resume", "--out", out]
    assert "give --data again" in sentence(capsys, *again)
    assert "begun with other pictures" in sentence(capsys, *again, "--data", other)
    kept = [*again, "--data", mine]
    assert "begun with --steps 2: keep that" in sentence(capsys, *kept, "--steps", 3)
    assert "begun with --batch 2: keep that" in sentence(capsys, *kept, "--batch", 4)
    assert "begun without --decay: leave it out" in sentence(capsys, *kept, "--decay", 0.5)
    assert "begun without --precision" in sentence(capsys, *kept, "--precision", "bf16")
    assert len(asked) == 1
    assert main([str(a) for a in [*kept, "--lr", "0.002"]]) == 130
    assert asked[1].settings == {"batch": 2, "steps": 2, "lr": 0.002} and asked[1].data == mine


def test_scenes_and_weights_are_in_the_plan(tmp_path, capsys, monkeypatch):
    out, asked = tmp_path / "run", []

    def stopped(request):
        asked.append(request)
        raise KeyboardInterrupt

    monkeypatch.setattr(cascade, "run_stage", stopped)
    monkeypatch.setattr(Stage, "load", lambda folder: folder)
    origin = tmp_path / "cascade"
    run = [*RUN, "--steps", "2", "--vocabulary", "whole", "--pairs", "0.5", "--out", str(out)]
    assert main([*run, "--from", str(origin)]) == 130
    assert main([*RUN, "--resume", "--out", str(out)]) == 130
    for request in asked:
        assert request.scenes == {"vocabulary": "whole", "pairs": 0.5}
        assert request.origin == origin / "base"
    again = [*RUN, "--resume", "--out", out]
    assert "with --pairs 0.5: keep that" in sentence(capsys, *again, "--pairs", 0.6)
    assert "leave --data out" in sentence(capsys, *again, "--data", folder_of(tmp_path / "mine"))


@pytest.mark.parametrize("settings", [{}, {"steps": 1, "minutes": 1.0}])
def test_minutes_and_steps_exclude_one_another_in_python_too(tmp_path, settings):
    with pytest.raises(UserError, match="either steps or minutes, and not both"):
        cascade.run_all(TrainRequest("all", tmp_path / "run", settings=settings))
    assert not (tmp_path / "run").exists()


def test_a_model_is_not_trained_over(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert "holds a model" in sentence(capsys, *RUN, "--steps", 1, "--out", tmp_path)
    for stage in ("all", "base"):
        run = cascade.run_all if stage == "all" else run_stage
        with pytest.raises(UserError, match="holds a model"):
            run(TrainRequest(stage, tmp_path, settings={"steps": 1}))


# The second process comes late: the first is then as far ahead as it can be.
LATE = """if True:
    import os, sys, time
    if os.environ["RANK"] == "1":
        time.sleep(4)
    from minimagen.cli import main
    from minimagen.training import report
    told = {"interval": (0.0, 1.0), "alignment": 0.5, "by_category": {}}
    report.evaluate, report.SHOWN = lambda *_: told, 1
    sys.exit(main(sys.argv[1:]))
"""
LAUNCHERS = {
    "torchrun": "torch.distributed.run --standalone --nproc_per_node 2",
    "accelerate": "accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1",
}


@pytest.mark.parametrize(
    "launcher, stage",
    [
        ("torchrun", "all"),
        ("accelerate", "base"),
        pytest.param("torchrun", "base", marks=pytest.mark.slow),
        pytest.param("accelerate", "all", marks=pytest.mark.slow),
    ],
)
def test_two_processes_of_which_one_comes_late(tmp_path, launcher, stage):
    script, out = tmp_path / "late.py", tmp_path / "run"
    script.write_text(LATE)
    run = f"train {stage} --steps 1 --batch 2 --device cpu --previews 0 --out {out}"
    command = [sys.executable, "-m", *LAUNCHERS[launcher].split(), str(script), *run.split()]
    cpus = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=cpus, timeout=1200)
    assert done.returncode == 0, done.stderr
    folders = [out / name for name in STAGES] if stage == "all" else [out]
    for folder in folders:
        assert (folder / "model.safetensors").is_file()
        assert [row["step"] for row in read_log(folder / "log.jsonl")] == [1]
    assert stage != "all" or (out / PLAN).is_file()
