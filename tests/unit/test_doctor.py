"""The doctor: a healthy model gets no finding, and each fault that is planted is named."""

import copy
import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from minimagen import doctor
from minimagen.assets import CASCADE
from minimagen.cli import main
from minimagen.config import STAGES
from minimagen.diffusion import linear_log_snr
from minimagen.probes import surely_less
from minimagen.scenes import Scenes
from minimagen.stage import DEFAULTS, Stage
from minimagen.text import TextEncoder
from minimagen.training.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder()


@pytest.fixture
def base():
    return Stage.load(CASCADE / "base")


@pytest.fixture
def cascade(tmp_path):
    for name in STAGES:
        shutil.copytree(CASCADE / name, tmp_path / "cascade" / name)
    return tmp_path / "cascade"


def only(findings, part):
    findings = list(findings)
    assert len(findings) == 1 and part in findings[0], findings
    assert findings[0].count("\n") == 0 and ":" in findings[0], "what is wrong: what to do"


def test_the_shipped_cascade_is_healthy(capsys):
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "no common problem found\n"


def nan(stage):
    stage.unet.down[1].down.weight.data[0, 0] = torch.nan


def zero(stage):
    for p in stage.parameters():
        p.data.zero_()


def last(stage):
    stage.unet.out[-1].weight.data.zero_()


def foreign(stage):
    stage.config = replace(stage.config, text_encoder="0123456789abcdef")


def stirred(stage):
    for p in stage.unet.out.parameters():
        torch.nn.init.normal_(p, std=0.1)


def deaf(stage):
    for name, p in stage.unet.named_parameters():
        if name.startswith("pool.out") or "text_kv" in name:
            p.data.zero_()


def short(stage):  # β for 1000 steps, cut to 200 and not rescaled
    stage.schedule = lambda t: linear_log_snr(t * 0.2**0.5)


def other(stage):
    stage.config = replace(stage.config, target="eps")


@pytest.mark.parametrize(
    "plant, part",
    [
        (nan, "holds NaN or infinity"),
        (zero, "all weights are zero"),
        (last, "never trained"),
        (foreign, "trained with text encoder 0123456789abcdef"),
        (stirred, "one step of denoising errs"),
        (other, "one step of denoising errs"),
        (deaf, "the text changes nothing"),
        (short, "% of the picture"),
    ],
)
def test_a_fault_in_a_stage_is_named(plant, part, base, encoder):
    plant(base)
    only(doctor.check_stage(base, encoder), part)


@pytest.mark.parametrize("name", STAGES)
def test_a_fresh_stage_was_never_trained(name, encoder):
    only(doctor.check_stage(Stage(DEFAULTS[name]), encoder), "never trained")


def test_stages_that_do_not_fit_each_other(cascade, encoder, tmp_path):
    assert doctor.examine(cascade) == []
    (cascade / "sr64").rename(cascade / "kept")
    only(doctor.examine(cascade), "config.json is missing")
    shutil.copytree(cascade / "sr256", cascade / "sr64")
    only(doctor.examine(cascade), "holds a stage sr256, not sr64")
    (cascade / "kept" / "model.safetensors").write_bytes(b"no weights")
    only(doctor.examine(cascade / "kept"), "can't be read as a stage")
    Stage(replace(DEFAULTS["base"], unet=DEFAULTS["sr64"].unet)).save(tmp_path / "odd")
    only(doctor.examine(tmp_path / "odd"), "fits no cascade")


def keep(out, stage, step=1000, ema=None, losses=()):
    facts = {"step": step, "seconds": 1.0, "data": {}, "run": {"warmup_steps": 40}}
    facts["stage"] = asdict(stage.config)
    average = copy.deepcopy(stage.unet)
    average.load_state_dict(ema or stage.unet.state_dict())
    save_checkpoint(out, stage.unet, average, SimpleNamespace(all=[], scaler_state=dict), facts)
    rows = [json.dumps({"step": i, "loss": loss}) + "\n" for i, loss in enumerate(losses)]
    (out / "log.jsonl").write_text("".join(rows))
    return out


