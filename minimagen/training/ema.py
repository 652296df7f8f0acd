"""The exponential moving average (EMA) of the weights, which is what is saved and sampled from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def warmed_up(max_decay: float, updates: int) -> float:
    """The decay of update number `updates` (from 1): min(max_decay, (1 + updates) / (10 + updates)).

    A young average forgets the initial weights quickly (as in TensorFlow's ExponentialMovingAverage).
    """
    return min(max_decay, (1 + updates) / (10 + updates))


def ema_update(max_decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """ema ← decay · ema + (1 − decay) · weights, in place, as AveragedModel's multi_avg_fn."""

    @torch.no_grad()
    def update(averages: Tensors, weights: Tensors, updates: Tensor | int) -> None:
        decay = warmed_up(max_decay, int(updates))
        for average, weight in zip(averages, weights, strict=True):
            average.lerp_(weight, 1 - decay)

    return update


def averaged_model(model: nn.Module, max_decay: float) -> AveragedModel:
    """A copy of the model, in `.module`, that `.update_parameters(model)` moves towards the model's weights."""
    average = AveragedModel(model, multi_avg_fn=ema_update(max_decay))
    average.n_averaged += (
        1  # the copy counts as the first average; at 0 the first update would replace it
    )
    return average.requires_grad_(False)
