"""The pocket T5's last lesson: words that the U-Nets never met get embeddings that they can read.

    python data/build/text_alignment.py --teacher DIR --out DIR --minutes-of-embeddings 5 --minutes 20

--teacher is the encoder that the shipped U-Nets were trained with: data/text-encoder of version 0.2.0. They stay as
they are. A copy of it, or the encoder in --from, learns from pairs of captions, one in words that the U-Nets know,
one in others:

1. Embeddings. The tokens of another name of an object, or of a misspelt word, get the embeddings of the known word;
   the tokens around it, and all tokens of captions of versions 1 and 2, keep theirs.
2. Reading. What the base reads of a caption becomes what it reads of the caption in known words, for further names,
   misspellings and the wordings of version 3: its attention pooling, and what its attention layers add at pixels of
   noisy images. Captions of versions 1 and 2 keep what is read of them.

The synonyms that the suite `words` asks for are in the first part alone, as pairs of texts. No sentence of a suite
occurs.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Encoding
from torch import Tensor
from transformers import T5EncoderModel

from minimagen.assets import CASCADE
from minimagen.config import VOCABULARIES
from minimagen.diffusion import q_sample
from minimagen.evaluation.suites import SUITES, suite
from minimagen.images import to_tensor
from minimagen.scenes import Scene, Scenes
from minimagen.scenes.artwork import draw
from minimagen.scenes.captions import kinds, pick
from minimagen.scenes.everyday import widened
from minimagen.scenes.scene import further, objects
from minimagen.scenes.spelling import bare, typo
from minimagen.stage import Stage
from minimagen.text import MAX_TOKENS, TextEncoder, fingerprint, normalized
from minimagen.unet import Attention

MIX = {"vocabulary": "whole", "starter": 0.2, "pairs": 0.55, "styled": 0.8}  # of the scenes
PAD = 0
ENGLISH = 0.6  # share of the captions
MISSPELT, SYNONYMS = 0.3, 0.5  # shares: of English captions with a word exchanged; of the others
EXCHANGED, REWORDED, KEPT = 96, 64, 64  # captions of a step
IMAGES = 256  # noisy images at which the base reads
QUERIES = 16  # pixels of an image at which a caption is read
# of the noisy images, t = u^0.4: mostly noise, where it is decided what an image shows
TIME_EXPONENT = 0.4
# Weights of the losses. Without `others` and `kept` the encoder would spoil what the U-Nets can read.
EMBEDDING_WEIGHTS = {"noun": 1.0, "others": 10.0, "kept": 10.0}  # of embeddings
READING_WEIGHTS = {"names": 5.0, "reworded": 5.0, "kept": 8.0}
Span = tuple[int, int]
Text = tuple[Tensor, Tensor]  # embeddings (B, L, D), zero at padding, and mask (B, L)


class Caption(NamedTuple):
    """A caption with what it is of: `stream` draws the image of the scene."""

    scene: Scene
    asked: Scene
    text: str
    language: str
    stream: random.Random


class Exchange(NamedTuple):
    """A caption and the same with another word in a place: (start, end) of the word in either, in characters."""

    caption: Caption
    known_at: Span
    other: str
    other_at: Span
    held_out: bool  # whether the other word is one of the suite `words`


class Captions:
    """Draws captions, by their own random numbers: never a sentence of a suite."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.reserved = {
            bare(prompt.text)
            for name in SUITES
            for vocabulary in VOCABULARIES
            for prompt in suite(name, vocabulary)
        }
        self.scenes: dict[tuple[int, str], Scenes] = {}
        for version in (1, 2):
            for language in ("en", "zh"):
                self.scenes[version, language] = Scenes(
                    16, languages=(language,), seed=seed, version=version, length=10**9, **MIX
                )

    def one(self, version: int | None = None) -> Caption:
        """A caption of a version; None: of 1 or 2."""
        while True:
            language = "en" if self.rng.random() < ENGLISH else "zh"
            scenes = self.scenes[version or pick(self.rng, (1, 2)), language]
            scene, asked, text, stream = scenes.describe(int(self.rng.random() * len(scenes)))
            if self.allowed(text):
                return Caption(scene, asked, normalized(text), language, stream)

    def allowed(self, text: str) -> bool:
        return bare(text) not in self.reserved

    def exchanged(self, count: int) -> list[Exchange]:
        """Captions of version 1, where an object's name is the known one, each with another word in it."""
        found: list[Exchange] = []
        while len(found) < count:
            caption = self.one(version=1)
            if caption.language == "en" and self.rng.random() < MISSPELT:
                exchange = misspelt(caption, self.rng)
            else:
                exchange = renamed(caption, self.rng)
            if exchange is not None and self.allowed(exchange.other):
                found.append(exchange)
        return found

    def reworded(self, count: int) -> tuple[list[str], list[str]]:
        """Captions of version 1, and the same asked for in the words of version 3."""
        known: list[str] = []
        others: list[str] = []
        while len(known) < count:
            caption = self.one(version=1)
            other = normalized(
                widened(caption.asked, caption.language, caption.text, self.rng, version=3)
            )
            if other != caption.text and self.allowed(other):
                known.append(caption.text)
                others.append(other)
        return known, others


