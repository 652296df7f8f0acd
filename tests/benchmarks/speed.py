"""How fast is our base U-Net beside others of the same channels, blocks and attention levels?

    .venv/bin/python tests/benchmarks/speed.py --minutes 10 --peers ~/peers --out speed.json

It measures training (pictures a second: forward, loss, backward, Adam) and sampling (seconds a picture: 20
steps with guidance in one batched pass) on the same input and the same cores, taking turns, and prints
medians over the turns, ratios to ours with their range, and the parameters. Everything but the network is
ours and shared, so the ratios compare networks, not trainers or samplers.

diffusers comes with the tests. imagen-pytorch needs a folder of its own, outside this repository:

    .venv/bin/pip install --no-deps --target ~/peers imagen-pytorch==2.1.0 einops einops-exts beartype
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minimagen.diffusion import cosine_log_snr, q_sample, to_x_0, training_target
from minimagen.guidance import guided
from minimagen.samplers import dpm_solver, times
from minimagen.unet import PRESETS, UNet, num_parameters

CONFIG = PRESETS["base"]
TOKENS = 24


def ours(side: int) -> nn.Module:
    return UNet(CONFIG)


class Diffusers(nn.Module):
    """diffusers' text-conditional U-Net; without a middle block, which ours has not either."""

    def __init__(self, side: int) -> None:
        super().__init__()
        from diffusers import UNet2DConditionModel

        attention = [bool(a) for a in CONFIG.attention]
        down = tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention)
        up = tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention))
        self.unet = UNet2DConditionModel(
            sample_size=side,
            in_channels=3,
            out_channels=3,
            block_out_channels=CONFIG.channels,
            layers_per_block=CONFIG.blocks,
            down_block_types=down,
            mid_block_type=None,
            up_block_types=up,
            cross_attention_dim=CONFIG.text_width,
            attention_head_dim=tuple(max(1, w // CONFIG.head_dim) for w in CONFIG.channels),
            norm_num_groups=16,
        )

    def forward(self, x_t: Tensor, log_snr: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        return self.unet(x_t, log_snr, text, encoder_attention_mask=mask).sample


class Share(float):
    """A multiple like 8/3, by which 48 channels are 128, a whole number."""

    def __rmul__(self, channels: int) -> int:
        return round(channels * float(self))


class ImagenPytorch(nn.Module):
    """imagen-pytorch's U-Net, its other options as they come, loaded from the folder that --peers names."""

    def __init__(self, side: int) -> None:
        super().__init__()
        package = ModuleType("imagen_pytorch")  # its __init__ would import its trainer and more
        package.__path__ = [str(Path(p) / "imagen_pytorch") for p in sys.path]
        t5 = ModuleType("imagen_pytorch.t5")  # it would ask the network for a T5 on import
        t5.__dict__.update(
            t5_encode_text=None, DEFAULT_T5_NAME="", get_encoded_dim=lambda name: 768
        )
        stubs = {"imagen_pytorch": package, "imagen_pytorch.t5": t5}
        # they transform pictures outside the U-Net
        for name in ("torchvision", "torchvision.transforms", "kornia", "kornia.augmentation"):
            stubs[name] = ModuleType(name)
        with patch.dict(sys.modules, stubs):
            module = import_module("imagen_pytorch.imagen_pytorch")
        attention = tuple(bool(a) for a in CONFIG.attention)
        self.unet = module.Unet(
            dim=CONFIG.channels[0],
            dim_mults=tuple(Share(w / CONFIG.channels[0]) for w in CONFIG.channels),
            num_resnet_blocks=CONFIG.blocks,
            layer_attns=attention,
            layer_cross_attns=False,  # its self-attention has the text's keys and values, as ours
            attn_dim_head=CONFIG.head_dim,
            attn_heads=CONFIG.channels[-1] // CONFIG.head_dim,
            text_embed_dim=CONFIG.text_width,
            cond_dim=CONFIG.embedding,
            max_text_len=TOKENS,
        )

    def forward(self, x_t: Tensor, log_snr: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        return self.unet(x_t, log_snr, text_embeds=text, text_mask=mask, cond_drop_prob=0.0)


CONTESTANTS: dict[str, Callable[[int], nn.Module]] = {
    "minimagen": ours,
    "diffusers": Diffusers,
    "imagen-pytorch": ImagenPytorch,
}


def trainer(network: nn.Module, x_0: Tensor, text: Tensor, mask: Tensor) -> Callable[[], None]:
    """One step of training: v-target, plain MSE, Adam."""
    optimizer = torch.optim.Adam(network.parameters(), 1e-4, fused=True)
    log_snr = cosine_log_snr(torch.linspace(0.01, 0.99, len(x_0)))
    eps = torch.randn_like(x_0)
    x_t, v = q_sample(x_0, log_snr, eps), training_target(x_0, eps, log_snr, "v")

    def step() -> None:
        F.mse_loss(network(x_t, log_snr, text, mask), v).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


@torch.no_grad()
def sample(network: nn.Module, noise: Tensor, text: Tensor, mask: Tensor, steps: int) -> None:
    def denoise(x_t: Tensor, log_snr: Tensor) -> Tensor:
        return to_x_0(x_t, guided(network, x_t, log_snr, text, mask, 4.0), log_snr, "v")

    dpm_solver(denoise, noise, cosine_log_snr, times(steps))


def seconds(work: Callable[[], None], at_least: float) -> float:
    """Seconds a call, over as many calls as fill the time."""
    work()  # warm up
    begun, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - begun < at_least:
        work()
        calls += 1
    return (time.perf_counter() - begun) / calls


def measure(side: int, batch: int, steps: int, turns: int, at_least: float) -> list[dict]:
    torch.manual_seed(0)
    x_0 = torch.rand(batch, 3, side, side) * 2 - 1
    text = torch.randn(batch, TOKENS, CONFIG.text_width)
    mask = torch.arange(TOKENS) < torch.randint(4, TOKENS, (batch, 1))
    networks, rows = {}, []
    for name, make in CONTESTANTS.items():
        try:
            networks[name] = make(side)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    work: dict[tuple[str, str], Callable[[], None]] = {}
    for name, network in networks.items():
        work[name, "train"] = trainer(network, x_0, text, mask)
        one = (z[:1] for z in (torch.randn_like(x_0), text, mask))
        work[name, "sample"] = partial(sample, network, *one, steps)
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in work}
    for _ in range(turns):
        for key, job in work.items():
            networks[key[0]].train(key[1] == "train")
            taken[key].append(seconds(job, at_least))
    for name, network in networks.items():
        row: dict = {"network": name, "parameters": num_parameters(network)}
        for kind in ("train", "sample"):
            ratios = [
                b / a for a, b in zip(taken["minimagen", kind], taken[name, kind], strict=True)
            ]
            row[f"{kind}_ratio"] = statistics.median(ratios)  # above 1: ours is faster
            row[f"{kind}_range"] = min(ratios), max(ratios)
        row["train_pictures_per_second"] = batch / statistics.median(taken[name, "train"])
        row["seconds_per_sample"] = statistics.median(taken[name, "sample"])
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--quick", action="store_true", help="one short turn: that it runs, no timing"
    )
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--threads", type=int, help="cores to use (default: as torch finds them)")
    parser.add_argument("--peers", type=Path, help="the folder that holds imagen-pytorch")
    parser.add_argument("--out", type=Path, help="also write the rows as JSON")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.peers:
        sys.path.append(str(args.peers))
    jobs, turns, steps = 2 * len(CONTESTANTS), 5, 20
    at_least = args.minutes * 60 / jobs / turns
    if args.quick:
        args.batch, turns, steps, at_least = 4, 1, 2, 0.0
    rows = measure(args.side, args.batch, steps, turns, at_least)
    cores = torch.get_num_threads()
    print(f"side {args.side}, batch {args.batch}, {cores} threads, torch {torch.__version__}\n")
    print("| network | parameters | training, pictures/s | ours is faster by | s a sample | by |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        train, sampling = (
            f"{row[f'{k}_ratio']:.2f} ({row[f'{k}_range'][0]:.2f} to {row[f'{k}_range'][1]:.2f})"
            for k in ("train", "sample")
        )
        print(
            f"| {row['network']} | {row['parameters'] / 1e6:.2f} M "
            f"| {row['train_pictures_per_second']:.1f} | {train} "
            f"| {row['seconds_per_sample']:.3f} | {sampling} |"
        )
    if args.out:
        about = {"side": args.side, "batch": args.batch, "threads": cores, "quick": args.quick}
        args.out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
