"""Folders of your own images: what is read is what was named, whole, in its order, or a sentence says why not."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image, features

from minimagen import images
from minimagen.doctor import examine
from minimagen.errors import UserError
from minimagen.scenes import Folder
from minimagen.text import TextEncoder


def put(folder, *rows, colour="red"):
    """A folder with an image and a line for each (name, text)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, _ in rows:
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), colour).save(folder / name)
    lines = [json.dumps({"file_name": name, "text": text}) for name, text in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def raw(folder, text, encoding="utf-8"):
    put(folder, ("a.png", "a"), ("b.png", "b"))
    (folder / "metadata.jsonl").write_bytes(
        text if isinstance(text, bytes) else text.encode(encoding)
    )
    return folder


def refusal(folder, **options):
    with pytest.raises(UserError) as caught:
        Folder(folder, 16, **options)
    return str(caught.value)


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder()


# --- names --------------------


ODD = [
    "pics [2]",
    "pics *",
    "pics ?",
    "$HOME",
    "a::b",
    "~",
    "%20",
    "{a,b}",
    "#",
    "(1) [x]",
    "猫",
    "!",
    "'\"",
]


@pytest.mark.parametrize("name", ODD)
def test_a_folder_s_name_is_a_path_and_never_a_pattern(name, tmp_path):
    for other in ("pics 2", "pics x", "a", "b"):
        put(tmp_path / other, ("a.png", "the wrong folder"))
    folder = put(tmp_path / name, ("a.png", "a red cat"))
    assert Folder(folder, 16).captions == ["a red cat"]
    here = os.getcwd()
    try:
        os.chdir(folder)
        assert Folder(".", 16).captions == ["a red cat"]
    finally:
        os.chdir(here)


@pytest.mark.parametrize(
    "name", [*(f"{n}.png" for n in ODD), "x\\a.png", ".hidden.png", "train.png"]
)
def test_a_file_s_name_is_a_path_and_never_a_pattern(name, tmp_path):
    put(tmp_path / "f", ("pics 2.png", "wrong"), ("pics x.png", "wrong"), colour="blue")
    image, caption = Folder(put(tmp_path / "f", (name, "a red cat")), 16)[0]
    assert caption == "a red cat" and image.mean((1, 2)).tolist() == [1, -1, -1]


def test_files_in_folders_below_and_names_as_windows_writes_them(tmp_path):
    put(tmp_path, ("x/y/a.png", "one"))
    raw(
        tmp_path,
        '{"file_name": "x\\\\y\\\\a.png", "text": "one"}\n{"file_name": "./a.png", "text": "a"}',
    )
    assert Folder(tmp_path, 16).captions == ["one", "a"]


@pytest.mark.parametrize("name", ["../a.png", "x/../../a.png", "/etc/passwd", "..\\a.png"])
def test_a_file_outside_the_folder_is_not_read(name, tmp_path):
    put(tmp_path, ("a.png", "outside"))
    raw(tmp_path / "in", json.dumps({"file_name": name, "text": "a"}))
    assert "leads out of the folder" in refusal(tmp_path / "in")


def test_nothing_but_the_named_metadata_is_read(tmp_path):
    """No archive beside it, no metadata of folders below, no image that it does not list."""
    put(tmp_path / "old", ("a.png", "an old one"))
    put(tmp_path, ("a.png", "one"))
    Image.new("RGB", (9, 9)).save(tmp_path / "unlisted.png")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for name in ("a.png", "metadata.jsonl"):
            archive.write(tmp_path / name, name)
    (tmp_path / "junk.zip").write_bytes(b"junk")
    assert Folder(tmp_path, 16).captions == ["one"]
    assert not (tmp_path / "metadata.json").exists()


# --- order and identity --------------------


def test_order_and_identity_do_not_hang_on_a_hash_seed(tmp_path):
    rows = [(f"{chr(97 + i)}/x.png", f"number {i}") for i in range(6)]
    put(tmp_path, *rows[::-1])
    code = "import sys; from minimagen.scenes import Folder; f = Folder(sys.argv[1], 16)\n"
    code += "print(f.captions, f.identity)"
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    env = {**os.environ, "PYTHONHASHSEED": other}
    run = [sys.executable, "-c", code, str(tmp_path)]
    there = subprocess.run(run, env=env, capture_output=True, text=True, check=True).stdout
    here = Folder(tmp_path, 16)
    assert there == f"{here.captions} {here.identity}\n"
    assert here.captions == [f"number {i}" for i in range(5, -1, -1)], "as in the file"


def test_the_identity_is_of_images_captions_and_order(tmp_path):
    two = [("a.png", "a cat"), ("b.png", "a dog")]
    one = Folder(put(tmp_path / "1", *two), 16).identity
    assert Folder(put(tmp_path / "2", *two), 16).identity == one, "the same files elsewhere"
    assert Folder(put(tmp_path / "3", *two, colour="blue"), 16).identity != one
    assert Folder(put(tmp_path / "1", *two[::-1]), 16).identity != one
    assert Folder(put(tmp_path / "1", ("a.png", "a cat"), ("b.png", "a pig")), 16).identity != one


# --- images --------------------


def read(image, path, size=4, **options):
    image.save(path, **options)
    return images.read_image(path, size).astype(int)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm", "jp2"])
def test_sixteen_bits_of_grey_keep_their_meaning(suffix, tmp_path):
    if suffix == "jp2" and not features.check("jpg_2000"):
        pytest.skip("no JPEG 2000 here")
    ramp = np.linspace(300, 65535, 4096).reshape(64, 64).astype(np.uint16)
    seen = read(Image.fromarray(ramp), tmp_path / f"a.{suffix}")
    expected = ramp.reshape(4, 16, 4, 16).mean(axis=(1, 3)) / 257
    assert np.abs(seen - expected[..., None]).max() <= 1
    big = tmp_path / "b.tif"
    Image.fromarray(ramp.astype(">u2")).save(big)
    assert np.abs(images.read_image(big, 4) - expected[..., None]).max() <= 1


def test_pixels_whose_range_is_not_known_are_refused_by_name(tmp_path):
    values = np.linspace(0, 1, 64).reshape(8, 8)
    for mode, kind in (("F", np.float32), ("I", np.int32)):
        Image.fromarray(values.astype(kind)).save(tmp_path / f"{mode}.tif")
        with pytest.raises(UserError, match=f"mode {mode}, .*8-bit PNG"):
            images.read_image(tmp_path / f"{mode}.tif", 4)
    Image.fromarray(np.uint16([[0, 65535]])).save(tmp_path / "w.tif", tiffinfo={262: 0})
    with pytest.raises(UserError, match="mode I;16"):  # where 0 is white
        images.read_image(tmp_path / "w.tif", 1)
    put(tmp_path, ("F.tif", "a cat"))
    assert "metadata.jsonl, line 1, F.tif: it has pixels of mode F" in refusal(tmp_path)


RGB = Image.fromarray(
    np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8).repeat(4, 0).repeat(4, 1)
)
GREY = np.asarray(RGB.convert("L").convert("RGB").resize((4, 4), Image.Resampling.BOX), int)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_other_mode_is_the_same_image(mode, tmp_path):
    suffix = "tif" if mode in ("CMYK", "YCbCr", "PA") else "png"
    image = RGB.convert("L").convert("P" if mode == "PA" else mode) if mode != "RGB" else RGB
    if mode == "1":
        image = RGB.convert("L").point(lambda v: 255 * (v > 127)).convert("1")
        expected = np.asarray(image.convert("RGB").resize((4, 4), Image.Resampling.BOX), int)
    else:
        expected = (
            GREY if mode != "RGB" else np.asarray(RGB.resize((4, 4), Image.Resampling.BOX), int)
        )
    seen = read(image, tmp_path / f"a.{suffix}")
    assert np.abs(seen - expected).max() <= 3, np.abs(seen - expected).max()