def misspelt(caption: Caption, rng: random.Random) -> Exchange | None:
    """A caption with a typo in it; None: it has no word that is long enough."""
    wrong = typo(caption.text, rng, wider=True)
    known, other = caption.text.split(" "), wrong.split(" ")
    differ = [i for i, (a, b) in enumerate(zip(known, other, strict=True)) if a != b]
    if not differ:
        return None
    start = sum(len(word) + 1 for word in known[: differ[0]])
    known_at = (start, start + len(known[differ[0]]))
    other_at = (start, start + len(other[differ[0]]))
    return Exchange(caption, known_at, wrong, other_at, held_out=False)


def other_names(key: str, language: str) -> list[tuple[str, str, str]]:
    """(article, singular, plural) of an object's further names, those of versions 2 and 3 of the captions."""
    also, more = objects()[key]["also"], further()["objects"].get(key, {})
    if language == "zh":
        names = also["zh"] + more.get("zh", []) + more.get("typos_zh", [])
        return [("", name, name) for name in names]
    found = zip(also["article"], also["en"], also["plural"], strict=True)
    return [*found, *((article, name, plural) for name, article, plural in more.get("en", []))]


def synonyms(key: str, language: str) -> list[tuple[str, str, str]]:
    """(article, singular, plural) of an object's held-out names."""
    row = objects()[key]["synonyms"]
    if language == "zh":
        return [("", name, name) for name in row["zh"]]
    return list(zip(row["article"], row["en"], row["plural"], strict=True))


def renamed(caption: Caption, rng: random.Random) -> Exchange | None:
    """A caption in which an object has another name; None: it has no other, or its name is not there just once."""
    text, thing = caption.text, pick(rng, caption.asked.things)
    plural = len(caption.asked.things) > 1 and kinds(caption.asked) == 1
    held_out = synonyms(thing.key, caption.language)
    further_names = other_names(thing.key, caption.language)
    use_held_out = bool(held_out) and (rng.random() < SYNONYMS or not further_names)
    names = held_out if use_held_out else further_names
    row = objects()[thing.key]
    if caption.language == "zh":
        pattern = re.escape(row["zh"])
    else:
        pattern = rf"\b{re.escape(row['plural'] if plural else row['en'])}\b"
    found = list(re.finditer(pattern, text))
    if not names or len(found) != 1:
        return None
    article, single, many = pick(rng, names)
    other = many if plural else single
    if not other:
        return None
    start, end = found[0].span()
    front = text[:start]
    if not plural and (own := re.search(r"\b(a|an|some) $", front)):
        front = front[: own.start()] + (f"{article} " if article else "")
    other_at = (len(front), len(front) + len(other))
    return Exchange(caption, (start, end), front + other + text[end:], other_at, use_held_out)


def token_map(
    other: Encoding, other_at: Span, known: Encoding, known_at: Span
) -> tuple[list[int], list[bool]] | None:
    """For each token of the other caption: which one of the known it stands for, and whether it is in the word.

    Before and after the word they are mapped one to one, in it evenly. None: around it their numbers differ.
    """

    def parts(tokens: Encoding, at: Span) -> tuple[list[int], list[int], list[int]]:
        before: list[int] = []
        within: list[int] = []
        after: list[int] = []
        for i, (start, end) in enumerate(tokens.offsets):
            begins_it = tokens.tokens[i] == "▁" and end == at[0]  # the space before a rare word
            if start < end and (start < at[1] and end > at[0] or begins_it):
                within.append(i)
            elif start < end <= at[0]:
                before.append(i)
            else:
                after.append(i)
        return before, within, after

    ours, theirs = parts(other, other_at), parts(known, known_at)
    if len(ours[0]) != len(theirs[0]) or len(ours[2]) != len(theirs[2]) or not theirs[1]:
        return None
    index, inside = [0] * len(other.ids), [False] * len(other.ids)
    for part in (0, 2):
        for i, k in zip(ours[part], theirs[part], strict=True):
            index[i] = k
    for n, i in enumerate(ours[1]):
        index[i], inside[i] = theirs[1][n * len(theirs[1]) // len(ours[1])], True
    return index, inside


def padded(rows: list[list[int]]) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])


