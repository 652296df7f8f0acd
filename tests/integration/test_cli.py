"""The command line: what it draws, and the one sentence that each mistake gets."""

import json
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from PIL import Image

from minimagen import cli
from minimagen.cli import main
from minimagen.config import STAGES
from minimagen.evaluation import alignment

DRAW = [sys.executable, "-m", "minimagen.cli", "draw"]


def opened(path):
    with Image.open(path) as image:
        image.load()
    return image


def test_draws_one_picture_from_a_cold_start(tmp_path):
    out = tmp_path / "cat.png"
    start = os.times()
    done = subprocess.run(
        [*DRAW, "a cat playing on the grass", "--out", out], capture_output=True, text=True
    )
    end = os.times()  # of a busy machine the clock says nothing
    seconds = sum(end[2:4]) - sum(start[2:4])  # of the processor, by processes that ended
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out) and "drawing" in done.stderr
    image = opened(out)
    assert image.size == (256, 256) and image.text["Prompt"] == "a cat playing on the grass"
    assert image.text["Seed"] == "0" and image.text["Source"] == "AI-generated"
    assert image.text["Model"]
    print(f"cold start to picture: {seconds:.1f} s of processor time")
    assert seconds < 30


def test_json_names_every_picture_and_seeds_hold(tmp_path, capsys):
    out = tmp_path / "many.png"
    arguments = ["draw", "a dog", "一只猫在草地上", "--count", "2", "--seed", "5", "--steps", "4"]
    assert main([*arguments, "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [i["seed"] for i in report["images"]] == [5, 6, 5, 6]
    assert report["device"] and report["model"]
    assert all(i["size"] == 256 and i["seconds"] > 0 for i in report["images"])
    for image in report["images"]:
        assert opened(image["path"]).text["Prompt"] == image["prompt"]
    assert opened(out).size == (516, 516) and opened(out).text["Seed"] == "5 to 6"
    alone = tmp_path / "alone.png"
    assert main(["draw", "a dog", "--seed", "6", "--steps", "4", "--out", str(alone)]) == 0
    a, b = opened(alone).convert("L"), opened(report["images"][1]["path"]).convert("L")
    differ = sum(abs(x - y) for x, y in zip(a.tobytes(), b.tobytes(), strict=True)) / 256**2
    assert differ < 2, "picture i of a prompt has seed + i, alone or in a batch"


@pytest.mark.parametrize(
    "arguments, part",
    [
        ([], "draw, train, evaluate or doctor"),
        (["draw"], "no prompt"),
        (["draw", ""], "a prompt is empty"),
        (["draw", "a cat", "  "], "a prompt is empty"),
        (["draw", "𓀀𓀁"], "is in the text encoder's vocabulary"),
        (["draw", "a cat", "--count", "0"], "'0' is not a whole number from 1"),
        (["draw", "a cat", "--count", "-3"], "'-3' is not a whole number"),
        (["draw", "a cat", "--steps", "abc"], "'abc' is not a whole number"),
        (["draw", "a cat", "--guidance", "nan"], "'nan' is not a number"),
        (["draw", "a cat", "--guidance", "inf"], "'inf' is not a number"),
        (["draw", "a cat", "--seed", "-1"], "'-1' is not a whole number"),
        (["draw", "a cat", "--seed", str(2**29)], "is not a whole number from 0 to 5e+08"),
        (["draw", "a cat", "--seed", "1.5"], "'1.5' is not a whole number"),
        (["draw", "a cat", "--out", "{tmp}"], "is a folder"),
        (["draw", "a cat", "--out", "{tmp}/no/such/out.png"], "can't be written"),
        (["draw", "a cat", "--out", "{tmp}/out.jpg"], "must end in .png"),
        (["draw", "a cat", "--model", "{tmp}/gone"], "is no folder"),
        (["draw", "a cat", "--model", "{tmp}"], "config.json is missing"),
        (["draw", "a cat", "--device", "tpu"], "--device tpu is not available here"),
        (["draw", "a cat", "--device", "cpu:1"], "--device cpu:1 is not available here"),
        (["draw", "a \ud800cat"], "no text"),
        (["draw", "a cat", "--out", "x" * 300 + ".png"], "can't be written"),
        (["draw", "a cat", "--model", "x" * 300], "is no folder"),
        (["draw", "a cat", "--model", ""], "is no folder"),
        (["draw", "a cat", "--colour", "red"], "--colour"),
        (["paint"], "paint"),
        (["evaluate", "--suite", "hard"], "no suite called 'hard'"),
        (["evaluate", "--samples", "0"], "'0' is not a whole number"),
    ],
)
def test_each_mistake_gets_one_sentence_and_status_2(arguments, part, tmp_path, capsys):
    assert main([a.replace("{tmp}", str(tmp_path)) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("minimagen: ")
    assert part in lines[0], lines[0]
    assert not list(tmp_path.iterdir())


def test_spaces_as_people_type_and_paste_them(tmp_path, capsys):
    """The wide space of Chinese keyboards, and the fixed one of web pages."""
    run = ["draw", "--steps", "1", "--json", "--out", str(tmp_path / "a.png")]
    assert main([*run, "一只猫　在草地上", "a\u00a0cat\non the grass"]) == 0
    prompts = [job["prompt"] for job in json.loads(capsys.readouterr().out)["images"]]
    assert prompts == ["一只猫 在草地上", "a cat on the grass"]


def test_output_in_a_pipe_is_utf_8(tmp_path):
    """Windows' own encoding has no σ, which the help of --text-noise needs."""
    env = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    run = [sys.executable, "-m", "minimagen.cli", "train", "--help"]
    done = subprocess.run(run, capture_output=True, env=env, check=True)
    assert "σ" in done.stdout.decode("utf-8")


def test_an_unknown_word_is_a_warning(tmp_path, capsys):
    out = tmp_path / "out.png"
    assert main(["draw", "a cat 𓀀", "--steps", "2", "--out", str(out)]) == 0
    assert "warning: unknown to the text encoder" in capsys.readouterr().err and out.exists()
    assert main(["draw", "a cat, " * 40, "--steps", "2", "--out", str(out)]) == 0
    assert "warning: too long: 'a cat, a cat" in capsys.readouterr().err


def test_a_folder_without_write_permission(tmp_path, capsys):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    assert main(["draw", "a cat", "--out", str(tmp_path / "out.png")]) == 2


@pytest.mark.parametrize("size, stages", [(64, STAGES[:2]), (256, STAGES)])
def test_evaluate_draws_image_i_with_seed_plus_i_and_the_stages_it_needs(
    size, stages, monkeypatch, capsys
):
    met = []

    class Cascade:
        vocabulary = "whole"

        def generate(self, prompts, seeds, guidance, steps):
            met.append((list(prompts), list(seeds), guidance, steps))
            return {"base": torch.zeros(1), "last": torch.ones(1)}

    def load(args, names):
        assert tuple(names) == tuple(stages)
        return Cascade(), "cpu"

    def score(sample, *told, progress):
        assert told == ("heldout", 7, "whole", size)
        assert sample(["a", "b"], 0) == sample(["c"], 2) == torch.ones(1)
        return {
            "interval": (0.25, 0.5),
            "alignment": 0.375,
            "judge_joint_accuracy": 0.99,
            "by_category": {},
        }

    monkeypatch.setattr(cli, "load", load)
    monkeypatch.setattr(alignment, "evaluate", score)
    told = [
        "--samples",
        "7",
        "--size",
        str(size),
        "--seed",
        "30",
        "--guidance",
        "2",
        "--steps",
        "9",
    ]
    assert main(["evaluate", "--suite", "heldout", *told]) == 0
    assert met == [(["a", "b"], [30, 31], 2.0, 9), (["c"], [32], 2.0, 9)]
    assert "heldout: 37.5% aligned (25.0% to 50.0%, cpu)" in capsys.readouterr().out


def test_evaluate_json(capsys, monkeypatch):
    monkeypatch.setattr(alignment, "joint_accuracy", partial(alignment.joint_accuracy, count=100))
    assert main(["evaluate", "--samples", "4", "--steps", "4", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {
        "suite", "samples", "size", "alignment", "interval", "by_category",
        "judge_joint_accuracy", "seconds",
        "alignment_strict", "interval_strict", "strict_joint_accuracy",
    }  # fmt: skip
    assert report["samples"] == 4 and 0 <= report["alignment"] <= 1
    assert report["judge_joint_accuracy"] >= 0.97