def test_white_is_behind_what_is_transparent(tmp_path):
    hidden = np.zeros((8, 8, 4), np.uint8)
    hidden[..., 0] = 255  # red under alpha 0
    hidden[:, 4:, 3] = 255
    seen = read(Image.fromarray(hidden), tmp_path / "a.png", 2)
    assert (seen[:, 0] == 255).all() and (seen[:, 1] == [255, 0, 0]).all()
    half = read(Image.new("RGBA", (8, 8), (0, 0, 0, 128)), tmp_path / "h.png")
    assert np.abs(half - 127).max() <= 1
    for mode, clear, options in (("RGB", (1, 2, 3), (1, 2, 3)), ("L", 7, 7), ("P", 0, 0)):
        seen = read(Image.new(mode, (8, 8), clear), tmp_path / "t.png", transparency=options)
        assert (seen == 255).all(), mode
    deep = Image.fromarray(np.full((8, 8), 9, np.uint16))
    assert (read(deep, tmp_path / "d.png", transparency=9) == 255).all() or "transparency" not in (
        Image.open(tmp_path / "d.png").info
    )


def test_an_image_is_turned_as_the_camera_was_held(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, 0] = 255  # top left: under 6, it belongs to the top right
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.png", "a.tif", "a.webp"):
        options = {"lossless": True} if name == "a.webp" else {}
        seen = read(Image.fromarray(pixels), tmp_path / name, exif=exif, **options)
        assert seen[0, 3, 0] > 200 and seen[0, 0, 0] < 50, name
    large = np.zeros((64, 64, 3), np.uint8)
    large[:32, :32] = 255
    seen = read(Image.fromarray(large), tmp_path / "a.jpg", 2, exif=exif)
    assert seen[0, 1, 0] > 200 and seen[0, 0, 0] < 50


