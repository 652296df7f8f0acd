"""What noise and captions in training do for words that training never met: a probe, in minutes instead of hours.

    .venv/bin/python tests/benchmarks/words.py 0 0.5 1 2
    .venv/bin/python tests/benchmarks/words.py 1.5 --exponent 2 --captions 1 2 3

A small reader (the U-Net's attention pooling, and two queries) learns from token states of training captions of
the whole vocabulary to say which things stand first and last. It has the noise of --text-noise on them, up to σ.
Then it reads new captions: by the names it learned from, by synonyms, and those of the suite `everyday`. Right
means both things. --captions: versions of the training captions. Prints a table; nothing is drawn.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minimagen.config import CAPTION_VERSIONS
from minimagen.evaluation.suites import suite
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
    parser.add_argument(
        "--exponent", type=float, default=1.0, help="σ is the largest times u to it"
    )
    parser.add_argument("--captions", nargs="*", type=int, default=[1], choices=CAPTION_VERSIONS)
    parser.add_argument("--quick", action="store_true", help="a trial: the numbers mean nothing")
    args = parser.parse_args()
    n, epochs = (1_000, 1) if args.quick else (24_000, 5)
    torch.set_num_threads(1)
    encoder = TextEncoder(cache_size=0)
    shares = {"starter": 0.2, "pairs": 0.55, "styled": 0.8}
    names = list(Scenes(16, "train", "whole").objects)
    new = {
        f"{split}, {language}": captions(
            Scenes(16, split, "whole", seed=21, languages=(language,)), n // 12, names
        )
        for split in ("seen", "words")
        for language in ("en", "zh")
    }
    everyday = suite("everyday", "whole", 146)
    truth = [[names.index(key) for key in told(p.asked)] for p in everyday]
    new["everyday"] = [p.text for p in everyday], torch.tensor(truth)
    print("| captions | noise up to σ | " + " | ".join(new) + " |\n" + "| --- " * 7 + "|")
    for version in args.captions:
        training = Scenes(16, "train", "whole", seed=11, version=version, **shares)
        texts, right = captions(training, n, names)
        states = [encoder(texts[i : i + 500]) for i in range(0, n, 500)]
        for most in args.noise:
            scores = probe(states, right, new, names, encoder, (most, args.exponent), epochs)
            row = " | ".join(f"{100 * score:.1f} %" for score in scores)
            print(f"| {version} | {most:g} | {row} |", flush=True)


def probe(
    states: list[tuple[Tensor, Tensor]],
    truth: Tensor,
    new: dict[str, tuple[list[str], Tensor]],
    names: list[str],
    encoder: TextEncoder,
    noise: tuple[float, float],
    epochs: int,
) -> list[float]:
    """Train a reader on states (in groups of 500) with noise, and read new captions: the share that is right."""
    torch.manual_seed(0)
    reader = Reader(len(names))
    optimizer = torch.optim.AdamW(reader.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs * len(truth) // 100)
    g = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for j in torch.randperm(len(states)).tolist():
            text, mask = states[j]
            for b in torch.randperm(500).split(100):
                drawn = draw_text_noise(len(b), text.shape[-1], noise[0], g, noise[1])
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
    return scores


if __name__ == "__main__":
    main()
