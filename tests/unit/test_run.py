"""Where the settings of a run come from, and its clock, by numbers."""

import itertools
import json
import math
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState

from minimagen.assets import read_tensors, write_tensors
from minimagen.config import GPU_SETTINGS, STATE, TrainConfig
from minimagen.errors import UserError
from minimagen.stage import DEFAULTS, Stage
from minimagen.text import TextEncoder
from minimagen.training import loop, run
from minimagen.training.batches import Loaded, plain_error
from minimagen.training.checkpoint import (
    check_same_run,
    read_metadata,
    remove_leftovers,
)
from minimagen.training.run import TrainRequest, data_of, settings_of, starting_stage
from minimagen.unet import UNetConfig

TINY = UNetConfig(channels=(16,), blocks=(1,), attention=("",), embedding=32)


@pytest.fixture(autouse=True)
def forget_the_precision():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def begun(seconds=30.0, **settings):
    """The metadata of a checkpoint."""
    own = {**asdict(TrainConfig()), **settings, "precision": "no"}
    return {"run": own, "seconds": seconds, "step": 3, "data": {}}


def settings(out, before, device="cpu", precision=None, **given):
    request = TrainRequest("base", out, device=device, precision=precision, settings=given)
    return settings_of(request, before)


def test_settings_are_the_given_ones_then_those_of_the_run_then_the_defaults(tmp_path):
    assert settings(tmp_path, {}, steps=5) == (TrainConfig(steps=5), "no")
    before = begun(steps=9, batch=7, lr=0.001)
    config, _ = settings(tmp_path, before, lr=0.01)
    assert config == TrainConfig(steps=9, batch=7, lr=0.01)
    config, _ = settings(tmp_path, before, minutes=1.0)
    assert config == TrainConfig(minutes=1.0, batch=7, lr=0.001), "minutes take the place of steps"
    config, _ = settings(tmp_path, begun(steps=9, workers=5))
    assert config.workers is None, "they belong to the machine"
    config, _ = settings(tmp_path, begun(steps=9, muon_lr=0.0))
    assert config.muon_lr == 0
    for was, now in ((0.0, 0.01), (0.01, 0.0)):
        with pytest.raises(UserError, match="another optimizer"):
            settings(tmp_path, begun(steps=9, muon_lr=was), muon_lr=now)
    for seconds in (59.0, 60.0):
        try:
            settings(tmp_path, begun(seconds, steps=9), minutes=1.0)
            assert seconds < 60
        except UserError as error:
            assert seconds == 60 and "--minutes is of the whole run" in str(error)


def test_a_new_run_on_a_gpu_has_the_settings_of_the_shipped_weights(tmp_path):
    config, _ = settings(tmp_path, {}, "cuda", "bf16", steps=5, ema_decay=0.9)
    own = {"batch": 1536, "text_noise": 1.5, "text_noise_exponent": 2.0, "warmup_steps": 100}
    assert config == TrainConfig(steps=5, ema_decay=0.9, decay_fraction=0.7, **own)
    assert {name: told["batch"] for name, told in GPU_SETTINGS.items()} == {
        "base": 1536, "sr64": 768, "sr256": 512,
    }  # fmt: skip
    assert [GPU_SETTINGS[name].get("text_noise") for name in GPU_SETTINGS] == [1.5, 0.75, None]
    config, _ = settings(tmp_path, begun(steps=9), "cuda", "bf16")
    assert config == TrainConfig(steps=9), "one that goes on keeps those that it was begun with"


def test_precision_is_the_given_one_then_that_of_the_run(tmp_path):
    assert settings(tmp_path, {}, precision="fp32", steps=1)[1] == "no"
    assert settings(tmp_path, {}, precision="bf16", steps=1)[1] == "bf16"
    before = begun(steps=9)
    before["run"]["precision"] = "bf16"
    assert settings(tmp_path, before)[1] == "bf16"
    assert settings(tmp_path, before, precision="fp32")[1] == "no"
    with pytest.raises(UserError, match="needs a CUDA device"):
        settings(tmp_path, {}, precision="fp16", steps=1)


def test_the_first_weights_follow_from_the_seed(tmp_path):
    def first(**given):
        return starting_stage(TrainRequest("base", tmp_path, settings=given), False).state_dict()

    for given in ({}, {"seed": 5}):
        torch.manual_seed(given.get("seed", 0))
        expected = Stage(DEFAULTS["base"]).state_dict()
        assert all(v.equal(expected[k]) for k, v in first(**given).items())


