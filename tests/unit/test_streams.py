"""Which noise a picture gets: every stage, its low-res picture and ddpm have streams of the seed of their own."""

from dataclasses import replace

import pytest
import torch

from minimagen.imagen import Imagen
from minimagen.randomness import (
    MAX_SEED,
    TrainingNoise,
    ancestral_noise,
    pool_generator,
    seeded_noise,
    step_seed,
)
from minimagen.stage import DEFAULTS, Stage
from minimagen.text import TextEncoder
from minimagen.unet import UNetConfig

TINY = UNetConfig(channels=(16, 16), blocks=(1, 1), attention=("", ""), embedding=32)


@pytest.fixture
def met(monkeypatch):
    """What Stage.sample is given, a call a dict."""
    calls = []

    def sample(self, noise, text, mask, low_res=None, low_res_noise=None, **options):
        calls.append({"noise": noise, "low_res_noise": low_res_noise, **options})
        return torch.zeros_like(noise)

    monkeypatch.setattr(Stage, "sample", sample)
    return calls


@pytest.fixture(scope="module")
def imagen():
    low = replace(TINY, low_res=True)
    stages = {
        name: Stage(replace(DEFAULTS[name], unet=TINY if name == "base" else low))
        for name in ("base", "sr64", "sr256")
    }
    return Imagen(stages, TextEncoder())


def test_stage_k_starts_from_stream_2k_and_noises_what_is_below_by_2k_plus_1(imagen, met):
    imagen.generate(["a cat", "a dog"], [5, 9])
    assert met[0]["low_res_noise"] is None
    for k, side in enumerate((16, 64, 256)):
        assert torch.equal(met[k]["noise"], seeded_noise([5, 9], (3, side, side), 2 * k))
        if k:
            below = seeded_noise([5, 9], (3, side // 4, side // 4), 2 * k + 1)
            assert torch.equal(met[k]["low_res_noise"], below)


def test_the_noise_of_ddpm_steps_is_stream_six_of_each_seed(imagen, met):
    made = imagen.generate(["a cat", "a dog"], [5, 9], last="base")
    assert list(made) == ["base"] and len(met) == 1
    like = torch.empty(2, 3, 4, 4)
    steps = [met[0]["noise_sampler"](like) for _ in range(2)]
    own = [torch.Generator().manual_seed(seed * 8 + 6) for seed in (5, 9)]
    for step in steps:
        expected = torch.stack([torch.randn(3, 4, 4, generator=g) for g in own])
        assert torch.equal(step, expected)


def test_guidance_and_steps_go_where_they_belong(imagen, met):
    """The base has the caller's; super-resolution has its config's (2 and 1), and its own number of steps."""
    imagen.generate(["a cat"], [0], guidance=7.0, steps=3)
    assert [call["guidance"] for call in met] == [7.0, 2.0, 1.0]
    assert [call["steps"] for call in met] == [3, None, None]


def test_picture_i_of_sample_has_seed_plus_i(imagen, met):
    imagen.sample(["a cat", "a cat", "a dog"], seed=4)
    assert torch.equal(met[0]["noise"], seeded_noise([4, 5, 6], (3, 16, 16), 0))
    met.clear()
    imagen.sample("a cat")
    assert torch.equal(met[0]["noise"], seeded_noise([0], (3, 16, 16), 0))
    assert met[0]["guidance"] == 4.0 and met[0]["steps"] == 20


def test_no_two_training_steps_seeds_or_streams_share_their_numbers():
    """Nor does the choice from a pool share those of a step: a CPU's generator reads 32 bits of a seed."""
    assert step_seed(2, 5, 1) == (2 * 1_000_003 + 5) * 2 + 1
    asked = [(seed, n, k) for seed in range(4) for n in range(500) for k in (0, 1)]
    first = {torch.rand((), generator=torch.Generator().manual_seed(step_seed(*a))) for a in asked}
    pool = {torch.rand((), generator=pool_generator(*a[:2])) for a in asked[::2]}
    met = torch.stack([*first, *pool]).tolist()
    assert len(met) == 6000 and len(set(met)) > 5990  # 24 bits each: now and then two are alike


def test_the_random_numbers_of_a_loss_are_uniform_normal_and_independent():
    """Whether a caption is dropped says nothing of its time, nor that of the noise in the picture below."""
    noise = TrainingNoise.draw(4000, 8, torch.Generator().manual_seed(0), crop=True, low_res=True)
    uniform = torch.stack([noise.drop, noise.t, noise.aug_level, *noise.crop.unbind(1)])
    normal = torch.cat([noise.eps[:, :, 0, 0], noise.aug_eps.flatten(1)[:, :3]], dim=1).T
    assert noise.eps.shape == (4000, 3, 8, 8) and noise.aug_eps.shape == (4000, 3, 2, 2)
    assert uniform.min() >= 0 and uniform.max() < 1
    assert uniform.mean(1).tolist() == pytest.approx([0.5] * 5, abs=0.03)
    assert uniform.std(1).tolist() == pytest.approx([12**-0.5] * 5, abs=0.02)
    assert normal.mean(1).tolist() == pytest.approx([0.0] * 6, abs=0.06)
    assert normal.std(1).tolist() == pytest.approx([1.0] * 6, abs=0.05)
    related = torch.corrcoef(torch.cat([uniform, normal])) - torch.eye(11)
    assert related.abs().max() < 0.08


# --- no two streams are one -------------------------------------------------------------------------


def beginning(seed):
    """What a generator of the CPU with this seed gives first."""
    return tuple(torch.randint(2**31, (4,), generator=torch.Generator().manual_seed(seed)).tolist())


def test_no_two_streams_of_sampling_are_one():
    """Eight of each seed, up to the largest: a generator on the CPU reads only 32 bits of what it is given."""
    seeds = [0, 1, 2, 3, 7, 8, 1000, MAX_SEED - 1, MAX_SEED]
    noise = [
        tuple(seeded_noise([seed], (4,), stream)[0].tolist())
        for seed in seeds
        for stream in range(8)
        if stream != 6
    ]
    noise += [tuple(ancestral_noise([seed])(torch.empty(1, 4))[0].tolist()) for seed in seeds]
    assert len(set(noise)) == len(noise) == 8 * len(seeds)


@pytest.mark.parametrize("seed", [0, 1, 2**16, 5 * 10**8])
def test_no_two_streams_of_a_run_are_one(seed):
    """Diffusion and text of all steps on CUDA, which reads 64 bits, and on a CPU; and the choice from a pool."""
    steps = [*range(300), 10**6, 10**8, 10**9]
    seeds = [step_seed(seed, step, stream) for step in steps for stream in (0, 1)]
    assert all(0 <= s < 2**63 for s in seeds)
    assert len(set(seeds)) == len({s % 2**32 for s in seeds}) == len({beginning(s) for s in seeds})
    chosen = [
        tuple(torch.randint(2**31, (4,), generator=pool_generator(seed, step)).tolist())
        for step in steps
    ]
    assert len(set(chosen)) == len(chosen)
    assert not set(chosen) & {beginning(s) for s in seeds}


def test_the_streams_that_files_depend_on_are_what_they_were():
    """Pictures of a prompt and seed, and the rest of a run that is resumed."""
    assert step_seed(0, 7) == 14 and step_seed(3, 7, 1) == 2 * (3 * 1_000_003 + 7) + 1
    expected = torch.randn(3, generator=torch.Generator().manual_seed(5 * 8 + 4))
    assert torch.equal(seeded_noise([5], (3,), 4)[0], expected)
