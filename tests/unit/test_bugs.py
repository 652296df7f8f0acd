"""Twelve bugs that others shipped, one test against each; every one was put in, and its test went red."""

import inspect
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_pre_hook

from minimagen import stage as module
from minimagen.assets import CASCADE
from minimagen.cli import main
from minimagen.config import STAGES, TrainConfig
from minimagen.diffusion import (
    SCHEDULES,
    TARGETS,
    alpha_sigma,
    append_dims,
    cosine_log_snr,
    diffusion_loss,
    q_sample,
    training_target,
)
from minimagen.guidance import dynamic_threshold, guided, null_text, static_threshold
from minimagen.imagen import Imagen
from minimagen.images import upsample
from minimagen.randomness import seeded_noise
from minimagen.samplers import SAMPLERS, ddpm, times
from minimagen.scenes import Folder, artwork
from minimagen.stage import DEFAULTS, Stage, StageConfig
from minimagen.text import TextEncoder
from minimagen.training import loop as training
from minimagen.training import optimizers
from minimagen.unet import PRESETS, UNet, UNetConfig

TINY = UNetConfig(
    channels=(16, 32), blocks=(1, 1), attention=("", "self"), text_width=8, embedding=32
)


SHOWN = torch.tensor([True, True, False])  # the mask that `given` gives: the last token is padding


class Words:
    """A text encoder that knows nothing: each text is noise of its own length."""

    fingerprint = "words"

    def fits(self, trained_with):
        return trained_with in ("", self.fingerprint)

    def check(self, text):
        return []

    def __call__(self, texts):
        g = torch.Generator().manual_seed(len(texts))
        mask = torch.ones(len(texts), 5, dtype=torch.bool)
        mask[0, 3:] = False
        return torch.randn(len(texts), 5, 8, generator=g) * mask[..., None], mask


class Pictures:
    """Data of your own: a few pictures of noise."""

    identity = "noise"

    def __len__(self):
        return 8

    def batch(self, indices):
        return torch.randn(len(indices), 3, 16, 16).clamp(-1, 1), ["noise"] * len(indices)


def small(name="base", **changes):
    torch.manual_seed(0)
    config = DEFAULTS[name]
    unet = replace(TINY, efficient=config.unet.efficient, low_res=config.unet.low_res)
    return Stage(replace(config, unet=unet, **changes))


def stir(module):
    """Layers that start at zero hide what lies before them: give them something."""
    for p in module.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.05)
    return module


def given(stage, monkeypatch, batch=4, side=16, x_0=None, seed=0):
    """What one training step of a stage gives to its U-Net, and to the loss, as a dictionary."""
    seen, loss = {}, module.diffusion_loss

    def unet(x_t, log_snr, text, mask, low_res=None, low_res_log_snr=None):
        seen.update(x_t=x_t, log_snr=log_snr, text=text, mask=mask, low=low_res)
        return torch.zeros_like(x_t)

    def spy(network, x_0, t, eps, *rest):
        seen.update(x_0=x_0, t=t, eps=eps)
        return loss(network, x_0, t, eps, *rest)

    monkeypatch.setattr(stage.unet, "forward", unet)
    monkeypatch.setattr(module, "diffusion_loss", spy)
    x_0 = torch.rand(batch, 3, side, side) * 2 - 1 if x_0 is None else x_0
    text = torch.ones(len(x_0), 3, 8)
    noise = stage.draw_noise(len(x_0), x_0.shape[-1], torch.Generator().manual_seed(seed))
    stage(x_0, text, SHOWN.expand(len(x_0), 3), noise)
    return seen


