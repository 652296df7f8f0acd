"""Fuzzing what is at the door: a right result or one sentence; never a traceback, a hang or a wrong image.

200 inputs of each kind, 5,000 in the slow tests.
"""

import copy
import io
import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from minimagen.errors import UserError
from minimagen.images import read_image
from minimagen.scenes import Folder
from minimagen.stage import DEFAULTS, Stage
from minimagen.text import MAX_TOKENS, TextEncoder, normalized
from minimagen.unet import UNetConfig

FUZZ = {
    "deadline": 10_000,  # milliseconds: longer is a hang
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}
AMOUNTS = [
    pytest.param(200, id="200"),
    pytest.param(5000, id="5000", marks=pytest.mark.slow),
]


def fuzz(count, strategy, check):
    """Try `count` inputs; prints how many there were and how many were refused."""
    tried, refused = [], []

    @settings(max_examples=count, **FUZZ)
    @given(strategy)
    def run(value):
        tried.append(1)
        try:
            check(value)
        except UserError as error:
            refused.append(1)
            assert 10 < len(str(error)), "a sentence"

    run()
    print(f"{len(tried)} tried, {len(refused)} refused")
    assert len(tried) >= 0.9 * count


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def damaged(data):
    """Bytes like `data`: cut, with bytes changed, or with bytes put in."""
    places = st.integers(0, len(data) - 1)
    change = st.tuples(places, st.binary(min_size=1, max_size=4), st.booleans())
    return st.tuples(st.none() | places, st.lists(change, max_size=4)).map(
        lambda how: apply(data, *how)
    )


def apply(data, end, changes):
    data = bytearray(data[:end])
    for at, new, inserted in changes:
        data[at : at if inserted else at + len(new)] = new
    return bytes(data)


# --- prompts --------------------


WORDS = st.lists(
    st.sampled_from(["a cat", "一只猫", "on the grass", "\u200b", "\n", "é", "🐈", "\x00"]),
    max_size=99,
)


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder(cache_size=0)


@pytest.mark.parametrize("count", AMOUNTS)
def test_prompts(count, encoder):
    def check(text):
        told, (states, mask) = encoder.check(text), encoder([text])
        assert all(isinstance(sentence, str) for sentence in told)
        assert states.isfinite().all() and 1 < mask.sum() <= MAX_TOKENS
        assert normalized(normalized(text)) == normalized(text)
        again, _ = encoder([f" \n{text}\u200b\t"])
        assert torch.equal(states, again)

    fuzz(count, st.text() | st.text(st.characters()) | WORDS.map(" ".join), check)


# --- metadata.jsonl --------------------


