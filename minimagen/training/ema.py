"""The exponential moving average (EMA) of the weights, which is what is saved and sampled from."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


def warmed_up(max_decay: float, updates: int) -> float:
    """The decay of update number `updates` (from 1): min(max_decay, (1 + updates) / (10 + updates)).

    The warm-up removes the bias towards the initial weights (as in TensorFlow's ExponentialMovingAverage).
    """
    return min(max_decay, (1 + updates) / (10 + updates))


class AveragedModel(Generic[Model]):
    """A copy of a model, in `.module`, with the EMA of its weights.

    torch's AveragedModel reads its number of updates from the device at each. Here the host counts them:
    `next_update` sets the decay, and `move` uses it. in_tensors: the decay is a tensor on the model's device, so
    that `move` can be captured in a CUDA graph.
    """

    def __init__(self, model: Model, max_decay: float, in_tensors: bool = False) -> None:
        self.module: Model = copy.deepcopy(model).requires_grad_(False)
        self.max_decay, self.updates = max_decay, 0
        device = next(model.parameters()).device
        self.decay: Tensor | float = torch.zeros((), device=device) if in_tensors else 0.0

    def next_update(self) -> None:
        """Count an update, and set the decay with which `move` will make it."""
        self.updates += 1
        decay = warmed_up(self.max_decay, self.updates)
        if isinstance(self.decay, Tensor):
            self.decay.fill_(decay)
        else:
            self.decay = decay

    @torch.no_grad()
    def move(self, model: Model) -> None:
        """ema ← decay · ema + (1 − decay) · weights, in place; buffers are copied."""
        averages: list[Tensor] = [*self.module.parameters()]
        weights: list[Tensor] = [*model.parameters()]
        if isinstance(self.decay, Tensor):
            torch._foreach_mul_(averages, self.decay)
            torch._foreach_add_(averages, list(torch._foreach_mul(weights, 1 - self.decay)))
        else:
            torch._foreach_lerp_(averages, weights, 1 - self.decay)
        for average, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)

    def update_parameters(self, model: Model) -> None:
        """One update: next_update, and move."""
        self.next_update()
        self.move(model)