def test_01_low_res_picture_noised_in_one_range_and_sampled_in_another(monkeypatch):
    """MinImagen, and imagen-pytorch's issue 160: [−1, 1] in training, [0, 1] in sampling.

    test_imagen.py replays a whole training step. Here: what the cascade hands on is the picture itself.
    """
    stages = {name: small(name, target="x_0") for name in STAGES}
    handed = {}

    def watched(name):
        def unet(x_t, log_snr, text, mask, low_res=None, low_res_log_snr=None):
            handed[name] = low_res, low_res_log_snr
            return torch.full_like(x_t, -0.5)

        return unet

    for name, stage in stages.items():
        monkeypatch.setattr(stage.unet, "forward", watched(name))
    pictures = Imagen(stages, Words()).generate(["a"], [0], guidance=1.0, steps=1)
    for k, (below, name) in enumerate((("base", "sr64"), ("sr64", "sr256"))):
        log_snr = cosine_log_snr(torch.tensor([stages[name].config.aug_level]))
        noise = seeded_noise([0], pictures[below].shape[1:], 2 * k + 3)
        low_res, level = (z[:1] for z in handed[name])
        assert pictures[below].mean() == -0.5 and torch.equal(level, log_snr)
        torch.testing.assert_close(low_res, upsample(q_sample(pictures[below], log_snr, noise)))
    low = given(small("sr64", max_aug_level=0.0), monkeypatch)["low"]
    assert low.min() < -0.3 and low.mean().abs() < 0.1, "training: the same range"


def test_02_clipping_a_list_that_has_lost_its_modules():
    """MinImagen: the list of parameters was empty by the time it was clipped, so nothing was."""
    stage, norms = stir(small(caption_drop=0.0)), []

    def look(optimizer, *_):
        if isinstance(optimizer, optimizers.Muon):
            gradients = [p.grad.norm() for p in stage.parameters()]
            assert all(gradients), "every parameter has its say"
            norms.append(torch.stack(gradients).norm().item())

    hook = register_optimizer_step_pre_hook(look)
    settings = TrainConfig(steps=3, batch=2, clip_norm=1e-3)
    list(training.train(stage, Pictures(), Words(), settings))
    hook.remove()
    assert len(norms) == 3 and max(norms) <= 1.001e-3


@pytest.mark.parametrize("name", STAGES)
def test_03_padding_that_is_pooled_or_attended_to(name):
    """MinImagen took the mean over padding; IF attends to it. Here the shipped shapes, all layers stirred."""
    torch.manual_seed(0)
    unet = stir(UNet(PRESETS[name])).eval()
    x, level = torch.randn(2, 3, 16, 16), torch.zeros(2)
    low = {"low_res": x, "low_res_log_snr": level} if unet.config.low_res else {}
    text, mask = torch.randn(2, 9, 256), torch.arange(9) < torch.tensor([[4], [9]])
    with torch.no_grad():
        padded = unet(x, level, text, mask, **low)
        low = {k: v[:1] for k, v in low.items()}
        bare = unet(x[:1], level[:1], text[:1, :4], mask[:1, :4], **low)
    torch.testing.assert_close(padded[:1], bare, atol=1e-4, rtol=1e-4)


def test_03_padding_that_leaves_the_encoder():
    """The states of padding are zero, and no state of a word depends on it (more in test_text.py)."""
    states, mask = TextEncoder()(["a cat", "two dogs to the left of a red car on the beach"])
    assert not states[~mask].any() and not mask[0].all()


@pytest.mark.parametrize("name", STAGES)
def test_03_and_08_one_mask_and_one_schedule_in_training_and_in_sampling(name, monkeypatch):
    """Each caption keeps its padding, a dropped one has length one; sampling starts where training ends."""
    stage, schedule, told = small(name), SCHEDULES[DEFAULTS[name].schedule], []
    seen = given(stage, monkeypatch, batch=64)
    torch.testing.assert_close(seen["log_snr"], schedule(seen["t"]))
    kept = seen["text"].any(dim=(1, 2))
    assert 0 < kept.sum() < 64
    assert (seen["mask"][kept] == SHOWN).all() and (seen["mask"][~kept].sum(dim=1) == 1).all()

    def unet(x_t, log_snr, text, mask, *low):
        told.append((log_snr, mask))
        return torch.zeros_like(x_t)

    monkeypatch.setattr(stage.unet, "forward", unet)
    text, mask = Words()(["a", "b"])
    low = torch.zeros(2, 3, 4, 4) if stage.config.unet.low_res else None
    stage.sample(torch.randn(2, 3, 16, 16), text, mask, low, low, steps=3, guidance=2.0)
    for (log_snr, shown), expected in zip(told, schedule(times(3))[:-1], strict=True):
        torch.testing.assert_close(log_snr, expected.float().expand(4))
        assert torch.equal(shown[:2], mask) and (shown[2:].sum(dim=1) == 1).all()


