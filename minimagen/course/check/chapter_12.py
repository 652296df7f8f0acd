"""Exercises of chapter 12: control."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...diffusion import alpha_sigma, cosine_log_snr
from ...samplers import ddim_step, times
from ..core.chapter_12 import LowRank
from .basics import diagnosed

__all__ = ["merged_adapter", "three_inpaintings", "who_inpaints_wrong"]


def merged_adapter(merge: Callable[[LowRank], nn.Linear | None]) -> None:
    """Exercise 12.1: one linear layer that does what the adapter does."""
    adapter = LowRank(nn.Linear(7, 5), 3)
    nn.init.normal_(adapter.up.weight)
    before = {name: value.clone() for name, value in adapter.state_dict().items()}
    x = torch.randn(4, 7)
    with torch.no_grad():
        wanted, made = adapter(x), merge(adapter)
        if made is None:
            raise AssertionError("the merged adapter: your function returns nothing yet")
        if not isinstance(made, nn.Linear):
            raise AssertionError(
                f"the merged adapter: return an nn.Linear, not a {type(made).__name__}"
            )
        if any(not value.equal(before[name]) for name, value in adapter.state_dict().items()):
            raise AssertionError(
                "the merged adapter: it changes the layer that came in: copy it first"
            )
        given, low = made(x), adapter.layer(x)
    if torch.allclose(given, low, atol=1e-5):
        raise AssertionError(
            "the merged adapter: this is the frozen layer alone: add up @ down to its weight"
        )
    if torch.allclose(given - low, (wanted - low) - adapter.layer.bias, atol=1e-5):
        raise AssertionError("the merged adapter: the bias is missing")
    if not torch.allclose(given, wanted, atol=1e-4):
        raise AssertionError("the merged adapter: the weight is W + up @ down")
    print("✓ the merged adapter")


_WRONG = {"A": "factors swapped", "B": "without noise", "C": "one step late"}  # 12.2


def _put_back(
    mistake: str, x_s: Tensor, x_0: Tensor, mask: Tensor, levels: Tensor, eps: Tensor
) -> Tensor:
    """keep_outside with one mistake; levels: log-SNR of the step before and of this one."""
    alpha, sigma = alpha_sigma(levels[0] if mistake == "one step late" else levels[1])
    if mistake == "factors swapped":
        alpha, sigma = sigma, alpha
    known = x_0 if mistake == "without noise" else alpha * x_0 + sigma * eps
    return torch.where(mask, x_s, known)


def three_inpaintings(steps: int = 10) -> dict[str, Tensor]:
    """Exercise 12.2: for each the spread of (x_s − α_s x_0) / σ_s outside the mask after each step but the last."""
    g = torch.Generator().manual_seed(0)
    x_0, eps = torch.rand(8, 3, 16, 16, generator=g) * 2 - 1, torch.randn(8, 3, 16, 16, generator=g)
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    mask[..., 4:12, 4:12] = True
    outside = ~mask.expand_as(x_0)
    log_snr = cosine_log_snr(times(steps)).float()
    found = {}
    for who, mistake in _WRONG.items():
        x, spread = eps, []
        for i in range(steps - 1):
            now, then = (level.expand(8) for level in log_snr[i : i + 2])
            guess = x.clamp(-1, 1).mean(dim=(2, 3), keepdim=True).expand_as(x)  # a flat picture
            x = ddim_step(x, guess, now, then)
            x = _put_back(mistake, x, x_0, mask, log_snr[i : i + 2], eps)
            alpha, sigma = alpha_sigma(log_snr[i + 1])
            spread.append(((x - alpha * x_0) / sigma)[outside].std())
        found[who] = torch.stack(spread)
    return found


def who_inpaints_wrong(answers: dict[str, str | None]) -> None:
    """Exercise 12.2: the mistake of each inpainting."""
    diagnosed(
        "the three inpaintings",
        answers,
        _WRONG,
        missing="name the mistake of {who} first",
        wrong="{answer} would not look like {who}'s line",
    )
