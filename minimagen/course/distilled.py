"""The two-step student of chapter 13: the base, with a low-rank adapter beside each of its layers."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from ..assets import DATA, from_int8, int8, read_tensors, write_tensors
from ..diffusion import alpha_sigma, to_x_0
from ..stage import Stage
from ..unet import UNet

FOLDER = DATA / "student"
FILE = "adapter.safetensors"
RANK = 6
NARROW = 32  # layers with fewer inputs or outputs than this keep their weights


class Adapter(nn.Module):
    """y = layer(x) + up(down(x)) (LoRA, Hu et al. 2021), for linear layers and for convolutions.

    layer is frozen. down has its kernel and `rank` outputs; up goes from there to its outputs, pixel by pixel, and
    begins at zero. Inputs and outputs are those of layer.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int = RANK) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down: nn.Module
        self.up: nn.Module
        if isinstance(layer, nn.Conv2d):
            self.down = nn.Conv2d(
                layer.in_channels,
                rank,
                layer.kernel_size,  # type: ignore[arg-type]
                layer.stride,  # type: ignore[arg-type]
                layer.padding,  # type: ignore[arg-type]
                bias=False,
            )
            self.up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        else:
            self.down = nn.Linear(layer.in_features, rank, bias=False)
            self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """x as layer takes it → what layer gives, with the adapter's part."""
        y: Tensor = self.layer(x) + self.up(self.down(x))
        return y


def adapted(unet: UNet, rank: int = RANK) -> UNet:
    """A copy of a U-Net with an adapter beside each layer that is not narrow. Only the adapters learn."""
    unet = copy.deepcopy(unet).requires_grad_(False)
    for name, layer in list(unet.named_modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d) and min(layer.weight.shape[:2]) >= NARROW:
            parent, _, child = name.rpartition(".")
            setattr(unet.get_submodule(parent), child, Adapter(layer, rank))
    return unet


def two_steps(
    unet: nn.Module,
    x: Tensor,
    text: Tensor,
    mask: Tensor,
    log_snrs: Tensor,
    half: Tensor | None = None,
    given: Tensor | None = None,
) -> list[Tensor]:
    """The student's two steps by DDIM, without guidance: [x̂_0 at t = 1, x halfway, x̂_0 there], each (B, 3, H, W).

    x (B, 3, H, W): noise; text (B, L, D), mask (B, L); log_snrs (2,): of t = 1 and t = 1/2. half (B, 3, H, W):
    where the teacher is halfway; the second step starts there where given (B, 1, 1, 1) is True, else where the
    first one landed. No gradient flows from the second step to the first.
    """
    at = [z.expand(len(x)) for z in log_snrs]
    (a_t, a_s), (s_t, s_s) = alpha_sigma(log_snrs)
    first = to_x_0(x, unet(x, at[0], text, mask), at[0], "v")
    start = (a_s * first + s_s / s_t * (x - a_t * first)).detach()
    if half is not None and given is not None:
        start = torch.where(given, half, start)
    return [first, start, to_x_0(start, unet(start, at[1], text, mask), at[1], "v")]


def save(weights: dict[str, Tensor], folder: Path = FOLDER) -> None:
    """Write an adapter's weights, by their names in `adapted`, in eight bits with one step a tensor."""
    write_tensors(int8(weights, by_row=False), folder / FILE)


def load(base: Stage, folder: Path = FOLDER) -> Stage:
    """The student as a stage of its own, its adapter folded into the weights; base, its teacher, stays as it is.

    Sample from it with steps=2, guidance=1 and the sampler "ddim".
    """
    kept = from_int8(read_tensors(folder / FILE))
    student = copy.deepcopy(base)
    for name in [n.removesuffix(".up.weight") for n in kept if n.endswith(".up.weight")]:
        up, down = kept[f"{name}.up.weight"], kept[f"{name}.down.weight"]
        weight = student.unet.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        weight.data += (up.flatten(1) @ down.flatten(1)).reshape(weight.shape).to(weight)
    return student.eval()
