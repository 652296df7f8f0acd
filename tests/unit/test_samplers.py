"""The samplers are held to diffusers' schedulers on equal noise, and to the ideal denoiser."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

from minimagen import samplers
from minimagen.diffusion import SCHEDULES, alpha_sigma, cosine_log_snr
from minimagen.randomness import seeded_noise

STEPS = 24
POINTS = torch.tensor([[-0.8, 0.3, 0.1], [0.5, -0.6, 0.9], [0.2, 0.9, -0.7]], dtype=torch.float64)


def ideal(x_t, log_snr):
    """E[x_0 | x_t] when the data set is POINTS (B, 3, 1, 1): what a perfect network would answer."""
    alpha, sigma = alpha_sigma(log_snr[:, None].double())
    flat = x_t.flatten(1).double()
    distance = ((flat[:, None] - alpha[:, None] * POINTS) ** 2).sum(-1) / (2 * sigma**2)
    return ((-distance).softmax(dim=1) @ POINTS).reshape(x_t.shape).to(x_t)


def of_a_gaussian(x_t, log_snr, mean=0.4, std=0.3):
    """E[x_0 | x_t] when the data are normal: unlike POINTS, it carries every error of a step to the end."""
    alpha, sigma = alpha_sigma(log_snr[:, None, None, None].double())
    gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
    return (mean + gain * (x_t.double() - alpha * mean)).to(x_t)


def theirs(kind, schedule, **options):
    """A diffusers scheduler on exactly our times 1, 1 − 1/N, …, 1/N."""
    alpha_bar = schedule(torch.arange(1, STEPS + 1, dtype=torch.float64) / STEPS).sigmoid()
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    betas = (1 - alpha_bar / before).numpy()
    scheduler = kind(
        num_train_timesteps=STEPS, trained_betas=betas, prediction_type="sample", **options
    )
    scheduler.set_timesteps(STEPS)
    return scheduler


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_equal_to_diffusers(name, schedule, monkeypatch):
    start = torch.randn(5, 3, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    noises = torch.randn(STEPS, 5, 3, 1, 1, dtype=torch.float64)
    kind, options = {
        "ddpm": (DDPMScheduler, {"clip_sample": False, "variance_type": "fixed_small"}),
        "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": True}),
        "dpm_solver": (
            DPMSolverMultistepScheduler,
            {"final_sigmas_type": "zero", "timestep_spacing": "trailing"},
        ),
    }[name]
    scheduler = theirs(kind, schedule, **options)
    queue = list(noises)
    x, expected = start.clone(), []
    for i, t in enumerate(scheduler.timesteps):
        log_snr = schedule(torch.tensor(1 - i / STEPS, dtype=torch.float64)).expand(5)
        if name == "ddpm":  # diffusers draws inside: hand it our noise through its generator hook
            import diffusers.schedulers.scheduling_ddpm as module

            monkeypatch.setattr(module, "randn_tensor", lambda *a, **k: queue.pop(0))
        x = scheduler.step(of_a_gaussian(x, log_snr), t, x).prev_sample
        expected.append(x)
    queue = list(noises)
    more = {"noise_sampler": lambda like: queue.pop(0)} if name == "ddpm" else {}
    ours = []
    samplers.SAMPLERS[name](
        of_a_gaussian,
        start,
        schedule,
        samplers.times(STEPS),
        callback=lambda i, x_s, x_0: ours.append(x_s),
        **more,
    )
    torch.testing.assert_close(torch.stack(ours), torch.stack(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_with_the_ideal_denoiser_they_return_the_data_set(name, schedule):
    start = torch.randn(200, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    x = samplers.SAMPLERS[name](ideal, start, schedule, samplers.times(60)).flatten(1)
    distance, nearest = torch.cdist(x.double(), POINTS).min(dim=1)
    assert distance.max() < 1e-2
    assert len(nearest.unique()) == 3, "every point of the data set is drawn"


def test_the_callback_sees_every_step_and_the_last_one_is_clean():
    seen = []
    x = samplers.ddpm(
        ideal,
        torch.randn(1, 3, 1, 1),
        cosine_log_snr,
        samplers.times(5),
        callback=lambda i, x_t, x_0: seen.append((i, x_t, x_0)),
    )
    assert [i for i, *_ in seen] == [0, 1, 2, 3, 4]
    assert torch.equal(seen[-1][1], seen[-1][2]), "no noise is added at the last step"
    assert torch.equal(seen[-1][1], x)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_ddpm_draws_noise_once_a_step_but_for_the_last(steps):
    """The same stream serves the next stage: one draw more would change its image."""
    drawn = []
    samplers.ddpm(
        ideal,
        torch.randn(1, 3, 1, 1),
        cosine_log_snr,
        samplers.times(steps),
        noise_sampler=lambda like: drawn.append(1) or torch.randn_like(like),
    )
    assert len(drawn) == steps - 1


def test_noise_of_a_picture_does_not_depend_on_its_neighbours():
    alone = seeded_noise([7], (3, 4, 4))
    among = seeded_noise([1, 7, 9], (3, 4, 4))
    assert torch.equal(alone[0], among[1])
    assert not torch.equal(alone[0], seeded_noise([7], (3, 4, 4), stream=1)[0])


def test_no_steps_is_a_sentence():
    with pytest.raises(ValueError, match="at least one step"):
        samplers.times(0)