def rows_of(text: Text, rows: Sequence[int]) -> Text:
    return text[0][list(rows)], text[1][list(rows)]


class Readers:
    """What the base reads of a text: its attention pooling, and its attention layers, which see pixels too.

    The pixels are those of a few noisy images with their captions, as they reach each layer.
    """

    def __init__(self, base: Stage, images: Tensor, text: Text, generator: torch.Generator) -> None:
        unet = base.unet
        self.pool = unet.pool
        self.layers = [layer for layer in unet.modules() if isinstance(layer, Attention)]
        self.pixels: list[Tensor] = []  # (N, HW, C) of each layer
        hooks = [
            layer.norm.register_forward_hook(lambda _, __, out: self.pixels.append(out))
            for layer in self.layers
        ]
        log_snr = base.schedule(torch.rand(len(images), generator=generator) ** TIME_EXPONENT)
        unet(
            q_sample(images, log_snr, torch.randn(images.shape, generator=generator)),
            log_snr,
            *text,
        )
        for hook in hooks:
            hook.remove()
        self.pixels = [z.permute(0, 2, 3, 1).flatten(1, 2) for z in self.pixels]
        self.generator = generator

    def __call__(self, new: Text, known: Text) -> Tensor:
        """Mean squared difference of what is read, divided by its variance over texts and pixels."""
        differences = [self.difference(self.pool(*new), self.pool(*known))]
        count = len(new[0])
        for layer, pixels in zip(self.layers, self.pixels, strict=True):
            images = torch.randint(len(pixels), (count, 1), generator=self.generator)
            own = pixels[images[:, 0]]  # (B, HW, C): queries are some of them, keys and values all
            some = torch.randint(own.shape[1], (count, QUERIES), generator=self.generator)
            queries = pixels[images, some]  # (B, QUERIES, C)
            differences.append(
                self.difference(*(attended(layer, queries, own, *text) for text in (new, known)))
            )
        return torch.stack(differences).mean()

    @staticmethod
    def difference(new: Tensor, known: Tensor) -> Tensor:
        spread = known.var(0).mean()
        return (new - known).square().mean() / spread


def attended(
    layer: Attention, queries: Tensor, pixels: Tensor, text: Tensor, mask: Tensor
) -> Tensor:
    """What a layer of the kind "self" adds at `queries` (B, N, C): (B, N, C)."""
    assert layer.to_kv is not None
    kv = torch.cat([layer.to_kv(pixels), layer.text_kv(layer.text_norm(text))], dim=1)
    seen = F.pad(mask, (pixels.shape[1], 0), value=True)
    h = layer._attend(queries, *kv.chunk(2, dim=-1), seen)
    added: Tensor = layer.out(h.transpose(1, 2).flatten(2))
    return added


class Lesson:
    """The losses of a step."""

    def __init__(
        self, teacher: TextEncoder, start: Path, base: Stage, seed: int, images: int = IMAGES
    ) -> None:
        self.teacher = teacher.model
        self.tokenizer = teacher.tokenizer.backend_tokenizer
        self.tokenizer.no_padding()
        self.model = T5EncoderModel.from_pretrained(
            start, dtype=torch.float32, use_safetensors=True
        ).train()
        self.captions = Captions(seed)
        shown = [self.captions.one() for _ in range(images)]
        drawn = to_tensor(np.stack([draw(c.scene, c.stream, 16) for c in shown]))
        with torch.no_grad():
            text = self.encode(self.teacher, self.ids([c.text for c in shown]))
            self.reading = Readers(base, drawn, text, torch.Generator().manual_seed(seed))

    def encode(self, model: torch.nn.Module, rows: list[list[int]]) -> Text:
        """Embeddings (B, L, D), zero at padding, and mask (B, L)."""
        assert max(map(len, rows)) <= MAX_TOKENS  # no caption is so long
        ids = padded(rows)
        mask = ids != PAD
        states = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return states * mask[..., None], mask

    def ids(self, texts: list[str]) -> list[list[int]]:
        return [tokens.ids for tokens in self.tokenizer.encode_batch(texts)]

    def exchanges(self) -> tuple[list[Exchange], Text, Text, Tensor, Tensor]:
        """Captions with a word exchanged, by the model and by the teacher; errors in the word, and around it."""
        rows = []
        drawn = self.captions.exchanged(EXCHANGED)
        others = self.tokenizer.encode_batch([e.other for e in drawn])
        knowns = self.tokenizer.encode_batch([e.caption.text for e in drawn])
        for exchange, other, known in zip(drawn, others, knowns, strict=True):
            mapped = token_map(other, exchange.other_at, known, exchange.known_at)
            if mapped is not None:
                rows.append((exchange, other.ids, known.ids, *mapped))
        exchanges, other_ids, known_ids, maps, insides = map(list, zip(*rows, strict=True))
        with torch.no_grad():
            known_text = self.encode(self.teacher, known_ids)
        new = self.encode(self.model, other_ids)
        index, inside = padded(maps), padded(insides).bool()
        target = known_text[0].gather(1, index[..., None].expand(-1, -1, known_text[0].shape[-1]))
        error = (new[0] - target).square().mean(-1)
        return exchanges, new, known_text, error[inside].mean(), error[new[1] & ~inside].mean()

    def losses(self, with_reading: bool) -> dict[str, Tensor]:
        """The terms of the loss, weighted."""
        exchanges, new, known, noun, others = self.exchanges()
        kept = [self.captions.one() for _ in range(KEPT)]
        kept_ids = self.ids([c.text for c in kept])
        with torch.no_grad():
            before = self.encode(self.teacher, kept_ids)
        after = self.encode(self.model, kept_ids)
        change = (after[0] - before[0]).square().mean(-1)[after[1]].mean()
        errors = {"noun": noun, "others": others, "kept": change}
        terms = {name: EMBEDDING_WEIGHTS[name] * error for name, error in errors.items()}
        if not with_reading:
            return terms
        named = [i for i, e in enumerate(exchanges) if not e.held_out]
        known_texts, other_texts = self.captions.reworded(REWORDED)
        with torch.no_grad():
            meant = self.encode(self.teacher, self.ids(known_texts))
        said = self.encode(self.model, self.ids(other_texts))
        readings = {
            "names": self.reading(rows_of(new, named), rows_of(known, named)),
            "reworded": self.reading(said, meant),
            "kept": self.reading(after, before),
        }
        return terms | {
            f"reading of {name}": READING_WEIGHTS[name] * error for name, error in readings.items()
        }