def test_04_dynamic_thresholding_with_a_cap_of_one(monkeypatch):
    """diffusers' default, and IF's stages 2 and 3: s ≤ 1, so "dynamic" is exactly static."""
    picture = torch.rand(2, 3, 16, 16) * 2 - 1
    for s in (1.5, 4.0, 40.0):
        dynamic = dynamic_threshold(s * picture)
        torch.testing.assert_close(dynamic, picture, atol=2e-2, rtol=0)
        assert (dynamic - static_threshold(s * picture)).abs().mean() > 0.1
    expected = {"dynamic": picture, "static": (4 * picture).clamp(-1, 1)}
    # and sampling does what the stage's config says
    for name, kind in itertools.product(STAGES, expected):
        stage = small(name, target="x_0", threshold=kind)
        monkeypatch.setattr(stage.unet, "forward", lambda *_: 4 * picture)
        low = torch.zeros(2, 3, 4, 4) if stage.config.unet.low_res else None
        text, mask = Words()(["a", "b"])
        x_0 = stage.sample(torch.randn_like(picture), text, mask, low, low, steps=2)
        torch.testing.assert_close(x_0, expected[kind], atol=2e-2, rtol=0)


def test_05_nearest_neighbour_downsampling(monkeypatch):
    """imagen-pytorch shrinks by nearest neighbour inside `forward`: it learns aliased pictures."""
    stripes = torch.ones(4, 3, 64, 64)
    # nearest sees none of them, and bilinear between the middle ones neither
    stripes[..., 3::4] = -1
    for name in ("sr64", "sr256"):
        stage = small(name, max_aug_level=0.0, crop=None)
        grey = given(stage, monkeypatch, x_0=stripes)["low"]
        assert (grey - 0.5).abs().max() < 0.05, "stripes of one pixel are grey from afar"


def test_05_in_the_data(tmp_path):
    """The base learns from what the data sets shrink: sprites, and pictures of your own."""
    stripes = np.full((64, 64, 3), 255, np.uint8)
    stripes[:, 3::4] = 0
    Image.fromarray(stripes).save(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "stripes"}')
    image, _ = Folder(tmp_path, 16)[0]
    assert (image - 0.5).abs().max() < 0.01
    large = np.asarray(artwork.sprite("bus", "flat").convert("RGBa"), dtype=float)
    average = large.reshape(32, 4, 32, 4, 4).mean(axis=(1, 3))
    assert np.abs(artwork._sprite("bus", "flat", None, 0.5, 64) - average).max() <= 1


@pytest.mark.parametrize("target", TARGETS)
def test_06_a_target_overwritten_with_the_models_own_output(target):
    """imagen-pytorch's self-conditioning. Whatever the network says, it is held to the true picture."""
    x_0, eps, one, other = torch.randn(4, 3, 3, 4, 4)
    t = torch.tensor([0.2, 0.5, 0.8])
    kept = x_0.clone(), eps.clone()
    truth = training_target(x_0, eps, cosine_log_snr(t), target)
    for output in (one, other, truth):
        loss = diffusion_loss(lambda *_, o=output: o, x_0, t, eps, cosine_log_snr, target)
        torch.testing.assert_close(loss, (output - truth).square().mean())
    assert torch.equal(x_0, kept[0]) and torch.equal(eps, kept[1])


