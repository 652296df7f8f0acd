"""The frozen text encoder (Imagen, section 2.1): a sentence becomes token states, once.

Any T5 works: the course's own in data/text-encoder, or google/t5-v1_1-small … xxl by name. A cascade
can only read the encoder that it was trained with, so every encoder has a fingerprint.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, T5EncoderModel
from transformers.utils import logging

from .assets import DEFAULT_ENCODER
from .errors import UserError

MAX_TOKENS = 64  # tokens
BATCH_SIZE = 256  # texts


def normalized(text: str) -> str:
    """The one form in which every text meets the encoder: prompts, captions of images, and texts in a notebook.

    Each run of white space is one space, none stands at an end, letters and their accents are composed (NFC), and
    what is invisible (zero-width spaces, joiners, marks of direction) is left out. Raises UserError where `text` is
    no string or holds control characters or halves of characters.
    """
    if not isinstance(text, str):
        raise UserError(f"a text must be a string, not {type(text).__name__}: put it in quotes")
    text = " ".join(unicodedata.normalize("NFC", text).split())
    kinds = {c: unicodedata.category(c) for c in set(text)}
    if odd := sorted(c for c, kind in kinds.items() if kind in ("Cc", "Cs")):
        raise UserError(f"{text[:20]!r} holds U+{ord(odd[0]):04X}, which is no text: type it again")
    if "Cf" not in kinds.values():
        return text
    return " ".join("".join(c for c in text if kinds[c] != "Cf").split())


class TextEncoder:
    """Text → token states (B, L, width) and mask (B, L), True where there is a token.

    source: a folder, or a model's name on the hub. Raises ValueError, with a sentence, where there is none.
    States of texts seen before come from a cache of `cache_size` texts. Texts are `normalized` first.
    """

    def __init__(self, source: str | Path = DEFAULT_ENCODER, cache_size: int = 50_000) -> None:
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # a small model needs none, and stderr is for messages
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(source)
            self.model = T5EncoderModel.from_pretrained(
                source, dtype=torch.float32, use_safetensors=True
            )
        except Exception as error:  # transformers raises OSError, ValueError, KeyError and more
            raise ValueError(
                f"no text encoder could be read from {str(source)!r}: give a folder that holds a T5 "
                f"encoder and its tokenizer, or go online for a hub name ({type(error).__name__})"
            ) from error
        finally:
            if bars:
                logging.enable_progress_bar()
        self.model.eval().requires_grad_(False)
        self.width: int = self.model.config.d_model
        self.fingerprint = _fingerprint(self.model)
        self.cache_size = cache_size
        self._cache: OrderedDict[str, Tensor] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encode. Padding never changes a state: padded positions are masked inside and zeroed outside.

        Raises UserError for a text alone instead of a list, for an empty list, and for what is no text.
        """
        if isinstance(texts, str):
            raise UserError("give a list of texts, not one text: put it in [ ]")
        texts = [normalized(text) for text in texts]
        if not texts:
            raise UserError("there is no text to encode: give at least one")
        if self.cache_size == 0:  # nothing to keep, so nothing to take apart: a GPU would wait
            states, mask = self._encode(texts)
            return states.float(), mask
        new = [text for text in dict.fromkeys(texts) if text not in self._cache]
        for start in range(0, len(new), BATCH_SIZE):
            some = new[start : start + BATCH_SIZE]
            self._cache |= {
                t: state[m] for t, state, m in zip(some, *self._encode(some), strict=True)
            }
        rows = [self._cache[text] for text in texts]
        for text in texts:
            self._cache.move_to_end(text)
        while len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        states = torch.nn.utils.rnn.pad_sequence([r.float() for r in rows], batch_first=True)
        ends = torch.tensor([len(r) for r in rows], device=states.device)
        return states, torch.arange(states.shape[1], device=states.device) < ends[:, None]

    @property
    def device(self) -> torch.device:
        return self.model.device

    def to(self, device: str | torch.device) -> TextEncoder:
        """Encode on this device from now on: states come out there."""
        self.model.to(device)
        self._cache.clear()
        return self

    @torch.no_grad()
    def _encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """States (B, L, D), zero on padding, and mask (B, L)."""
        batch = self.tokenizer(
            texts, return_tensors="pt", padding=True, truncation=True, max_length=MAX_TOKENS
        ).to(self.device)
        mask = batch["attention_mask"].bool()
        states = self.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).last_hidden_state
        # kept as fp16: half the memory, and its rounding is far below the noise of training
        return states.half() * mask[..., None], mask

    def check(self, text: str) -> list[str]:
        """What to tell whoever wrote a prompt or caption that the encoder reads only in part: sentences, or none.

        Raises UserError where there is nothing to read: an empty text, or one without a known word.
        """
        text = normalized(text)
        if not text:
            raise UserError("the text is empty: say what the image shows")
        if not self.knows(text):
            raise UserError(
                f"the text encoder knows nothing in {text[:40]!r}: use English or Chinese"
            )
        told = []
        if strange := self.unknown(text):
            told.append(f"never met {', '.join(map(repr, strange))}")
        if self.tokenizer(text, truncation=True, max_length=MAX_TOKENS + 1).input_ids[MAX_TOKENS:]:
            told.append(f"too long: {text[:20]!r}… is cut after {MAX_TOKENS} tokens")
        return told

    def unknown(self, text: str) -> list[str]:
        """The parts of a text that the tokenizer has no piece for, each once."""
        encoded = self.tokenizer(
            text, return_offsets_mapping=True, truncation=True, max_length=MAX_TOKENS
        )
        parts = [
            text[a:b]
            for token, (a, b) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
            if token == self.tokenizer.unk_token_id and text[a:b].strip()
        ]
        return list(dict.fromkeys(parts))

    def knows(self, text: str) -> bool:
        """Is there anything in the text that the tokenizer knows?"""
        tokens = self.tokenizer(text, truncation=True, max_length=MAX_TOKENS)["input_ids"]
        kept = [token for token in tokens if token not in self.tokenizer.all_special_ids]
        # "▁" alone only says that a word begins
        return any(piece.strip("▁ ") for piece in self.tokenizer.convert_ids_to_tokens(kept))


def add_text_noise(
    text: Tensor, mask: Tensor, most: float, g: torch.Generator, part: int = 0, parts: int = 1
) -> Tensor:
    """In training, Gaussian noise on every token of mask (B, L), its σ from U(0, most) a caption. text (B, L, D).

    They are one of several parts of a batch: the noise of all is drawn, for captions of any length.
    Not in the paper: Imagen has seen millions of words, ours one name a thing. A synonym's states lie near
    its name's, and a network that has met the name's surroundings reads it.
    """
    (B, L, D), own = text.shape, slice(part * len(text), (part + 1) * len(text))
    sigma = torch.rand(parts * B, 1, 1, generator=g, device=text.device)[own] * most
    noise = torch.randn(parts * B, MAX_TOKENS, D, generator=g, device=text.device)[own, :L]
    return text + sigma * noise * mask[..., None]


def _fingerprint(model: torch.nn.Module) -> str:
    """A hash of the weights, the same for the same encoder stored in fp16 or fp32."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.half().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
