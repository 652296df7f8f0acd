"""Measures a text encoder folder: words, order, number, binding, padding, size."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Callable
from pathlib import Path

import text_sources as sources
import torch
import torch.nn.functional as F
from text_captions import COLOURS, Caption, Captions
from torch import Tensor
from transformers import AutoTokenizer, T5EncoderModel

Share = tuple[int, int]  # right answers, questions


class Encoder:
    """The folder as any user loads it."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = T5EncoderModel.from_pretrained(folder).eval()

    @torch.inference_mode()
    def states(self, texts: list[str]) -> tuple[Tensor, Tensor, list[list[tuple[int, int]]]]:
        """Token states, mask, and which characters each token covers."""
        batch = self.tokenizer(
            texts, padding=True, return_tensors="pt", return_offsets_mapping=True
        )
        offsets = batch.pop("offset_mapping").tolist()
        return self.model(**batch).last_hidden_state, batch["attention_mask"], offsets

    def pooled(self, texts: list[str]) -> Tensor:
        out = []
        for i in range(0, len(texts), 64):
            states, mask, _ = self.states(texts[i : i + 64])
            out.append((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
        return torch.cat(out)


def confidence_interval(share: Share) -> str:
    """A share in per cent with Wilson's 95 % interval."""
    right, n = share
    p, z = right / n, 1.96
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return f"{100 * p:.1f} % [{100 * (middle - half):.1f}, {100 * (middle + half):.1f}] of {n}"


def nearest(
    asked: Tensor, names: Tensor, answers: list[int], centre: Tensor | None = None
) -> Tensor:
    """Is the nearest name the right one? Everything is centred by the names' mean first."""
    middle = names.mean(0)
    names = F.normalize(names - middle, dim=-1)
    asked = F.normalize(asked - (middle if centre is None else centre), dim=-1)
    return (asked @ names.T).argmax(-1) == torch.tensor(answers)


def words(
    pooled: Callable[[list[str]], Tensor],
    things: list[sources.Thing],
    hyponyms: dict[str, list[str]],
) -> dict[str, Share]:
    """Retrieval among the names of all things; `pooled` turns texts into vectors."""
    found: dict[str, Share] = {}
    names = {lang: pooled([t.names(lang)[0] for t in things]) for lang in ("en", "zh")}
    taken = {w for t in things for w in t.names("en")} | {t.plural for t in things}

    def ask(title: str, lang: str, questions: list[tuple[str, int]]) -> None:
        hits = nearest(pooled([w for w, _ in questions]), names[lang], [i for _, i in questions])
        found[title] = (int(hits.sum()), len(hits))
        missed = [w for (w, _), hit in zip(questions, hits, strict=True) if not hit]
        print(f"  missed, {title}: {', '.join(missed[:60])}")

    for lang, language in (("en", "English"), ("zh", "Chinese")):
        ask(f"synonym → thing, {language}", lang,
            [(w, i) for i, t in enumerate(things) for w in t.names(lang)[1:]])  # fmt: skip
    ask("plural → thing, English", "en", [(t.plural, i) for i, t in enumerate(things)])
    rng = random.Random(7)
    slips = [(sources.typo(t.en, rng), i) for i, t in enumerate(things) if len(t.en) > 3]
    ask("misspelt name → thing, English", "en", slips)
    narrower = [(w, i) for i, t in enumerate(things) for w in hyponyms.get(t.en, [])]
    count = {w: sum(w == v for v, _ in narrower) for w, _ in narrower}
    narrower = [(w, i) for w, i in narrower if w not in taken and count[w] == 1]
    ask("WordNet's narrower word → thing, English", "en", narrower)
    across = nearest(names["zh"], names["en"], list(range(len(things))), names["zh"].mean(0))
    found["Chinese name → English name"] = (int(across.sum()), len(across))
    return found


def noun_states(encoder: Encoder, captions: list[Caption]) -> list[dict[int, Tensor]]:
    """For every caption, the mean state of the tokens that name each of its things."""
    out = []
    for a in range(0, len(captions), 64):
        part = captions[a : a + 64]
        states, _, offsets = encoder.states([c.text for c in part])
        for caption, rows, spots in zip(part, states, offsets, strict=True):
            nouns = {}
            for (kind, i), (start, end) in caption.spans.items():
                if kind == "noun":
                    own = [n for n, (s, e) in enumerate(spots) if s < end and e > start]
                    nouns[i] = rows[own].mean(0)
            out.append(nouns)
    return out


def probe(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: int) -> Tensor:
    """Logistic regression on standardised states. Gives right or wrong for every test row."""
    mean, std = train[0].mean(0), train[0].std(0)
    x, seen = (train[0] - mean) / std, (test[0] - mean) / std
    weight = torch.zeros(x.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(x @ weight + bias, train[1]) + 1e-3 * weight.square().sum()
        loss.backward()
        return loss

    solver.step(closure)
    return (seen @ weight + bias).argmax(-1) == test[1]


def order(encoder: Encoder, things: list[sources.Thing], count: int = 2000) -> dict[str, Share]:
    """Linear probes on token states. No thing of the test captions occurs in the training ones."""
    rng = random.Random(11)
    pool = list(range(len(things)))
    rng.shuffle(pool)
    halves = (pool[: len(pool) // 2], pool[len(pool) // 2 :])
    grammar = Captions(things, synonyms=0.3)
    found: dict[str, Share] = {}
    colours = list(COLOURS)

    def sample(half: list[int], kind: str, lang: str) -> list[Caption]:
        out = []
        while len(out) < count:
            caption = grammar.say(grammar.scene(rng, half, kind), lang, rng)
            groups = caption.scene.groups
            tinted = [g.colour for g in groups]
            if kind != "and2" or (all(tinted) and tinted[0] != tinted[1]):
                out.append(caption)
        return out

    for title, kind, classes in (
        ("left or right", "left", 2),
        ("above or below", "above", 2),
        ("number", "left", 3),
        ("whose colour", "and2", len(colours)),
    ):
        for lang, language in (("en", "English"), ("zh", "Chinese")):
            data = []
            for half in halves:
                captions = sample(half, kind, lang)
                rows, labels = [], []
                for caption, nouns in zip(captions, noun_states(encoder, captions), strict=True):
                    for i, state in nouns.items():
                        group = caption.scene.groups[i]
                        rows.append(state)
                        label = {"number": group.count - 1, "whose colour": 0}.get(title, i)
                        labels.append(colours.index(group.colour) if kind == "and2" else label)
                data.append((torch.stack(rows), torch.tensor(labels)))
            hits = probe(data[0], data[1], classes)
            found[f"{title}, {language}"] = (int(hits.sum()), len(hits))
    return found


def padding(encoder: Encoder, things: list[sources.Thing]) -> float:
    """The largest change that a padded batch makes to a state."""
    grammar, rng = Captions(things), random.Random(5)
    texts = ["猫", "a cat"]
    texts += [grammar.say(grammar.scene(rng), lang, rng).text for lang in ("en", "zh") * 15]
    together, mask, _ = encoder.states(texts)
    worst = 0.0
    for text, row, real in zip(texts, together, mask.bool(), strict=True):
        worst = max(worst, (encoder.states([text])[0][0] - row[real]).abs().max().item())
    return worst


def spread(encoder: Encoder, things: list[sources.Thing]) -> str:
    grammar, rng = Captions(things), random.Random(6)
    texts = [grammar.say(grammar.scene(rng), lang, rng).text for lang in ("en", "zh") * 100]
    states, mask, _ = encoder.states(texts)
    real = states[mask.bool()]
    means, deviations = real.mean(0), real.std(0)
    return (
        f"per dimension: mean {means.abs().mean():.2f} away from 0, "
        f"at most {means.abs().max():.2f}; standard deviation {deviations.mean():.2f}, "
        f"from {deviations.min():.2f} to {deviations.max():.2f}"
    )


def measure(
    folder: Path,
    things: list[sources.Thing],
    hyponyms: dict[str, list[str]],
    teacher: Callable[[list[str]], Tensor],
) -> list[str]:
    """Everything, as the rows of a table."""
    encoder = Encoder(folder)
    size = sum(p.numel() for p in encoder.model.parameters())
    print("pocket T5")
    ours = words(encoder.pooled, things, hyponyms)
    print("teacher")
    theirs = words(teacher, things, hyponyms)
    rows = ["| words: nearest of all names | pocket T5 | its teacher |", "| --- | --- | --- |"]
    rows += [
        f"| {t} | {confidence_interval(s)} | {confidence_interval(theirs[t])} |"
        for t, s in ours.items()
    ]
    rows += ["", "| linear probe on token states | pocket T5 |", "| --- | --- |"]
    rows += [f"| {t} | {confidence_interval(s)} |" for t, s in order(encoder, things).items()]
    rows += ["", f"- Names to choose from: {len(things)} in each language."]
    rows += [f"- Parameters: {size:,}."]
    rows += [f"- Padding changes a state by at most {padding(encoder, things):.1e}."]
    rows += [f"- Token states, {spread(encoder, things)}."]
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return [*rows, f"- SHA-256 of `model.safetensors`: `{digest}`."]


CARD = (Path(__file__).parent / "text_encoder_card.md").read_text(encoding="utf-8")


def fill(card: str, rows: list[str]) -> str:
    """Puts the scores into their place in the card."""
    inside = "<!-- scores -->\n" + "\n".join(rows) + "\n<!-- /scores -->"
    return re.sub("<!-- scores -->.*<!-- /scores -->", lambda _: inside, card, flags=re.S)
