"""Guidance and thresholding are held to their formulas and their symmetries."""

import torch

from minimagen import guidance as g
from minimagen.diffusion import q_sample, to_x_0, training_target

TEXT, MASK = torch.randn(2, 5, 8), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()


def linear(x_t, log_snr, text, mask):
    pooled = (text * mask[..., None]).sum(dim=(1, 2)) / mask.sum(1)
    return x_t * 0.5 + pooled[:, None, None, None] + mask.sum(1)[:, None, None, None] * 0.01


def test_w_is_the_papers_w():
    x, log_snr = torch.randn(2, 3, 4, 4), torch.zeros(2)
    conditional = linear(x, log_snr, TEXT, MASK)
    unconditional = linear(x, log_snr, *g.null_text(TEXT, MASK))
    for w, expected in (
        (1, conditional),
        (0, unconditional),
        (3, 3 * conditional - 2 * unconditional),
    ):
        torch.testing.assert_close(g.guided(linear, x, log_snr, TEXT, MASK, w), expected)


def test_guiding_v_is_guiding_eps():
    x_0, eps, other_x_0 = torch.randn(3, 2, 3, 4, 4, dtype=torch.float64)
    log_snr = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    x_t = q_sample(x_0, log_snr, eps)
    other_eps = (x_t - q_sample(other_x_0, log_snr, torch.zeros_like(eps))) / (
        -log_snr
    ).sigmoid().sqrt()[:, None, None, None]
    guided = {}
    for target in ("v", "eps", "x_0"):
        a, b = (
            training_target(p, e, log_snr, target) for p, e in ((x_0, eps), (other_x_0, other_eps))
        )
        guided[target] = to_x_0(x_t, 4 * a - 3 * b, log_snr, target)
    torch.testing.assert_close(guided["v"], guided["eps"])
    torch.testing.assert_close(guided["v"], guided["x_0"])


def test_the_null_caption_says_nothing_not_even_its_length():
    zeros, alone = g.null_text(TEXT, MASK)
    assert not zeros.any() and alone.sum(dim=1).tolist() == [1, 1]


def test_dropped_captions_are_the_null_caption_of_sampling():
    dropped, mask = g.drop_captions(TEXT, MASK, 0.1, torch.tensor([0.05, 0.5]))
    zeros, alone = g.null_text(TEXT, MASK)
    assert torch.equal(dropped[0], zeros[0]) and torch.equal(mask[0], alone[0])
    assert torch.equal(dropped[1], TEXT[1]) and torch.equal(mask[1], MASK[1])


def test_dynamic_thresholding_is_not_static():
    x_0 = torch.randn(4, 3, 32, 32) * 2
    dynamic, static = g.dynamic_threshold(x_0), g.static_threshold(x_0)
    assert dynamic.abs().max() <= 1 and static.abs().max() <= 1
    assert (static.abs() == 1).float().mean() > 0.5 and (dynamic.abs() == 1).float().mean() < 0.01
    s = torch.quantile(x_0[0].abs(), 0.995)
    torch.testing.assert_close(dynamic[0], x_0[0].clamp(-s, s) / s)


def test_a_picture_in_range_is_left_alone():
    x_0 = torch.rand(2, 3, 8, 8) * 2 - 1
    assert torch.equal(g.dynamic_threshold(x_0), x_0)
