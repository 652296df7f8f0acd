"""What the shipped weights make of a fixed input is what it was when they were trained (tests/golden/make.py)."""

import importlib.util
import inspect
import json
import re
from pathlib import Path

import pytest
import torch

import minimagen
from minimagen.assets import CASCADE
from minimagen.config import STAGES
from minimagen.evaluation.judge import Judge
from minimagen.evaluation.suites import suite
from minimagen.imagen import Imagen
from minimagen.randomness import seeded_noise
from minimagen.samplers import SAMPLERS
from minimagen.stage import Stage
from minimagen.text import TextEncoder

FILE = Path(__file__).resolve().with_name("make.py")
spec = importlib.util.spec_from_file_location("golden_make", FILE)
assert spec is not None and spec.loader is not None
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)
STORED = json.loads(make.FILE.read_text())


@pytest.mark.parametrize("name", STAGES)
def test_weights_and_config_are_those_that_the_numbers_are_of(name):
    """Other weights: run tests/golden/make.py, and say so in the CHANGELOG."""
    assert make.weights(name) == STORED[name]["weights"]
    config = json.loads((CASCADE / name / "config.json").read_text())
    assert config == STORED[name]["config"]


def test_the_text_encoder_is_the_one_that_the_numbers_are_of():
    assert TextEncoder(cache_size=0).fingerprint == STORED["text_encoder"]


def test_other_weights_need_another_version(tmp_path, monkeypatch):
    """`version` is the one that these weights came with: the CHANGELOG says so, and make.py asks for a new one."""
    log = (FILE.parents[2] / "CHANGELOG.md").read_text("utf-8")
    versions = dict(re.findall(r"^## ([\d.]+),.*\n((?:(?!## ).*\n)*)", log, re.M))
    assert next(iter(versions)) == minimagen.__version__, "the newest entry is of this version"
    assert "**Weights**" in versions[STORED["version"]]
    monkeypatch.setattr(make, "FILE", tmp_path / "outputs.json")
    stored = STORED | {"version": minimagen.__version__}
    of_others = {"base": {**STORED["base"], "weights": "of others"}}, {"text_encoder": "of others"}
    for change in of_others:
        make.FILE.write_text(json.dumps(stored | change))
        with pytest.raises(SystemExit, match="raise the version"):
            make.write()


@pytest.mark.parametrize("name", STAGES)
def test_outputs_of_a_shipped_stage_and_of_each_sampler(name):
    """To 0.004, where a byte of a picture is 0.008: versions of torch add in other orders."""
    found = make.outputs(name)
    assert set(found) == {"unet", *SAMPLERS}
    for what, numbers in found.items():
        assert numbers == pytest.approx(STORED[name][what], abs=4e-3), what


def test_what_the_shipped_cascade_does_unless_told_otherwise():
    """Measured choices: another one costs alignment, and nothing else would say so. Configs are held above."""
    assert inspect.signature(Stage.sample).parameters["sampler"].default == "dpm_solver"
    assert inspect.signature(Imagen.generate).parameters["guidance"].default == 4.0
    assert inspect.signature(Imagen.sample).parameters["steps"].default == 20


def alignment(count):
    """Of the first prompts of the seen suite at 64×64, whole vocabulary, as `minimagen evaluate` draws them."""
    imagen, judge = Imagen.from_pretrained(stages=STAGES[:2]), Judge.load("whole")
    prompts, right = suite("seen", "whole", count), 0
    for first in range(0, count, 20):
        some = prompts[first : first + 20]
        seeds = range(first, first + len(some))
        read = judge.read(imagen.generate([p.text for p in some], seeds)["sr64"])
        right += sum(all(p.asked.asks(s).values()) for p, s in zip(some, read, strict=True))
    return right / count


def test_sixteen_prompts_are_followed():
    assert alignment(16) >= 0.8


@pytest.mark.slow
def test_sixty_prompts_are_followed():
    assert alignment(60) >= 0.85


def test_a_seed_is_always_the_same_noise():
    """People write seeds down: 4 numbers of seed 7 in two streams."""
    noise = [seeded_noise([7], (3, 16, 16), k)[0].flatten()[:4] for k in (0, 1)]
    before = [[-0.18177, -1.26264, 0.1653, 0.37045], [0.70939, -1.14861, -0.06371, 0.85774]]
    torch.testing.assert_close(torch.stack(noise), torch.tensor(before), atol=1e-4, rtol=0)
