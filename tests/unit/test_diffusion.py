"""The diffusion is held to closed forms."""

import math

import pytest
import torch

from minimagen import diffusion as d

T = torch.linspace(0, 1, 101, dtype=torch.float64)


@pytest.mark.parametrize("name", d.SCHEDULES)
def test_alpha_and_sigma_keep_the_variance_and_noise_only_grows(name):
    log_snr = d.SCHEDULES[name](T)
    alpha, sigma = d.alpha_sigma(log_snr)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(T))
    assert (log_snr.diff() < 0).all()
    assert alpha[-1] ** 2 < 1e-3, "sampling starts from pure noise: hardly any picture may be left"
    assert sigma[0] ** 2 < 1e-3


def test_cosine_is_a_cosine_and_linear_is_hos_thousand_steps():
    alpha, _ = d.alpha_sigma(d.cosine_log_snr(T[5:96]))
    torch.testing.assert_close(alpha, torch.cos(T[5:96] * math.pi / 2), atol=5e-3, rtol=0)
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alpha_bar = (1 - betas).cumprod(0)[99::100]
    ours = d.linear_log_snr(torch.arange(0.1, 1.01, 0.1, dtype=torch.float64)).sigmoid()
    torch.testing.assert_close(ours, alpha_bar, atol=2e-3, rtol=0)


def test_q_sample_has_the_mean_and_the_variance_of_the_closed_form():
    x_0 = torch.full((20_000, 1, 1, 1), 0.7)
    log_snr = torch.full((20_000,), -1.0)
    x_t = d.q_sample(
        x_0, log_snr, torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
    )
    assert abs(x_t.mean() - 0.7 * torch.tensor(-1.0).sigmoid().sqrt()) < 0.02
    assert abs(x_t.var() - torch.tensor(1.0).sigmoid()) < 0.02  # the covariance is σ², not σ


@pytest.mark.parametrize("target", d.TARGETS)
def test_targets_are_one_thing_and_round_trip(target):
    x_0, eps = torch.randn(2, 8, 3, 4, 4, dtype=torch.float64)
    log_snr = torch.linspace(-6, 6, 8, dtype=torch.float64)
    x_t = d.q_sample(x_0, log_snr, eps)
    output = d.training_target(x_0, eps, log_snr, target)
    torch.testing.assert_close(d.to_x_0(x_t, output, log_snr, target), x_0, atol=1e-9, rtol=0)
    torch.testing.assert_close(d.to_eps(x_t, x_0, log_snr), eps, atol=1e-9, rtol=0)


@pytest.mark.parametrize("clip", [None, 8.0])
def test_clipped_losses_on_every_target_are_one_loss_on_x_0(clip):
    """The same error in x̂_0 must weigh min(SNR + 1, clip), whatever the network predicts."""
    x_0, eps, wrong = torch.randn(3, 6, 3, 4, 4, dtype=torch.float64)
    t = torch.linspace(0.15, 0.9, 6, dtype=torch.float64)
    log_snr = d.cosine_log_snr(t)
    x_t = d.q_sample(x_0, log_snr, eps)
    losses = {}
    for target in d.TARGETS:
        implied = d.training_target(wrong, d.to_eps(x_t, wrong, log_snr), log_snr, target)
        losses[target] = d.diffusion_loss(
            lambda *_, out=implied: out, x_0, t, eps, d.cosine_log_snr, target, clip
        )
    if clip is None:  # plain MSE: v's error is the x_0 error over σ²
        v = ((wrong - x_0) ** 2).mean(dim=(1, 2, 3)) * (log_snr.exp() + 1)
        torch.testing.assert_close(losses["v"], v.mean())
    else:
        torch.testing.assert_close(losses["x_0"], losses["v"])
        torch.testing.assert_close(losses["eps"], losses["v"])


def test_an_unknown_target_is_a_sentence():
    with pytest.raises(ValueError, match="target must be one of"):
        d.training_target(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2), torch.zeros(1), "noise")


@pytest.mark.parametrize("cap", [1.0, 8.0, 20.0])
def test_the_loss_weight_in_closed_form(cap):
    """On the error of x̂_0 it is min(SNR + 1, cap); an error of ε is SNR, of v SNR + 1 times that of x_0."""
    log_snr = torch.tensor([-12.0, -3.0, 0.0, math.log(6), math.log(7), 2.5, 5.0, 12.0]).double()
    for i, snr in enumerate(math.exp(value) for value in log_snr.tolist()):
        on_x_0 = min(snr + 1, cap)
        for target, per_x_0 in {"x_0": 1.0, "eps": snr, "v": snr + 1}.items():
            weight = d.loss_weight(log_snr, target, cap)[i].item()
            assert weight == pytest.approx(on_x_0 / per_x_0, rel=1e-9), (target, snr)
            assert d.loss_weight(log_snr, target, None)[i].item() == 1.0


def test_the_loss_is_the_mean_of_weighted_squared_errors():
    x_0, eps = torch.full((2, 3, 2, 2), 0.5).double(), torch.full((2, 3, 2, 2), -1.0).double()
    t = torch.tensor([0.2, 0.7]).double()
    snr = d.cosine_log_snr(t).exp()
    loss = d.diffusion_loss(lambda x_t, _: 0.25 * x_t, x_0, t, eps, d.cosine_log_snr, "x_0", 3.0)
    alpha, sigma = (snr / (1 + snr)).sqrt(), (1 / (1 + snr)).sqrt()
    error = (0.25 * (0.5 * alpha - sigma) - 0.5).square() * (snr + 1).clamp(max=3)
    torch.testing.assert_close(loss, error.mean())


def test_schedules_by_numbers():
    """log-SNR at t = 0, ¼, ½, ¾ and 1: 2 log cot(π t / 2) within ±12, and −log(e^{10^-4 + t/10 + 9.95 t²} − 1)."""
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    cosine = [12.0, 2 * math.log(1 / math.tan(math.pi / 8)), 0.0]
    cosine += [-cosine[1], -12.0]
    assert d.cosine_log_snr(t).tolist() == pytest.approx(cosine, abs=0.02)
    linear = [-math.log(math.expm1(1e-4 + 0.1 * v + 9.95 * v * v)) for v in t.tolist()]
    assert d.linear_log_snr(t).tolist() == pytest.approx(linear, abs=1e-9)
    assert linear[0] == pytest.approx(9.21, abs=0.01) and linear[-1] == pytest.approx(
        -10.05, abs=0.01
    )
