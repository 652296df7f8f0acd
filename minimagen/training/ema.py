"""The exponential moving average of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_ema(ema: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    """ema ← decay · ema + (1 − decay) · weights. The caller lets a young average forget faster."""
    for name, value in model.state_dict().items():
        ema[name].lerp_(value, 1 - decay)
