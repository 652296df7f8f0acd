"""What a new stage is made with, and what training and sampling do with it, by numbers."""

from dataclasses import replace

import pytest
import torch

from minimagen.assets import CASCADE
from minimagen.config import STAGES
from minimagen.diffusion import cosine_log_snr
from minimagen.stage import DEFAULTS, SHIPPED, Stage, random_crops
from minimagen.unet import UNetConfig


def test_what_a_new_stage_is_made_with():
    held = ("schedule", "target", "max_loss_weight", "max_aug_level", "crop", "time_exponent")
    told = {name: tuple(getattr(DEFAULTS[name], k) for k in held) for name in STAGES}
    assert told["base"] == ("cosine", "v", None, 0.0, None, 0.6)
    assert told["sr64"] == ("cosine", "x_0", 8.0, 0.3, None, 1.0)
    assert told["sr256"] == ("linear", "x_0", 8.0, 0.3, 64, 1.0)
    held = ("steps", "guidance", "aug_level", "threshold", "caption_drop")
    told = {name: tuple(getattr(DEFAULTS[name], k) for k in held) for name in STAGES}
    assert told["base"] == (20, None, 0.0, "static", 0.1)
    assert told["sr64"] == (8, 2.0, 0.05, "static", 0.1)
    assert told["sr256"] == (4, 1.0, 0.02, "static", 0.1)


def test_what_a_gpu_trains_is_what_is_shipped():
    for name in STAGES:
        shipped = Stage.load(CASCADE / name).config
        kept = {k: getattr(shipped, k) for k in ("text_encoder", "vocabulary")}
        assert replace(SHIPPED[name], **kept) == shipped


@pytest.mark.parametrize("name", ["sr64", "sr256"])
def test_augmentation_by_numbers(name):
    """x = α x + σ ε at the low resolution on the cosine schedule, then enlarged; the log-SNR is given on."""
    stage = Stage(replace(DEFAULTS[name], unet=TINY))
    low, eps = torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), -1.0)
    seen, log_snr = stage.augment(low, torch.tensor([0.5]), eps)
    assert seen.shape == (1, 3, 16, 16) and log_snr.item() == pytest.approx(0.0, abs=1e-5)
    assert seen.flatten().tolist() == pytest.approx([(0.5 - 1.0) / 2**0.5] * 768, abs=1e-5)
    assert stage.augment(low, torch.tensor([0.25]), eps)[1] == cosine_log_snr(torch.tensor([0.25]))


@pytest.mark.parametrize("threshold, low, high", [("none", -1, 1), ("dynamic", -0.25, 1)])
def test_what_is_sampled_lies_in_the_range_of_images(threshold, low, high, monkeypatch):
    """A network that always says −2 in one half and 8 in the other: cut off, or scaled by 8."""
    stage = Stage(replace(DEFAULTS["base"], target="x_0", unet=replace(TINY, low_res=False)))
    says = torch.full((1, 3, 8, 8), 8.0)
    says[..., :4] = -2.0
    monkeypatch.setattr(stage.unet, "forward", lambda *_: says)
    text, mask = torch.zeros(1, 2, 256), torch.ones(1, 2, dtype=torch.bool)
    made = stage.sample(torch.randn(1, 3, 8, 8), text, mask, steps=3, threshold=threshold)
    torch.testing.assert_close(made[0, 0, 0], torch.tensor([low] * 4 + [high] * 4).float())


def test_crops_by_numbers():
    """u = 0 is the first corner, u → 1 the last, in steps of four pixels."""
    x = torch.arange(64.0).expand(4, 1, 64, 64)
    u = torch.tensor([[0.0, 0.0], [0.3, 0.5], [0.9, 0.13], [0.99, 0.999]])
    assert random_crops(x, 32, u)[:, 0, 0, 0].tolist() == [0, 16, 4, 32]


TINY = UNetConfig(
    channels=(16, 32), blocks=(1, 1), attention=("", ""), embedding=32, efficient=True, low_res=True
)