def test_06_on_its_way_to_the_loss(monkeypatch):
    """… and a stage hands the loss its picture as it is."""
    for name in STAGES:
        picture = torch.rand(4, 3, 16, 16) * 2 - 1
        seen = given(small(name), monkeypatch, x_0=picture.clone())
        assert torch.equal(seen["x_0"], picture)


def test_07_captions_dropped_at_one_rate_here_and_another_there(monkeypatch):
    """imagen-pytorch: cond_drop_prob is 0.5 in one config and 0.1 in another. Imagen: 10 %, every stage."""
    configs = [StageConfig(), *DEFAULTS.values()]
    configs += [Stage.load(CASCADE / name).config for name in STAGES]
    assert {c.caption_drop for c in configs} == {0.1}
    for name in STAGES:
        x_0 = torch.zeros(4000, 3, 8, 8)
        text = given(small(name), monkeypatch, x_0=x_0)["text"]
        dropped = 1 - text.any(dim=(1, 2)).float().mean()
        assert 0.08 < dropped < 0.12, f"{name} drops {dropped:.1%}"


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 4, 20, 200, 1000])
def test_08_a_schedule_that_does_not_end_in_noise(name, steps):
    """Copies of The Annotated Diffusion Model, and UDL: 1000 steps cut to 200, β not rescaled.

    √ᾱ at the end was 0.36, yet sampling began with pure noise. Ours ends alike at any number of steps.
    """
    t = times(steps)
    alpha, sigma = alpha_sigma(SCHEDULES[name](t))
    assert t[0] == 1 and t[-1] == 0 and len(t) == steps + 1
    assert alpha[0] < 0.01 and sigma[-1] < 0.02


def is_normal(noise):
    """Mean 0, variance 1, fourth moment 3, as no uniform noise has it."""
    noise = noise.double()
    assert noise.mean().abs() < 0.03 and (noise.var() - 1).abs() < 0.05
    assert (noise.pow(4).mean() - 3).abs() < 0.3


def test_09_uniform_noise_where_it_is_normal(monkeypatch):
    """Acids, UDL: `rand` for `randn`. Every draw of training and of sampling is held to its moments."""
    seen = given(small(), monkeypatch, batch=500, side=16)
    is_normal(seen["eps"])
    is_normal((seen["x_t"] - at(seen)[0] * seen["x_0"]) / at(seen)[1])
    u = seen["t"] ** (1 / DEFAULTS["base"].time_exponent)
    assert abs(u.mean() - 0.5) < 0.05 and abs(u.var() - 1 / 12) < 0.01
    assert (seen["x_0"] - seen["eps"]).square().mean() > 1, "and it is not the picture"
    is_normal(seeded_noise(range(50), (3, 16, 16)))
    is_normal(inspect.signature(ddpm).parameters["noise_sampler"].default(torch.zeros(20_000)))
    noised, augment = [], Stage.augment

    def spy(self, low_res, level, eps):
        noised.append(eps)
        return augment(self, low_res, level, eps)

    monkeypatch.setattr(Stage, "augment", spy)
    given(small("sr64"), monkeypatch, batch=500, side=32)
    drawn, sample = [], Stage.sample

    def watch(self, noise, *rest, **options):
        drawn.extend([noise, options["noise_sampler"](noise), options["noise_sampler"](noise)])
        return sample(self, noise, *rest, **options)

    monkeypatch.setattr(Stage, "sample", watch)
    cascade = Imagen({name: small(name) for name in ("base", "sr64")}, Words())
    cascade.generate(["a"] * 30, range(30), steps=1)
    for noise in noised + drawn:
        is_normal(noise)
    assert not torch.equal(drawn[1], drawn[2]), "new noise at each step"
    base, above = (z[0].flatten() for z in (drawn[1], drawn[4]))
    assert not torch.equal(base, above[: len(base)]), "and at each stage"


def at(seen):
    return alpha_sigma(append_dims(seen["log_snr"], seen["x_t"]))