def test_a_large_jpeg_is_the_mean_of_its_pixels(tmp_path):
    """It is decoded at an eighth of its size."""
    rng = np.random.default_rng(1)
    smooth = Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8)).resize((1600, 1200))
    smooth.save(tmp_path / "a.jpg", quality=95)
    seen = images.read_image(tmp_path / "a.jpg", 16)
    whole = (
        Image.open(tmp_path / "a.jpg")
        .crop((200, 0, 1400, 1200))
        .resize((16, 16), Image.Resampling.BOX)
    )
    assert np.abs(seen.astype(int) - np.asarray(whole, int)).max() <= 6


def test_a_jpeg_is_not_decoded_smaller_than_it_is_shown(tmp_path):
    """64 squares of 4 pixels each way: none of them runs into its neighbour."""
    squares = np.random.default_rng(2).integers(0, 2, (64, 64, 1), np.uint8) * 255
    large = squares.repeat(4, 0).repeat(4, 1).repeat(3, 2)
    Image.fromarray(large).save(tmp_path / "a.jpg", quality=95)
    seen = images.read_image(tmp_path / "a.jpg", 64)
    assert np.abs(seen.astype(int) - squares).max() < 60


@pytest.mark.parametrize("wide", [True, False])
def test_of_an_image_the_middle_square_is_shown(wide, tmp_path):
    """Three squares, red, green and blue: the green one."""
    pixels = np.zeros((30, 90, 3), np.uint8)
    for k in range(3):
        pixels[:, 30 * k : 30 * k + 30, k] = 255
    Image.fromarray(pixels if wide else pixels.swapaxes(0, 1)).save(tmp_path / "a.png")
    assert (images.read_image(tmp_path / "a.png", 6) == [0, 255, 0]).all()


def test_of_an_animation_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    for name in ("a.gif", "a.png", "a.webp"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert images.read_image(tmp_path / name, 1).tolist() == [[[255, 0, 0]]], name


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (3000, 2)])
def test_very_small_and_very_narrow_images(shape, tmp_path):
    assert (read(Image.new("RGB", shape, "red"), tmp_path / "a.png", 16) == [255, 0, 0]).all()


def test_images_are_decoded_once_and_not_for_every_batch(tmp_path, monkeypatch):
    folder, calls = Folder(put(tmp_path, ("a.png", "a"), ("b.png", "b")), 16), []
    monkeypatch.setattr(Image, "open", lambda *a, **k: calls.append(a))
    (tmp_path / "a.png").unlink()
    images, captions = folder.batch([0, 1, 0])
    assert not calls and images.shape == (3, 3, 16, 16) and captions == ["a", "b", "a"]
    assert torch.equal(images[0], folder[0][0])


# --- all that is wrong, in one list --------------------


def test_all_problems_are_found_before_training_in_one_list(tmp_path, encoder):
    names = ["ok.png", "cut.png", "cut.jpg", "empty.png", "page.png", "lfs.png", "huge.png"]
    put(tmp_path, *((n, "a cat") for n in names[:1]))
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    for name in ("cut.png", "cut.jpg"):
        photo.save(tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:2000])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "page.png").write_text("<!DOCTYPE html><html>")
    (tmp_path / "lfs.png").write_text("version https://git-lfs.github.com/spec/v1")
    Image.new("1", (11_000, 10_000)).save(tmp_path / "huge.png")  # which Pillow only warns of
    (tmp_path / "folder.png").mkdir()
    rows = [{"file_name": n, "text": "a cat"} for n in [*names, "folder.png", "gone.png", "OK.PNG"]]
    rows += [{"file_name": None, "text": "a"}, {"file_name": "", "text": "a"}, {"text": "a cat"}]
    rows += [
        {"file_name": "ok.png", "text": t}
        for t in (3, None, ["a"], " ", "\u200b", "a\x00b", "🐈", "кошка")
    ]
    rows += [
        {"file_name": "ok.png"},
        {"file_name": "ok.png", "image": "ok.png", "caption": "a cat"},
    ]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines + ["[1]", "{'a': 1}", "not JSON"]))
    told = refusal(tmp_path, encoder=encoder).splitlines()
    parts = [
        "has 24 lines to put right:",
        "line 2, cut.png: it is damaged (", "line 3, cut.jpg: it is damaged (",
        "line 4, empty.png: it is no image", "line 5, page.png: it is no image",
        "line 6, lfs.png: it is no image", "line 7, huge.png: it has over 100,000,000 pixels",
        "line 8, folder.png: there is no such file", "line 9, gone.png: there is no such file",
        "line 10, OK.PNG: there is no such file, but there is 'ok.png'",
        "line 11: it has no file_name", "line 12: it has no file_name", "line 13: it has no file_name",
        "line 14, ok.png: its text is 3: put it in quotes", "line 15, ok.png: it has no caption",
        'line 16, ok.png: its text is ["a"]', "line 17, ok.png: it has an empty caption",
        "line 18, ok.png: it has an empty caption", "line 19, ok.png: 'a\\x00b' holds U+0000",
        "line 20, ok.png: no token of '🐈' is in the text encoder's vocabulary",
        "line 21, ok.png: no token of 'кошка' is in the text encoder's vocabulary", "and 4 more",
    ]  # fmt: skip
    assert len(told) == len(parts), told
    for line, part in zip(told, parts, strict=True):
        assert part in line, (line, part)


