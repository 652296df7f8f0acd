"""The exponential moving average (EMA) of the weights, which is what is saved and sampled from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Tensors = tuple[Tensor, ...] | list[Tensor]
Model = TypeVar("Model", bound=nn.Module)


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
        torch._foreach_lerp_(averages, weights, 1 - decay)

    return update


class AveragedModel(Generic[Model]):
    """A copy of a model, in `.module`, that moves towards the model's weights.

    As torch's AveragedModel, which reads a number from the device at each update. in_tensors: the decay is a
    tensor, so that an update can be captured.
    """

    def __init__(self, model: Model, max_decay: float, in_tensors: bool = False) -> None:
        self.module: Model = copy.deepcopy(model).requires_grad_(False)
        self.max_decay, self.updates = max_decay, 0
        device = next(model.parameters()).device
        self.decay = torch.zeros((), device=device) if in_tensors else None

    def next_update(self) -> None:
        """Count an update, and set the decay with which `move` will make it."""
        self.updates += 1
        if self.decay is not None:
            self.decay.fill_(warmed_up(self.max_decay, self.updates))

    @torch.no_grad()
    def move(self, model: Model) -> None:
        """ema ← decay · ema + (1 − decay) · weights, in few kernels."""
        averages: list[Tensor] = [*self.module.parameters()]
        weights: list[Tensor] = [*model.parameters()]
        if self.decay is None:
            ema_update(self.max_decay)(averages, weights, self.updates)
        else:
            torch._foreach_mul_(averages, self.decay)
            torch._foreach_add_(averages, list(torch._foreach_mul(weights, 1 - self.decay)))
        for average, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)

    def update_parameters(self, model: Model) -> None:
        """One update: next_update, and move."""
        self.next_update()
        self.move(model)