def test_09_beta_for_its_root_and_noise_at_the_last_step():
    """Acids, UDL. With x̂_0 = 0 and x = 0 a step leaves its own noise: its variance is b² σ_s² / σ_t²."""
    t, x = times(2), torch.zeros(1, 3, 2, 2)
    states = []
    for noise in (torch.zeros_like, torch.ones_like):
        ddpm(lambda z, _: 0 * z, x, cosine_log_snr, t, noise, lambda i, z, _: states.append(z))
    log_snr = cosine_log_snr(t)
    (alpha_t, alpha_s, _), (sigma_t, sigma_s, _) = (z.tolist() for z in alpha_sigma(log_snr))
    variance = (sigma_t**2 - (alpha_t / alpha_s) ** 2 * sigma_s**2) * sigma_s**2 / sigma_t**2
    torch.testing.assert_close(states[2] - states[0], torch.full_like(x, variance**0.5))
    for sampler in SAMPLERS.values():  # the last step lands on x̂_0 itself
        x_0 = torch.full((2, 3, 4, 4), 0.25)
        out = sampler(lambda *_, x_0=x_0: x_0, torch.randn_like(x_0), cosine_log_snr, times(3))
        assert torch.equal(out, x_0)


def test_10_covariance_written_as_its_root():
    """Hugging Face's diffusion class has √(1−ᾱ) I for (1−ᾱ) I; test_diffusion.py measures it on draws."""
    log_snr = torch.tensor([-2.0, 0.0, 3.0])
    zeros, ones = torch.zeros(3, 1, 1, 1), torch.ones(3, 1, 1, 1)
    one_minus_alpha_bar = 1 / (1 + log_snr.exp())
    scale = q_sample(zeros, log_snr, ones).flatten()
    torch.testing.assert_close(scale**2, one_minus_alpha_bar)
    torch.testing.assert_close(
        q_sample(ones, log_snr, zeros).flatten() ** 2 + scale**2, ones.flatten()
    )


def test_11_an_average_too_young_to_sample_from():
    """improved-diffusion's issues 13 and 59: after few steps, the EMA still is the weights at the start."""
    stage = small()
    begun = {k: v.clone() for k, v in stage.unet.state_dict().items()}
    for _ in training.train(stage, Pictures(), Words(), TrainConfig(steps=12, batch=2)):
        last = {k: v.clone() for k, v in stage.unet.state_dict().items()}
    average = stage.unet.state_dict()

    def far(a, b):
        return sum((a[k].cpu() - b[k].cpu()).square().sum().item() for k in a) ** 0.5

    assert 0 < far(average, last) < 0.7 * far(average, begun)


def test_12_guidance_off_by_one(monkeypatch, tmp_path):
    """w here, w − 1 there (the paper and smalldiffusion differ): ours is the paper's, from prompt to U-Net."""
    text, mask = Words()(["a", "b"])
    x, log_snr = torch.randn(2, 3, 4, 4), torch.zeros(2)

    def says(x, log_snr, text, mask):  # 1 for a caption, 0 for none
        return text.any(dim=(1, 2)).float()[:, None, None, None].expand_as(x)

    assert not null_text(text, mask)[0].any()
    for w in (0.0, 1.0, 1.5, 4.0):
        assert torch.equal(guided(says, x, log_snr, text, mask, w), torch.full_like(x, w))
    asked = {}

    def sample(self, noise, *rest, guidance, **options):
        asked[self.config.name] = guidance
        return noise

    monkeypatch.setattr(Stage, "sample", sample)
    cascade = Imagen({name: small(name) for name in STAGES}, Words())
    command = [
        "draw",
        "a cat",
        "--guidance",
        "3",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "a.png"),
    ]
    for draw in (
        lambda: cascade.generate(["a"], [0], guidance=3.0),
        lambda: cascade.sample(["a"], guidance=3.0),
        lambda: main(command),
    ):
        asked.clear()
        draw()
        assert asked == {"base": 3.0, "sr64": DEFAULTS["sr64"].guidance, "sr256": 1.0}