@pytest.mark.parametrize(
    "text, part",
    [
        ("\n\n" + '{"file_name": "a.png", "text": ""}', "line 3, a.png: it has an empty caption"),
        ('{"file_name": "a.png", "text": "a\\u0000b"}', "holds U+0000, which is no text"),
        ('{"file_name": "a.png", "text": "a\\ud800b"}', "holds U+D800, which is no text"),
        ("", "is empty: give it lines like"),
        ("\ufeff", "is empty: give it lines like"),
        ("[" * 10_000, "line 1: it must be like"),
        (b'{"file_name": "a.png", "text": "\xff"}', "is not in UTF-8"),
        ('[{"file_name": "a.png", "text": "a"}]', "line 1: it must be like"),
    ],
)
def test_what_is_wrong_with_metadata_is_said(text, part, tmp_path):
    assert part in refusal(raw(tmp_path, text))


def test_what_is_right_in_metadata_is_read(tmp_path):
    rows = [
        {"file_name": "a.png", "text": "a\n cat\t ", "extra": [1]},
        {"file_name": "b.png", "caption": "一只猫"},
        {"file_name": "b.png", "caption": "a dog", "text": "a pig"},  # text is what the format has
        {"file_name": "b.png", "caption": "a dog", "text": None},
    ]
    captions = ["a cat", "一只猫", "a pig", "a dog"]
    compact, pretty = (
        "\r\n\r\n".join(map(json.dumps, rows)),
        "\n".join(json.dumps(r, indent=2) for r in rows),
    )
    for text in (compact, pretty):
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le"):
            assert Folder(raw(tmp_path, text, encoding), 16).captions == captions


def test_the_format_is_that_of_imagefolder(tmp_path):
    """What `datasets` makes of the same folder, as an oracle."""
    datasets = pytest.importorskip("datasets")
    ramp = np.arange(20 * 20 * 3, dtype=np.uint8).reshape(20, 20, 3)
    put(tmp_path / "f", ("b.png", "a dog"), ("below/a.png", "一只猫"))
    Image.fromarray(ramp).save(tmp_path / "f" / "b.png")
    datasets.disable_progress_bars()
    theirs = datasets.load_dataset(
        "imagefolder",
        data_dir=str(tmp_path / "f"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    ours = Folder(tmp_path / "f", 20)
    assert sorted(theirs["text"]) == sorted(ours.captions)
    for row in theirs:
        image = ours[ours.captions.index(row["text"])][0]
        assert torch.equal(image, images.to_tensor(np.asarray(row["image"].convert("RGB"))))


def test_what_the_encoder_does_not_read_of_captions_is_told(tmp_path, encoder):
    put(tmp_path, ("a.png", "a cat 𓀀"), ("b.png", "a cat, " * 40), ("c.png", "a dog"))
    told = Folder(tmp_path, 16, encoder).warnings
    assert len(told) == 2 and told[0] == "line 1, a.png: unknown to the text encoder: '𓀀'"
    assert told[1].startswith("line 2, b.png: too long: 'a cat, a cat")
    assert examine(tmp_path)[:2] == told


def test_the_doctor_knows_a_folder_of_images_by_any_suffix(tmp_path):
    for name in ("a.jpeg", "b.webp", "below/a.png"):
        folder = tmp_path / name.replace("/", "-").replace(".", "-")
        (folder / name).parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(folder / name)
        assert "has no captions" in examine(folder)[0]
