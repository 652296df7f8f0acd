"""The cascade: what training sees is what sampling gives it, and files that do not fit are refused."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import HfApi

from minimagen.assets import CASCADE
from minimagen.config import RESOLUTIONS, STAGES
from minimagen.diffusion import cosine_log_snr, q_sample
from minimagen.imagen import Imagen
from minimagen.images import downsample, upsample
from minimagen.stage import DEFAULTS, Stage
from minimagen.text import TextEncoder
from minimagen.unet import UNetConfig, num_parameters

LIMITS = {"base": 6e6, "sr64": 7e6, "sr256": 2e6}  # parameters
TINY = UNetConfig(
    channels=(16, 32),
    blocks=(1, 1),
    attention=("", "cross"),
    embedding=32,
    efficient=True,
    low_res=True,
)

TINY_BASE = replace(TINY, low_res=False)


@pytest.fixture(scope="module")
def imagen():
    return Imagen.from_pretrained()


def test_a_cascade_knows_what_every_stage_has_met(imagen, monkeypatch):
    for met, known in (("whole whole whole", "whole"), ("whole starter starter", "starter")):
        for stage, vocabulary in zip(imagen.stages.values(), met.split(), strict=True):
            monkeypatch.setattr(stage, "config", replace(stage.config, vocabulary=vocabulary))
        assert imagen.vocabulary == known


def test_the_text_encoder_moves_with_the_cascade_and_is_not_in_its_state(imagen):
    assert imagen.text_encoder in imagen.modules()
    assert {name.split(".")[0] for name in imagen.state_dict()} == {"stages"}
    imagen.load_state_dict(imagen.state_dict())
    cascade = Imagen({"base": Stage(replace(DEFAULTS["base"], unet=TINY_BASE))}, TextEncoder())
    assert cascade.to("meta").text_encoder.device.type == "meta"


def test_training_draws_its_times_as_the_config_says():
    """t = u^p with u ~ U(0, 1): its mean is 1 / (1 + p), and p = 1 is Imagen's."""
    for p in (1.0, 0.5):
        stage, met = Stage(replace(DEFAULTS["base"], time_exponent=p, unet=TINY_BASE)), []
        stage.schedule = lambda t, met=met: met.append(t) or cosine_log_snr(t)
        text, mask = torch.zeros(4000, 1, 256), torch.ones(4000, 1, dtype=torch.bool)
        stage(torch.zeros(4000, 3, 4, 4), text, mask, stage.draw_noise(4000, 4))
        assert met[0].mean().item() == pytest.approx(1 / (1 + p), abs=0.02)


def test_the_shipped_cascade_keeps_its_limits(imagen):
    for name, stage in imagen.stages.items():
        assert num_parameters(stage.unet) <= LIMITS[name]
        assert (CASCADE / name / "model.safetensors").stat().st_size < 16 * 2**20
        assert imagen.text_encoder.fits(stage.config.text_encoder)
    sr256 = imagen.stages["sr256"].config.unet
    assert "self" not in sr256.attention and "cross" in sr256.attention


def test_sides_and_ranges_and_the_same_seed_is_the_same_picture(imagen):
    prompts = ["a cat on the grass", "一只狗在雪地里"]
    pictures = imagen.generate(prompts, [3, 4], steps=2)
    assert {k: v.shape for k, v in pictures.items()} == {
        k: (2, 3, RESOLUTIONS[k], RESOLUTIONS[k]) for k in STAGES
    }
    assert all(v.min() >= -1 and v.max() <= 1 for v in pictures.values())
    alone = imagen.generate(prompts[:1], [3], steps=2)
    # a picture does not depend on its neighbours, though its caption is shorter
    for name in STAGES:
        torch.testing.assert_close(pictures[name][:1], alone[name], atol=2e-2, rtol=0)
        assert (pictures[name][:1] - alone[name]).abs().mean() < 1e-3
    image = imagen.sample(prompts[:1], steps=2, seed=3)[0]
    assert image.size == (256, 256)


def test_what_each_stage_is_asked_for(imagen):
    """The guidance of its config, if it has one; the steps of the call, for the base alone; a callback by name."""
    asked, told = {}, []

    def draw(stage, noise, text, mask, low_res, low_res_noise, **options):
        asked[stage.config.name] = {**options, "low_res": low_res, "low_res_noise": low_res_noise}
        options["callback"](5, noise, noise)
        return noise.clamp(-1, 1)

    images = imagen.generate(
        ["a cat"], [0], 3.0, steps=7, callback=lambda *z: told.append(z[:2]), draw_stage=draw
    )
    assert [asked[name]["guidance"] for name in STAGES] == [3.0, 2.0, 1.0]
    assert [asked[name]["steps"] for name in STAGES] == [7, None, None]
    assert asked["base"]["low_res"] is asked["base"]["low_res_noise"] is None
    assert asked["sr64"]["low_res"] is images["base"]
    assert asked["sr256"]["low_res"] is images["sr64"]
    assert told == [(name, 5) for name in STAGES]