ROW = st.fixed_dictionaries(
    {},
    optional={
        "file_name": st.sampled_from(["a.png", "./a.png", "b.png", "../a.png", ""])
        | st.text()
        | JSON,
        "text": st.sampled_from(["a cat", " "]) | st.text() | JSON,
        "caption": st.text() | JSON,
    },
)
LINES = st.lists(ROW.map(json.dumps) | st.text() | JSON.map(json.dumps), max_size=6)
# as people write it: most of it is right
TOLD = st.fixed_dictionaries(
    {
        "file_name": st.sampled_from(["a.png", "./a.png"]),
        "text": st.sampled_from(["a cat", "一只猫", " a  red\ncat ", "two dogs 𓀀"]),
    },
    optional={"caption": st.sampled_from(["a dog", "", "é"]), "more": JSON},
)
PLAUSIBLE = st.builds(
    lambda rows, between, ascii, encoding: between.join(
        json.dumps(row, ensure_ascii=ascii) for row in rows
    ).encode(encoding, "backslashreplace"),
    st.lists(TOLD, min_size=1, max_size=4),
    st.sampled_from(["\n", "\r\n", "\n\n", " "]),
    st.booleans(),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
GOOD = "".join(json.dumps({"file_name": "a.png", "text": t}) + "\n" for t in ("a cat", "一只猫"))


@pytest.mark.parametrize("count", AMOUNTS)
def test_metadata(count, encoder, tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")

    def check(data):
        (tmp_path / "metadata.jsonl").write_bytes(data)
        folder = Folder(tmp_path, 4, encoder)
        assert len(folder) > 0
        for image, caption in (folder[i] for i in range(len(folder))):
            assert image.mean((1, 2)).tolist() == [1, -1, -1], "a.png is all there is"
            assert caption == normalized(caption) and caption

    lines = LINES.map(lambda z: "\n".join(z).encode("utf-8", "surrogatepass"))
    damages = damaged(GOOD.encode()) | damaged(GOOD.encode("utf-16"))
    fuzz(count, PLAUSIBLE | PLAUSIBLE | lines | damages | st.binary(), check)


# --- a stage: config.json, and the head of model.safetensors --------------------


@pytest.fixture
def stage_folder(tmp_path):
    """A stage with everything that one can have, and few weights."""
    unet = UNetConfig((16, 32), (1, 1), ("cross", "self"), 32, 32, 16, efficient=True, low_res=True)
    Stage(replace(DEFAULTS["sr256"], unet=unet)).save(tmp_path)
    return tmp_path


def loads_or_refuses(folder, like):
    """What loads is a stage of the same weights: another number in the config may not change them."""
    stage = Stage.load(folder)
    assert stage.unet.state_dict().keys() == like.keys()
    assert all(v.isfinite().all() for v in stage.unet.state_dict().values())


SHARE = st.floats(0, 1)
SETTINGS = {  # that change no weight: all of these must load
    "steps": st.integers(1, 10_000),
    "guidance": st.none() | st.floats(0, 1000) | st.integers(0, 1000),
    "aug_level": SHARE,
    "max_aug_level": SHARE,
    "caption_drop": SHARE,
    "time_exponent": st.floats(1e-3, 1e3),
    "max_loss_weight": st.none() | st.floats(1e-6, 1e6),
    "crop": st.none() | st.integers(4, 4096),
    "threshold": st.sampled_from(["static", "dynamic", "none"]),
    "schedule": st.sampled_from(["cosine", "linear"]),
    "target": st.sampled_from(["eps", "x_0", "v"]),
    "vocabulary": st.sampled_from(["starter", "whole"]),
    "text_encoder": st.text(st.characters(exclude_categories=["Cs"])),
}


@pytest.mark.parametrize("count", AMOUNTS)
def test_config(count, stage_folder):
    text = (stage_folder / "config.json").read_bytes()
    like, config = Stage.load(stage_folder).unet.state_dict(), json.loads(text)
    own = [(None, key) for key in config] + [("unet", key) for key in config["unet"]]
    value = JSON | st.sampled_from([0, -1, 1e9, 2**40, "", [], {}, [0], [-1, 2, 3], None, True])

    def changed(how):
        new = copy.deepcopy(config)
        for (part, key), value in how:
            target = new if part is None else new.get(part)
            if isinstance(target, dict):
                target[key] = value
        return json.dumps(new).encode()

    changes = st.lists(st.tuples(st.sampled_from(own), value), min_size=1, max_size=2).map(changed)

    right = st.fixed_dictionaries({}, optional=SETTINGS).map(
        lambda z: json.dumps({**config, **z}).encode()
    )

    def check(data):
        (stage_folder / "config.json").write_bytes(data)
        loads_or_refuses(stage_folder, like)

    noise = JSON.map(lambda z: json.dumps(z).encode())
    fuzz(count, right | changes | damaged(text) | noise, check)


@pytest.mark.parametrize("count", AMOUNTS)
def test_head_of_safetensors(count, stage_folder):
    path = stage_folder / "model.safetensors"
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    head, body, like = (
        data[: 8 + length],
        data[8 + length :],
        Stage.load(stage_folder).unet.state_dict(),
    )

    def check(head):
        path.write_bytes(head + body)
        loads_or_refuses(stage_folder, like)

    sizes = st.integers(0, 2**64 - 1).map(lambda n: struct.pack("<Q", n) + head[8:])
    fuzz(count, damaged(head) | sizes | st.binary(max_size=64), check)


# --- images --------------------


def encoded(kind, **options):
    pixels = np.random.default_rng(0).integers(0, 255, (24, 16, 3), np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    image = image.convert(options.pop("mode")) if "mode" in options else image
    image.save(buffer, kind, **options)
    return buffer.getvalue()


FILES = [
    encoded("PNG"), encoded("PNG", mode="RGBA"), encoded("PNG", mode="P"), encoded("JPEG"), encoded("WEBP"),
    encoded("GIF"), encoded("BMP"), encoded("TIFF"), encoded("TIFF", compression="tiff_lzw"), encoded("PPM"),
    encoded("TGA"), encoded("ICO"),
]  # fmt: skip


@pytest.mark.parametrize("count", AMOUNTS)
def test_images(count, tmp_path):
    path = tmp_path / "a.png"
    odd = st.sampled_from(
        [b"", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg/>", b"\x89PNG\r\n\x1a\n"]
    )

    def check(data):
        path.write_bytes(data)
        pixels = read_image(path, 8)
        assert pixels.shape == (8, 8, 3) and pixels.dtype == np.uint8

    fuzz(count, st.sampled_from(FILES).flatmap(damaged) | odd | st.binary(), check)
