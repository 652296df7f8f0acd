"""The frozen T5 encoder in tensor operations alone, for a training step that is compiled and captured."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..text import TextEncoder


class TensorT5(nn.Module):
    """Token ids and mask (B, length) → embeddings (B, length, D): the TextEncoder's, whose weights it uses.

    The implementation of transformers reads numbers from the device when it builds its masks. This one is for gated
    feed-forward layers, as in T5 v1.1 and the course's encoder.
    """

    def __init__(self, encoder: TextEncoder, length: int) -> None:
        super().__init__()
        self.model = encoder.model
        config = self.model.config
        self.heads, self.width, self.eps = (
            config.num_heads,
            config.d_kv,
            config.layer_norm_epsilon,
        )
        attention = self.model.encoder.block[0].layer[0].SelfAttention
        at = torch.arange(length, device=encoder.device)
        bucket = attention._relative_position_bucket(
            at[None, :] - at[:, None],
            bidirectional=True,
            num_buckets=attention.relative_attention_num_buckets,
            max_distance=attention.relative_attention_max_distance,
        )
        bias = attention.relative_attention_bias.weight[bucket].permute(2, 0, 1)
        self.bias: Tensor
        # (1, heads, length, length); every layer has that of the first
        self.register_buffer("bias", bias[None].detach().clone())

    @torch.no_grad()
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids (B, length) int, mask (B, length) True at tokens → (B, length, D) float32, zero at padding."""
        x = F.embedding(ids, self.model.shared.weight)
        bias = self.bias + torch.where(mask[:, None, None, :], 0.0, -1e9)
        for block in self.model.encoder.block:
            attention, dense = block.layer[0].SelfAttention, block.layer[1].DenseReluDense
            z = self._norm(x, block.layer[0].layer_norm.weight)
            q, k, v = (
                project(z).unflatten(-1, (self.heads, self.width)).transpose(1, 2)
                for project in (attention.q, attention.k, attention.v)
            )  # (B, heads, length, width)
            p = (q @ k.transpose(-1, -2) + bias).float().softmax(-1)
            x = x + attention.o((p.to(v.dtype) @ v).transpose(1, 2).flatten(2))
            z = self._norm(x, block.layer[1].layer_norm.weight)
            x = x + dense.wo(F.gelu(dense.wi_0(z), approximate="tanh") * dense.wi_1(z))
        x = self._norm(x, self.model.encoder.final_layer_norm.weight)
        return x.half().float() * mask[..., None]  # rounded to fp16, as in TextEncoder

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """T5's layer norm: no mean is subtracted, no bias added."""
        x = x.float()
        return weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps))