def test_training_and_sampling_noise_the_low_res_picture_alike(monkeypatch):
    """Same range, same schedule, same order: shrink, add noise, enlarge."""
    stage = Stage(replace(DEFAULTS["sr64"], unet=TINY))
    seen = {}

    def spy(x_t, log_snr, text, mask, low_res, low_res_log_snr):
        seen["low"], seen["level"] = low_res, low_res_log_snr
        return torch.zeros_like(x_t)

    monkeypatch.setattr(stage.unet, "forward", spy)
    x_0 = torch.rand(2, 3, 16, 16) * 2 - 1
    text, mask = torch.zeros(2, 4, 256), torch.ones(2, 4, dtype=torch.bool)
    small, noise = downsample(x_0, 4), torch.randn(2, 3, 4, 4)
    drawn = stage.draw_noise(2, 16, torch.Generator().manual_seed(0))
    stage(x_0, text, mask, drawn)
    level = cosine_log_snr(drawn.aug_level * stage.config.max_aug_level)
    torch.testing.assert_close(seen["level"], level)
    torch.testing.assert_close(seen["low"], upsample(q_sample(small, level, drawn.aug_eps)))
    stage.sample(torch.randn(2, 3, 16, 16), text, mask, small, noise, aug_level=0.3, steps=1)
    log_snr = cosine_log_snr(torch.full((2,), 0.3))
    torch.testing.assert_close(seen["low"], upsample(q_sample(small, log_snr, noise)))
    torch.testing.assert_close(seen["level"], log_snr)


def test_the_schedules_are_the_papers():
    """Cosine for the base and the first super-resolution stage, linear for the last; crops only there."""
    assert [DEFAULTS[n].schedule for n in STAGES] == ["cosine", "cosine", "linear"]
    assert [DEFAULTS[n].crop is None for n in STAGES] == [True, True, False]
    assert [RESOLUTIONS[n] for n in STAGES] == [16, 64, 256], (
        "each stage multiplies the side by four"
    )
    assert DEFAULTS["sr64"].max_aug_level > DEFAULTS["sr64"].aug_level >= 0


def test_the_last_stage_is_trained_on_aligned_crops_and_run_whole(monkeypatch):
    stage = Stage(replace(DEFAULTS["sr256"], unet=TINY, crop=16, max_aug_level=0.0))
    ramp = torch.arange(64.0) / 32 - 1
    x_0 = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64), torch.zeros(64, 64)])
    seen = {}

    def spy(x_t, log_snr, text, mask, low_res, low_res_log_snr):
        seen["low"] = low_res
        return torch.zeros_like(x_t)

    monkeypatch.setattr(stage.unet, "forward", spy)
    text, mask = torch.zeros(8, 4, 256), torch.ones(8, 4, dtype=torch.bool)
    stage(
        x_0.expand(8, 3, 64, 64),
        text,
        mask,
        stage.draw_noise(8, 64, torch.Generator().manual_seed(0)),
    )
    # away from its edges, a crop sees what the whole sees
    whole = upsample(downsample(x_0[None], 16))[0]
    assert seen["low"].shape == (8, 3, 16, 16)
    places = [(whole[0, 0] - z[0, 8, 8]).abs().argmin().item() - 8 for z in seen["low"]]
    assert all(p % 4 == 0 for p in places) and len(set(places)) > 2
    for p, low in zip(places, seen["low"], strict=True):
        torch.testing.assert_close(low[0, 8, 2:14], whole[0, 8, p + 2 : p + 14], atol=2e-2, rtol=0)
    small = torch.zeros(8, 3, 16, 16)
    stage.sample(torch.randn(8, 3, 64, 64), text, mask, small, small, steps=1)
    assert seen["low"].shape == (8, 3, 64, 64)


def test_the_guided_picture_is_thresholded_not_its_parts(monkeypatch):
    stage = Stage(replace(DEFAULTS["base"], target="x_0", unet=UNetConfig()))
    picture = torch.rand(2, 3, 16, 16) * 2 - 1

    def says(x_t, log_snr, text, mask):  # the picture for a caption, half of it for none
        return (
            picture.repeat(2, 1, 1, 1) * (1 + text.any(dim=(1, 2)).float())[:, None, None, None] / 2
        )

    monkeypatch.setattr(stage.unet, "forward", says)
    text, mask = torch.ones(2, 4, 256), torch.ones(2, 4, dtype=torch.bool)
    options = {"guidance": 5.0, "steps": 1}
    noise = torch.randn(2, 3, 16, 16)
    static = stage.sample(noise, text, mask, threshold="static", **options)
    dynamic = stage.sample(noise, text, mask, threshold="dynamic", **options)
    torch.testing.assert_close(static, (3 * picture).clamp(-1, 1))
    torch.testing.assert_close(dynamic, picture, atol=2e-2, rtol=0)