def test_a_fault_in_a_run_is_named(base, tmp_path):
    assert doctor.examine(keep(tmp_path, base, losses=[0.9, 0.1])) == []
    only(doctor.examine(keep(tmp_path, base, step=12)), "at step 12 and warms up for 40")
    only(doctor.examine(keep(tmp_path, base, step=40)), "at step 40 and warms up for 40")
    assert doctor.examine(keep(tmp_path, base, step=41)) == []
    only(doctor.examine(keep(tmp_path, base, losses=[0.9, float("nan")])), "the loss is nan")
    only(doctor.examine(keep(tmp_path, base, losses=[0.1, 0.9])), "the loss is 0.9, and was 0.1")
    young = {k: 0.3 * v for k, v in base.unet.state_dict().items()}
    findings = doctor.examine(keep(tmp_path, base, ema=young))
    assert "too young to sample from" in findings[0], findings
    keep(tmp_path, base, losses=[0.9, 0.1])
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"step": 31, "lo')  # the disk was full
    assert doctor.examine(tmp_path) == []
    nan(base)
    only(doctor.examine(keep(tmp_path, base)), "holds NaN or infinity")
    state = keep(tmp_path, base) / "state.safetensors"
    state.write_bytes(state.read_bytes()[:5000])
    only(doctor.examine(tmp_path), "can't be read")


class Pictures:
    identity = "planted"

    def __init__(self, images, captions):
        self.images, self.captions = images, captions

    def __len__(self):
        return len(self.captions)

    def batch(self, indices):
        return self.images[indices], [self.captions[i] for i in indices]


def test_a_fault_in_the_pictures_is_named(encoder, tmp_path, capsys):
    images, captions = Scenes(16).batch(range(8))
    assert not list(doctor.check_pictures(Pictures(images, captions), encoder))
    for planted, part in (
        (Pictures((images + 1) / 2, captions), "not in [−1, 1]"),
        (Pictures((images + 1) * 127.5, captions), "not in [−1, 1]"),
        (
            Pictures(torch.cat([images[:7], images[:1] * 0]), captions),
            "pictures [7] show one colour",
        ),
        (Pictures(images, [*captions[:7], " "]), "captions of pictures [7] are empty"),
        (Pictures(images, ["a cat"] * 8), "all captions are 'a cat'"),
        (Pictures(images, [*captions[:7], "𓀀𓀁"]), "no token of '𓀀𓀁'"),
    ):
        only(doctor.check_pictures(planted, encoder), part)
    Image.new("RGB", (8, 8)).save(tmp_path / "cat.png")
    assert main(["doctor", str(tmp_path)]) == 1
    assert "has no captions" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["gone", __file__, ""])
def test_a_bad_path_is_one_sentence_and_status_2(path, capsys):
    assert main(["doctor", path]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("minimagen: ")
    assert len(captured.err.splitlines()) == 1


def test_an_empty_folder_is_nothing_to_look_at(tmp_path, capsys):
    assert main(["doctor", str(tmp_path)]) == 2
    assert "holds no model" in capsys.readouterr().err


def test_help_does_not_wait_for_torch():
    code = "import sys, minimagen.cli; minimagen.cli.parser(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_surely_less_is_by_four_standard_errors_of_at_least_eight_differences():
    """Differences m ± 1, sixteen of them: four standard errors are 1.033."""
    spread = torch.tensor([1.0, -1.0]).repeat(8)
    for m, sure in ((1.1, True), (0.95, False)):
        assert surely_less(torch.zeros(16), 2 * (m + spread), 0.5) == sure
        assert surely_less(-m - spread, torch.zeros(16), 1.0) == sure
    for count in (7, 8):
        assert surely_less(torch.zeros(count), torch.ones(count), 1.0) == (count == 8)
