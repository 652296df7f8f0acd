"""Each exercise check passes the right answer and names each mistake that it knows."""

import pytest
import torch

from minimagen import check


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        (lambda x, b, e: (1 - b).sqrt() * x + b * e, "by β, not √β"),
        (lambda x, b, e: (1 - b) * x + b * e, "the roots are missing"),
        (lambda x, b, e: x + b.sqrt() * e, "must shrink too"),
        (lambda x, b, e: (1 - b) * x + b.sqrt() * e, "1 − β, not its root"),
        (lambda x, b, e: x.flatten(), "the shape is"),
        (lambda x, b, e: x * 7, "not yet"),
        (lambda x, b, e: None, "returns nothing yet"),
    ],
)
def test_one_step(wrong, sentence, capsys):
    check.one_step(lambda x, beta, eps: (1 - beta) ** 0.5 * x + beta**0.5 * eps)
    assert "✓" in capsys.readouterr().out
    with pytest.raises(AssertionError, match=sentence):
        check.one_step(wrong)


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        (lambda b: (1 - b).cumprod(0), "this is ᾱ"),
        (lambda b: (1 - b.cumsum(0)).relu().sqrt(), "added the betas up"),
        (lambda b: (1 - b).sqrt(), "the last step alone"),
        (lambda b: (1 - (1 - b).cumprod(0)).sqrt(), "share of the noise"),
    ],
)
def test_share_left(wrong, sentence):
    check.share_left(lambda betas: torch.exp(0.5 * torch.log1p(-betas).cumsum(0)))
    with pytest.raises(AssertionError, match=sentence):
        check.share_left(wrong)


@pytest.mark.parametrize(
    "betas, sentence",
    [
        (torch.linspace(1e-4, 0.02, 1000), "give 200"),
        (torch.linspace(1e-4, 1.2, 200), "outside"),
        (torch.linspace(0.1, 1e-4, 200), "grow"),
        (torch.linspace(1e-4, 0.02, 200), "0.36 of the picture is left"),
    ],
)
def test_short_schedule(betas, sentence):
    check.short_schedule(torch.linspace(5e-4, 0.1, 200))
    with pytest.raises(AssertionError, match=sentence):
        check.short_schedule(betas)


def test_a_claim_prints_its_number_and_fails_where_it_does_not_hold(capsys):
    check.claim("a third", True, torch.tensor(1 / 3))
    assert capsys.readouterr().out == "✓ a third ≈ 0.333\n"
    with pytest.raises(AssertionError, match="a third"):
        check.claim("a third", torch.tensor(False))


def test_a_prediction_without_a_notebook_is_the_middle(capsys):
    assert check.predict("how much?", 0, 10).value == 5


def test_the_first_cell_refuses_an_unknown_budget(monkeypatch, capsys):
    monkeypatch.setenv("MINIMAGEN_BUDGET", "huge")
    with pytest.raises(ValueError, match="quick, laptop, gpu"):
        check.start()