def test_a_stage_saved_and_loaded_is_the_same_stage(tmp_path):
    stage = Stage(replace(DEFAULTS["sr256"], unet=TINY))
    stage.save(tmp_path)
    again = Stage.load(tmp_path)
    assert again.config == stage.config
    for a, b in zip(
        stage.unet.state_dict().values(), again.unet.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


def test_files_that_do_not_fit_are_refused_with_a_sentence(tmp_path):
    encoder = TextEncoder()
    with pytest.raises(ValueError, match="config.json is missing"):
        Stage.load(tmp_path)
    for name in STAGES:
        shutil.copytree(CASCADE / name, tmp_path / name)
    weights = tmp_path / "base" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="can.t be read"):
        Imagen.from_pretrained(tmp_path, encoder)
    shutil.copy(CASCADE / "sr64" / "model.safetensors", weights)  # foreign weights
    with pytest.raises(ValueError, match="can.t be read"):
        Imagen.from_pretrained(tmp_path, encoder)
    shutil.copy(CASCADE / "base" / "model.safetensors", weights)
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    config["text_encoder"] = "0123456789abcdef"
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="trained with text encoder 0123456789abcdef"):
        Imagen.from_pretrained(tmp_path, encoder)
    (tmp_path / "base" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="not the config of a stage"):
        Imagen.from_pretrained(tmp_path, encoder)


def test_save_pretrained_round_trip(imagen, tmp_path):
    imagen.save_pretrained(tmp_path)
    again = Imagen.from_pretrained(tmp_path, imagen.text_encoder)
    for name in STAGES:
        a, b = (m.stages[name].unet.state_dict() for m in (imagen, again))
        assert all(torch.equal(a[k].half(), b[k].half()) for k in a)


def test_on_the_hub_it_keeps_the_contract_of_model_hub_mixin(imagen, tmp_path, monkeypatch):
    """push_to_hub sends base/ sr64/ sr256/; a name on the hub is read from what was downloaded."""
    sent = {}

    def upload(self, repo_id, folder_path, **options):
        sent.update({p.relative_to(folder_path).as_posix(): p for p in folder_path.rglob("*.*")})
        snapshot = tmp_path / "models--me--cascade" / "snapshots" / ("0" * 40)
        shutil.copytree(folder_path, snapshot)

    repo = SimpleNamespace(repo_id="me/cascade")
    monkeypatch.setattr(HfApi, "create_repo", lambda self, **options: repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    imagen.push_to_hub("me/cascade")
    files = {f"{n}/{f}" for n in STAGES for f in ("config.json", "model.safetensors")}
    assert set(sent) == {*files, "README.md"}
    refs = tmp_path / "models--me--cascade" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    options = {"cache_dir": tmp_path, "local_files_only": True}
    again = Imagen.from_pretrained("me/cascade", imagen.text_encoder, **options)
    assert again.stage("sr256").config == imagen.stage("sr256").config
    for name in ("me/nothing", "no such name", "a/b/c"):
        with pytest.raises(ValueError, match="there is no cascade at"):
            Imagen.from_pretrained(name, imagen.text_encoder, **options)


FORMER = {  # what version 0.1 called them
    "max_loss_weight": "clip",
    "time_exponent": "time_power",
    "max_aug_level": "augmentation",
    "aug_level": "level",
}
FORMER_OF_UNET = {"channels": "widths", "head_dim": "head"}


@pytest.mark.parametrize("name", STAGES)
def test_a_config_in_the_names_of_version_0_1_loads(name, tmp_path):
    """Weights that lie on other people's disks keep loading, and mean the same."""
    config = json.loads((CASCADE / name / "config.json").read_text())
    assert not set(config) & set(FORMER.values()), "the shipped ones use the present names"
    former = {FORMER.get(k, k): v for k, v in config.items()}
    former["unet"] = {FORMER_OF_UNET.get(k, k): v for k, v in config["unet"].items()}
    assert set(former) != set(config) and set(former["unet"]) != set(config["unet"])
    (tmp_path / "config.json").write_text(json.dumps(former))
    (tmp_path / "model.safetensors").symlink_to(CASCADE / name / "model.safetensors")
    old, new = Stage.load(tmp_path), Stage.load(CASCADE / name)
    assert old.config == new.config
    assert all(v.equal(old.unet.state_dict()[k]) for k, v in new.unet.state_dict().items())
