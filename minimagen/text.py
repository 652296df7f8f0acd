"""The frozen text encoder (Imagen, section 2.1): text → token embeddings.

Any T5 encoder works: the course's own in data/text-encoder, or google/t5-v1_1-small … xxl by its hub name. A
cascade works only with the encoder that it was trained with, or one that was aligned to it: every encoder has
a fingerprint.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from .assets import DEFAULT_ENCODER
from .errors import UserError

MAX_TOKENS = 64  # longer texts are cut
BATCH_SIZE = 256  # texts that are encoded at once


def normalized(text: str) -> str:
    """The form in which every text is encoded: prompts, captions of images, and texts in a notebook.

    Each run of white space becomes one space, with none at either end; letters and accents are composed (NFC);
    invisible characters (zero-width spaces, joiners, direction marks) are removed. Raises UserError where `text` is
    no string, or holds control characters or lone surrogates.
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


class TextEncoder(nn.Module):
    """A frozen T5 encoder: texts → token embeddings (B, L, width) and mask (B, L), True at tokens.

    source: a folder, or a model's name on the hub. cache_size: the number of texts whose embeddings are kept;
    0: none. width: D of the embeddings; fingerprint: a hash of the weights.

    It stays in eval mode and in float32, whatever is done to the module that holds it, and computes without
    gradients. Its weights are left out of the state_dict of such a module: they never change. Raises UserError
    where there is no T5 encoder.
    """

    def __init__(self, source: str | Path = DEFAULT_ENCODER, cache_size: int = 50_000) -> None:
        super().__init__()
        # here, as it takes seconds: whoever encodes no text does not wait for it
        from transformers import AutoTokenizer, T5EncoderModel
        from transformers.utils import logging

        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # stderr is for messages
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(source)
            self.model = T5EncoderModel.from_pretrained(
                source, dtype=torch.float32, use_safetensors=True
            )
        except Exception as error:  # transformers raises OSError, ValueError, KeyError and more
            raise UserError(
                f"no text encoder could be read from {str(source)!r}: give a folder that holds a T5 "
                f"encoder and its tokenizer, or go online for a hub name ({type(error).__name__})"
            ) from error
        finally:
            if bars:
                logging.enable_progress_bar()
        self.model.eval().requires_grad_(False)
        self.width: int = self.model.config.d_model
        self.fingerprint = fingerprint(self.model)
        self.cache_size = cache_size
        self._cache: OrderedDict[str, Tensor] = OrderedDict()
        self.register_state_dict_post_hook(_leave_out)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_fill_in)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embeddings (B, L, width) float32, zero at padding, and mask (B, L), on the encoder's device.

        Texts are `normalized` first. An embedding does not depend on the padding, but for the last bits of
        rounding. Raises UserError for a text alone instead of a list, for an empty list, and for what is no text.
        """
        if isinstance(texts, str):
            raise UserError("give a list of texts, not one text: put it in [ ]")
        texts = [normalized(text) for text in texts]
        if not texts:
            raise UserError("there is no text to encode: give at least one")
        if self.cache_size == 0:  # without the indexing below, which would synchronise with a GPU
            embeddings, mask = self._encode(texts)
            return embeddings.float(), mask
        new = [text for text in dict.fromkeys(texts) if text not in self._cache]
        for start in range(0, len(new), BATCH_SIZE):
            part = new[start : start + BATCH_SIZE]
            encoded = zip(part, *self._encode(part), strict=True)
            self._cache |= {text: embedding[m] for text, embedding, m in encoded}
        rows = [self._cache[text] for text in texts]
        for text in texts:
            self._cache.move_to_end(text)
        while len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        embeddings = torch.nn.utils.rnn.pad_sequence([r.float() for r in rows], batch_first=True)
        lengths = torch.tensor([len(r) for r in rows])
        mask = torch.arange(embeddings.shape[1]) < lengths[:, None]
        return embeddings, mask.to(embeddings.device)

    def fits(self, trained_with: str) -> bool:
        """Whether networks that were trained with the encoder of this fingerprint can read its embeddings.

        They can where it is this encoder, or one that these weights were aligned to, which config.json then says:
        "aligned": {"fingerprint": of the weights, "to": […]}. "": trained with none.
        """
        aligned: dict[str, Any] = getattr(self.model.config, "aligned", None) or {}
        own = (
            aligned.get("fingerprint") == self.fingerprint
        )  # other weights may have the same config
        return trained_with in ("", self.fingerprint, *(aligned["to"] if own else ()))

    @property
    def device(self) -> torch.device:
        """Where it computes, and where embeddings come out."""
        return cast(torch.device, self.model.device)

    def train(self, mode: bool = True) -> TextEncoder:
        """Stay in eval mode, without dropout: the encoder is frozen. Returns itself."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TextEncoder:
        """What .to, .cuda, .half … call, here and in a module around it: the device changes, the dtype stays.

        T5 overflows in float16. The cache is emptied: its tensors are on the former device.
        """

        def move(value: Tensor) -> Tensor:
            moved = fn(value)
            return moved if moved.dtype == value.dtype else value.to(moved.device)

        self._cache.clear()
        return cast(TextEncoder, super()._apply(move, recurse))  # type: ignore[no-untyped-call]

    def _encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Embeddings (B, L, D) float16, zero at padding, and mask (B, L)."""
        batch = self.tokenizer(
            texts, return_tensors="pt", padding=True, truncation=True, max_length=MAX_TOKENS
        ).to(self.device)
        mask = batch["attention_mask"].bool()
        embeddings = self.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).last_hidden_state
        # float16 halves the memory of the cache
        return embeddings.half() * mask[..., None], mask

    def check(self, text: str) -> list[str]:
        """Warnings for a prompt or caption of which only a part is read: sentences, or none.

        Raises UserError where nothing can be read: an empty text, or one without a known token.
        """
        text = normalized(text)
        if not text:
            raise UserError("the text is empty: say what the image shows")
        if not self.knows(text):
            raise UserError(
                f"no token of {text[:40]!r} is in the text encoder's vocabulary: use English or Chinese"
            )
        told = []
        if strange := self.unknown(text):
            told.append(f"unknown to the text encoder: {', '.join(map(repr, strange))}")
        if self.tokenizer(text, truncation=True, max_length=MAX_TOKENS + 1).input_ids[MAX_TOKENS:]:
            told.append(f"too long: {text[:20]!r}… is cut after {MAX_TOKENS} tokens")
        return told

    def unknown(self, text: str) -> list[str]:
        """The parts of a text that the tokenizer maps to its unknown token, each once."""
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
        """Whether any token of the text is in the vocabulary."""
        tokens = self.tokenizer(text, truncation=True, max_length=MAX_TOKENS)["input_ids"]
        kept = [token for token in tokens if token not in self.tokenizer.all_special_ids]
        # "▁" alone marks the beginning of a word
        return any(piece.strip("▁ ") for piece in self.tokenizer.convert_ids_to_tokens(kept))


def tokenize(tokenizer: Any, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
    """Token ids and mask, (B, length) each, True at tokens, of `normalized` texts, padded or cut to that length."""
    batch = tokenizer(
        [normalized(text) for text in texts],
        return_tensors="pt",
        padding="max_length",
        truncation=True,
        max_length=length,
    )
    return batch["input_ids"], batch["attention_mask"].bool()


def add_text_noise(text: Tensor, mask: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """For training: add Gaussian noise of standard deviation sigma (B, 1, 1) to the embeddings of tokens.

    text (B, L, D), mask (B, L) True at tokens, noise (B, ≥ L, D). Not in the paper: our captions have few names
    for each object, and the noise makes the U-Nets robust to nearby embeddings, such as those of synonyms.
    """
    return text + sigma * noise[:, : text.shape[1]] * mask[..., None]


def draw_text_noise(
    batch: int, width: int, max_sigma: float, generator: torch.Generator, exponent: float = 1.0
) -> tuple[Tensor, Tensor]:
    """sigma (B, 1, 1) = max_sigma · u^exponent, u ~ U(0, 1), and noise (B, MAX_TOKENS, D) for `add_text_noise`."""
    device = generator.device
    sigma = max_sigma * torch.rand(batch, 1, 1, generator=generator, device=device) ** exponent
    return sigma, torch.randn(batch, MAX_TOKENS, width, generator=generator, device=device)


def _leave_out(encoder: nn.Module, state: dict[str, Tensor], prefix: str, _: object) -> None:
    """A hook on state_dict: without the encoder's weights, unless it is the encoder's own."""
    for name in [name for name in state if prefix and name.startswith(prefix)]:
        del state[name]


def _fill_in(encoder: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """A hook on load_state_dict: what `_leave_out` left out stays as it is, and is not missing."""
    if prefix and not any(name.startswith(prefix) for name in state):
        state.update({prefix + name: value for name, value in encoder.state_dict().items()})


def fingerprint(model: torch.nn.Module) -> str:
    """A hash of the weights in float16, so that storing them in float16 or float32 does not change it."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.half().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
