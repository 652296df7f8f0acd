"""What noise in training does for words that training never met: a probe, in a minute each instead of hours.

    .venv/bin/python tests/benchmarks/words.py 0 0.5 1 2

A small reader (the U-Net's attention pooling, and two queries) learns from token states of training captions of
the whole vocabulary to say which things stand first and last. It has the noise of --text-noise on them, up to σ.
Then it reads new captions: by the names it learned from, and by synonyms. Right means both things. Prints a
table; nothing is drawn.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minimagen.scenes import Scene, Scenes
from minimagen.text import TextEncoder, add_text_noise, draw_text_noise
from minimagen.unet import AttentionPool


class Reader(nn.Module):
    """Token states (B, L, 256) and mask (B, L) → logits (B, 2, things), of the first and the last thing."""

    def __init__(self, things: int) -> None:
        super().__init__()
        self.pool = AttentionPool(256, 160)
        self.query = nn.Parameter(0.1 * torch.randn(2, 160))
        self.norm, self.key_value = nn.LayerNorm(256), nn.Linear(256, 320, bias=False)
        self.out = nn.Sequential(nn.Linear(320, 256), nn.SiLU(), nn.Linear(256, 2 * things))

    def forward(self, text: Tensor, mask: Tensor) -> Tensor:
        pooled = self.pool(text, mask)[:, None]  # (B, 1, 160)
        q, k, v = (  # each (B, 5 heads, 2 or L, 32)
            z.unflatten(-1, (5, 32)).transpose(1, 2)
            for z in (self.query + pooled, *self.key_value(self.norm(text)).chunk(2, dim=-1))
        )
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        h = torch.cat([found.transpose(1, 2).flatten(2), pooled.expand(-1, 2, -1)], dim=-1)
        both = self.out(h).unflatten(-1, (2, -1))  # (B, 2 slots, 2, things)
        return both.diagonal(dim1=1, dim2=2).transpose(1, 2)


def told(asked: Scene) -> list[str]:
    """The first and the last thing; in the order of the alphabet where the caption tells none."""
    keys = [asked.things[0].key, asked.things[-1].key]
    return keys if asked.arrangement else sorted(keys)


def captions(scenes: Scenes, n: int, names: list[str]) -> tuple[list[str], Tensor]:
    described = [scenes.describe(i) for i in range(n)]
    truth = [[names.index(key) for key in told(asked)] for _, asked, _, _ in described]
    return [text for _, _, text, _ in described], torch.tensor(truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("noise", nargs="*", type=float, default=[0.0, 0.5, 1.0, 2.0])
    parser.add_argument("--quick", action="store_true", help="a trial: the numbers mean nothing")
    args = parser.parse_args()
    n, epochs = (1_000, 1) if args.quick else (24_000, 5)
    torch.set_num_threads(1)
    encoder = TextEncoder(cache_size=0)
    shares = {"starter": 0.2, "pairs": 0.55, "styled": 0.8}
    training = Scenes(16, "train", "whole", seed=11, **shares)
    names = list(training.objects)
    texts, truth = captions(training, n, names)
    states = [encoder(texts[i : i + 500]) for i in range(0, n, 500)]
    new = {
        (split, language): captions(
            Scenes(16, split, "whole", seed=21, languages=(language,)), n // 12, names
        )
        for split in ("seen", "words")
        for language in ("en", "zh")
    }
    print(
        "| noise up to σ | " + " | ".join(f"{s}, {z}" for s, z in new) + " |\n" + "| --- " * 5 + "|"
    )
    for most in args.noise:
        torch.manual_seed(0)
        reader = Reader(len(names))
        optimizer = torch.optim.AdamW(reader.parameters(), weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs * n // 100)
        g = torch.Generator().manual_seed(0)
        for _ in range(epochs):
            for j in torch.randperm(n // 500).tolist():
                text, mask = states[j]
                for b in torch.randperm(500).split(100):
                    drawn = draw_text_noise(len(b), text.shape[-1], most, g)
                    logits = reader(add_text_noise(text[b], mask[b], *drawn), mask[b])
                    of_both = truth[500 * j + b].flatten()
                    F.cross_entropy(logits.flatten(0, 1), of_both).backward()
                    optimizer.step()
                    optimizer.zero_grad()
                    schedule.step()
        scores = []
        for some, right in new.values():
            with torch.no_grad():
                read = reader(*encoder(some)).argmax(dim=-1)
            scores.append((read == right).all(dim=1).double().mean().item())
        print(f"| {most:g} | " + " | ".join(f"{100 * s:.1f} %" for s in scores) + " |", flush=True)


if __name__ == "__main__":
    main()