def test_scenes_are_the_given_ones_then_those_of_the_run_then_the_newest(tmp_path):
    def scenes(before, **given):
        request = TrainRequest("base", tmp_path, scenes=given)
        here = SimpleNamespace(device="cpu", is_main_process=True)
        made, encoder = data_of(request, DEFAULTS["base"], {"data": before} if before else {}, here)
        assert made.size == 16 and encoder.cache_size == 0
        return made.version, made.pairs, made.vocabulary

    assert scenes({}) == (2, 0.45, "starter")
    assert scenes({}, version=1, vocabulary="whole") == (1, 0.45, "whole")
    assert scenes({"pairs": 0.7, "vocabulary": "whole"}) == (1, 0.7, "whole")
    assert scenes({"pairs": 0.7, "version": 2}, pairs=0.1) == (2, 0.1, "starter")


def test_what_a_run_that_goes_on_may_change():
    """All else changes what it learns, or the numbers that it meets."""
    free = {"minutes", "checkpoint_minutes", "lr", "muon_lr", "grad_accum_steps", "workers"}
    assert set(loop.FREE) == free


def test_progress_and_checkpoints_by_the_clock():
    of = loop.Run
    assert of._progress(SimpleNamespace(config=TrainConfig(minutes=2.0), step=3), 60.0) == 0.5
    assert of._progress(SimpleNamespace(config=TrainConfig(steps=12), step=3), 60.0) == 0.25
    for ago, due in ((170, False), (190, True)):
        clock = SimpleNamespace(saved=loop.time.monotonic() - ago, config=TrainConfig(steps=1))
        assert of.checkpoint_due(clock) == due, "three minutes"


class Greys:
    """Images for a training that is over at once."""

    identity = "greys"

    def __len__(self):
        return 4

    def batch(self, indices):
        return torch.full((len(indices), 3, 8, 8), 0.5), ["a cat"] * len(indices)


def tiny():
    torch.manual_seed(0)
    return Stage(replace(DEFAULTS["base"], unet=TINY))


def test_the_clock_of_a_log(tmp_path, monkeypatch):
    """Images a second are of one step; seconds go on where the run was stopped."""
    ticks = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: 0.25 * next(ticks)))
    config = TrainConfig(steps=6, batch=3)
    rows = []
    for row in loop.train(tiny(), Greys(), TextEncoder(), config, tmp_path):
        rows.append(row)
        if row["step"] == 4:
            break
    for one, other in itertools.pairwise(rows[1:]):
        passed = other["seconds"] - one["seconds"]
        assert passed > 0 and other["images_per_second"] == pytest.approx(3 / passed)
    assert [row["progress"] for row in rows] == pytest.approx([k / 6 for k in range(1, 5)])
    metadata = read_metadata(tmp_path) | {"seconds": 1000.0}
    tensors = {k: v.clone() for k, v in read_tensors(tmp_path / STATE).items()}
    write_tensors(tensors, tmp_path / STATE, {"facts": json.dumps(metadata)})
    rows = list(loop.train(tiny(), Greys(), TextEncoder(), config, tmp_path, resume=True))
    assert all(1000 < row["seconds"] < 1100 for row in rows)
    assert read_metadata(tmp_path)["seconds"] > rows[-1]["seconds"]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("what", ["loss", "norm of the gradient"])
def test_a_loss_or_a_gradient_that_is_no_number_ends_the_run(what, value, monkeypatch):
    told = {"loss": 1.0, "norm of the gradient": 1.0} | {what: value}
    monkeypatch.setattr(loop.Step, "__call__", lambda *_: torch.tensor([*told.values()]))
    rows = loop.train(tiny(), Greys(), TextEncoder(), TrainConfig(steps=2, batch=2))
    with pytest.raises(UserError, match=f"the {what} is {value} at step 0"):
        next(rows)


def test_the_loss_that_is_shown_is_smoothed_and_the_one_that_is_logged_is_not(monkeypatch):
    shown, logged = [], []

    class Bar:
        n = 0.0

        def __init__(self, **_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, more):
            self.n += more

        def set_postfix(self, step, loss, refresh):
            shown.append((round(self.n, 6), step, loss))

    monkeypatch.setattr(run, "tqdm", Bar)
    rows = [{"step": k, "loss": x, "progress": k / 2} for k, x in ((1, 3.0), (2, 1.0), (3, 1.0))]
    run.report(iter(rows), SimpleNamespace(append=logged.append), "base")
    assert shown == [(50, 1, "3.0000"), (100, 2, "2.9800"), (100, 3, "2.9602")] and logged == rows


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    left = ["state.12.tmp", "model.7.tmp", "config.7.tmp"]
    others = ["notes.tmp", "state.safetensors", "model.safetensors", "x.state.1.tmp", "log.jsonl"]
    for name in left + others:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(others)