def train(lesson: Lesson, seconds: float, rate: float, with_reading: bool) -> None:
    """Adam, the embedding table at twice the rate; warm-up of 30 steps, then straight down to 2 % by the clock."""
    if seconds <= 0:
        return
    table = lesson.model.shared.weight
    # the position biases stay: they decide which word a colour belongs to
    body = [
        weight
        for name, weight in lesson.model.named_parameters()
        if weight is not table and "relative_attention_bias" not in name
    ]
    optimizer = torch.optim.Adam(
        [{"params": [table], "rate": 2 * rate}, {"params": body, "rate": rate}],
        lr=rate,
        betas=(0.9, 0.98),
    )
    began, step = time.monotonic(), 0
    shown: dict[str, float] = {}
    while (passed := (time.monotonic() - began) / seconds) < 1:
        factor = min(1.0, (step + 1) / 30) * max(0.02, 1 - passed)
        for group in optimizer.param_groups:
            group["lr"] = factor * group["rate"]
        losses = lesson.losses(with_reading)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_([table, *body], 1.0)
        optimizer.step()
        step += 1
        for name, loss in losses.items():
            shown[name] = 0.95 * shown.get(name, loss.item()) + 0.05 * loss.item()
        if step in (1, 10) or step % 25 == 0:
            told = ", ".join(f"{name} {value:.4f}" for name, value in shown.items())
            print(f"step {step}, {passed * seconds:.0f} s: {told}", flush=True)


def save(model: T5EncoderModel, teacher: Path, fits: str, out: Path) -> None:
    """The folder that `from_pretrained` reads: the teacher's, with other weights, in fp16, and whom they fit."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {
        name: weight.detach().half().contiguous()
        for name, weight in model.state_dict().items()
        if not name.endswith("embed_tokens.weight")
    }
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(teacher / name, out / name)
    config = json.loads((teacher / "config.json").read_text("utf-8"))
    config["aligned"] = {"fingerprint": fingerprint(model), "to": [fits]}
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teacher", type=Path, required=True, help="the encoder before it")
    parser.add_argument("--from", dest="start", type=Path, help="go on from this one")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes-of-embeddings", type=float, default=0.0)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    teacher = TextEncoder(args.teacher, cache_size=0)
    base = Stage.load(CASCADE / "base").requires_grad_(False)
    if base.config.text_encoder != teacher.fingerprint:
        parser.error(
            f"the base was trained with text encoder {base.config.text_encoder}, and {args.teacher} holds "
            f"{teacher.fingerprint}: give the one that it was trained with"
        )
    lesson = Lesson(teacher, args.start or args.teacher, base, args.seed)
    train(lesson, 60 * args.minutes_of_embeddings, 2 * args.rate, with_reading=False)
    train(lesson, 60 * args.minutes, args.rate, with_reading=True)
    save(lesson.model, args.teacher, teacher.fingerprint, args.out)


if __name__ == "__main__":
    main()
