"""`minimagen train all`: three stages, one after the other; resumed, it goes on with the one that has not ended."""

from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image

from minimagen.assets import write_tensors
from minimagen.cli import main
from minimagen.config import STAGES
from minimagen.stage import DEFAULTS, Stage
from minimagen.training import cascade
from minimagen.training.checkpoint import STATE
from minimagen.training.log import RunLog
from minimagen.training.run import run_stage
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
    monkeypatch.setattr(cascade, "evaluate", lambda *_: told)
    monkeypatch.setattr(cascade, "SHOWN", 1)
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
    assert cascade.stage_row(tmp_path, stage).endswith("| – | – | – | – |")
    for step in range(1, 41):
        RunLog(tmp_path / "log.jsonl", step).append(
            {"step": step, "loss": 1.0 if step < 39 else 0.25 * (step - 38), "seconds": step * 0.3}
        )
    write_tensors({}, tmp_path / STATE, {"facts": '{"run": {"batch": 6}}'})
    size = sum(p.numel() for p in stage.parameters()) / 1e6
    row = f"| base | {size:.2f} M | 40 × 6 | 20 | 0.3750 | 12.0 |"
    assert cascade.stage_row(tmp_path, stage) == row


def test_the_judge_reads_the_prompts_with_seeds_from_nought_on(monkeypatch):
    met = []

    class Cascade:
        vocabulary = "whole"

        def generate(self, prompts, seeds, last):
            met.append((list(prompts), list(seeds), last))
            return {"base": torch.zeros(1), "sr64": torch.ones(1)}

    def evaluate(sample, suite, count, vocabulary):
        assert (suite, count, vocabulary) == ("seen", cascade.JUDGED, "whole")
        assert sample(["a", "b"], 0) == sample(["c"], 2) == torch.ones(1)
        return {"interval": (0.5, 0.75), "alignment": 0.625, "by_category": {"named object": 1.0}}

    monkeypatch.setattr(cascade, "evaluate", evaluate)
    told = " ".join(cascade.judged(Cascade()))
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
    request = cascade.TrainRequest("all", tmp_path, resume=True)
    for seconds, trained in ((209.0, 1), (210.0, 0)):  # 0.35 of ten minutes
        monkeypatch.setattr(cascade, "read_metadata", lambda out, s=seconds: {"seconds": s})
        asked.clear()
        cascade.train_one(request, "sr64", {"minutes": 10}, resume=True)
        assert len(asked) == trained
    assert (tmp_path / "sr64" / "model.safetensors").is_file()


def test_bad_input_is_one_sentence_before_anything_is_trained(tmp_path, capsys):
    assert "--minutes M or --steps N" in sentence(capsys, *RUN, "--out", tmp_path / "a")
    run = [*RUN, "--steps", 1, "--out", tmp_path / "a"]
    assert "config.json is missing" in sentence(capsys, *run, "--from", tmp_path)
    (tmp_path / "b" / "sr64").mkdir(parents=True)
    assert "is there already" in sentence(capsys, *RUN, "--steps", 1, "--out", tmp_path / "b")
    (tmp_path / "b" / "plan.json").write_text("[")
    again = [*RUN, "--steps", 1, "--resume", "--out", tmp_path / "b"]
    assert "plan.json is damaged" in sentence(capsys, *again)
    assert not (tmp_path / "a").exists() and torch.is_grad_enabled()