class FourGreys(Greys):
    """Of which each is another."""

    def batch(self, indices):
        levels = torch.tensor(indices)[:, None, None, None] / 4
        return levels.expand(-1, 3, 8, 8).clone(), ["a cat"] * len(indices)


def test_a_run_that_goes_on_with_its_fourth_step_meets_the_images_of_the_fourth(tmp_path):
    config = TrainConfig(steps=6, batch=3, checkpoint_minutes=0)
    whole = [row["loss"] for row in loop.train(tiny(), FourGreys(), TextEncoder(), config)]
    for row in loop.train(tiny(), FourGreys(), TextEncoder(), config, tmp_path):
        if row["step"] == 4:  # its checkpoint would come next: the last is of step 3
            break
    rest = loop.train(tiny(), FourGreys(), TextEncoder(), config, tmp_path, resume=True)
    assert [row["loss"] for row in rest] == whole[3:]


def test_a_new_run_starts_from_the_average_of_another(tmp_path):
    """Of one that goes on after its end, too: its newest weights are in its state."""
    config = TrainConfig(steps=3, batch=2, lr=0.01)
    for _ in loop.train(tiny(), Greys(), TextEncoder(), config, tmp_path / "base"):
        pass
    told = read_tensors(tmp_path / "base" / STATE)
    tensors = {k: (v + 1 if k.startswith("ema.") else v).clone() for k, v in told.items()}
    metadata = read_metadata(tmp_path / "base")
    write_tensors(tensors, tmp_path / "base" / STATE, {"facts": json.dumps(metadata)})
    request = TrainRequest("base", tmp_path / "new", origin=tmp_path / "base")
    weights = starting_stage(request, resumed=False).unet.state_dict()
    assert all(v.equal(tensors[f"ema.{k}"]) for k, v in weights.items())
    (tmp_path / "base" / STATE).unlink()
    saved = starting_stage(request, resumed=False).unet.state_dict()
    assert all((v + 1 - weights[k]).abs().max() < 1e-2 for k, v in saved.items())


@pytest.mark.parametrize("part", ["data", "run", "stage"])
def test_a_run_goes_on_only_with_the_same_settings(part, tmp_path):
    """A setting that the checkpoint does not have is another one, but for settings that had defaults then."""
    own = {"data": {"seed": 0}, "run": {"batch": 48}, "stage": {"name": "base"}}
    check_same_run(tmp_path, {"version": 2, **own}, own)
    for changed in ({"seed": 1, "batch": 49, "name": "sr64"}, {"new": 2}):
        known = {k: changed.get(k, v) for k, v in own[part].items()}
        asked = own[part] | known | {k: v for k, v in changed.items() if k == "new"}
        with pytest.raises(UserError, match="resume with the same ones"):
            check_same_run(tmp_path, {"version": 2, **own}, {**own, part: asked})
    default = {"run": {"batch": 48, "clip_norm": TrainConfig().clip_norm}}
    check_same_run(tmp_path, {"version": 2, **own}, own | default)
    with pytest.raises(UserError, match="older version"):
        check_same_run(tmp_path, own, own)


def test_texts_are_encoded_in_bf16_and_never_in_fp16():
    met = []

    def encoder(captions):
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        met.append(kind)
        return torch.zeros(1, 1, 2), torch.ones(1, 1)

    for precision in ("no", "bf16", "fp16"):
        here = SimpleNamespace(device=torch.device("cpu"), mixed_precision=precision)
        source = Loaded(Greys(), encoder, here.device)
        step = SimpleNamespace(
            accelerator=here,
            source=source,
            config=TrainConfig(steps=1, batch=2),
            parts=range(1),
            num_parts=1,
            captured=False,
        )
        loop.Step.begin(step, 0)
        source.part(slice(0, 2))
    assert met == [None, torch.bfloat16, None]


def test_of_a_worker_s_error_its_sentence_is_told():
    told = 'Traceback:\n  File "x"\nminimagen.errors.UserError: line 5: it is damaged\n'
    assert str(plain_error(UserError(told))) == "line 5: it is damaged"
