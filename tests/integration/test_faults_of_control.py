"""draw --init, --strength, --mask, --negative: what goes wrong is a sentence, and what does not is drawn."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from minimagen import control
from minimagen.cli import main


@pytest.fixture
def asked(monkeypatch):
    """What is asked of the cascade; the pictures are grey, so that nothing has to be computed."""
    seen = []

    def edit(imagen, prompts, seeds, *, guidance, steps, callback, **given):
        seen.append(given)
        return {"sr256": torch.zeros(len(prompts), 3, 256, 256)}

    monkeypatch.setattr(control, "edit", edit)
    return seen


@pytest.fixture
def folder(tmp_path):
    """Images of all kinds: red on the left, blue on the right where nothing else is said."""
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[:, :32, 0], pixels[:, 32:, 2] = 255, 255
    image = Image.fromarray(pixels)
    image.save(tmp_path / "plain.png")
    image.convert("CMYK").save(tmp_path / "cmyk.tif")
    clear = image.convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 64, 32))
    clear.save(tmp_path / "clear.png")
    grey = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    tall, exif = Image.fromarray(np.zeros((64, 96, 3), dtype=np.uint8)), Image.Exif()
    exif[0x0112] = 6  # held upright: it is 64 wide and 96 high
    tall.save(tmp_path / "turned.jpg", exif=exif)
    for name, size in (("half", (64, 64)), ("upright", (64, 96)), ("small", (32, 32))):
        mask = Image.new("L", size, 0)
        mask.paste(255, (0, 0, size[0] // 2, size[1]))
        mask.save(tmp_path / f"{name}.png")
    Image.new("L", (64, 64), 0).save(tmp_path / "black.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "broken.png").write_bytes((tmp_path / "plain.png").read_bytes()[:80])
    return tmp_path


def draw(folder, *arguments):
    """`minimagen draw "a cat" …`, where a name with a dot is a file of the folder."""
    files = (".png", ".jpg", ".tif")
    given = [str(folder / a) if a.endswith(files) else a for a in arguments]
    return main(["draw", "a cat", "--out", str(folder / "out.png"), *given])


@pytest.mark.parametrize(
    "arguments, told",
    [
        ("--mask half.png", "--mask needs an image to begin with: add --init FILE"),
        ("--strength 0.5", "--strength needs an image to begin with: add --init FILE"),
        ("--init plain.png --strength 1.5", "'1.5' is not a number from 0 to 1"),
        ("--init plain.png --strength -0.1", "'-0.1' is not a number from 0 to 1"),
        ("--init plain.png --strength nan", "'nan' is not a number from 0 to 1"),
        ("--init none.png", "none.png can't be used: there is no such file"),
        ("--init text.png", "text.png can't be used: it is no image"),
        ("--init broken.png", "broken.png can't be used: it is damaged"),
        ("--init plain.png --mask none.png", "--mask"),
        ("--init plain.png --mask small.png", "it is 32 × 32 pixels, and --init is 64 × 64: give a mask of that"),
        ("--init turned.jpg --mask half.png", "it is 64 × 64 pixels, and --init is 64 × 96"),
        ("--init plain.png --mask black.png", "it is black everywhere: paint white what is to be drawn anew"),
        ("--negative=", "--negative is empty: say what the image should not show"),
        ("--negative fog --guidance 1", "--negative works by guidance: give a --guidance above 1"),
        ("--negative 𓀀", "no token of '𓀀'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(arguments, told, folder, asked, capsys):
    assert draw(folder, *arguments.split(" ")) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and not asked
    (line,) = captured.err.strip().splitlines()
    assert line.startswith("minimagen: ") and told in line and "Traceback" not in line


@pytest.mark.parametrize("name", ["plain.png", "cmyk.tif", "clear.png", "deep.png", "turned.jpg"])
def test_an_image_of_any_kind_is_read_as_it_looks(name, folder, asked):
    assert draw(folder, "--init", name, "--strength", "0") == 0
    (given,) = asked
    image = (given["image"][0] + 1) * 127.5
    assert image.shape == (3, 256, 256) and given["strength"] == 0
    colours = {
        "plain.png": ((255, 0, 0), (0, 0, 255)),
        "cmyk.tif": ((255, 0, 0), (0, 0, 255)),
        "clear.png": ((255, 255, 255), (255, 255, 255)),  # white behind what is transparent
    }
    for at, colour in zip((image[:, 9, 9], image[:, 9, -9]), colours.get(name, ()), strict=False):
        assert at.round().tolist() == list(colour)
    if name == "deep.png":
        assert image[:, 2, 2].max() < 5 and image[:, -2, -2].min() > 250


def test_a_mask_is_white_where_it_is_drawn_anew(folder, asked):
    assert draw(folder, "--init", "turned.jpg", "--mask", "upright.png") == 0
    (given,) = asked
    assert given["mask"].shape == (1, 1, 256, 256) and given["strength"] == 1
    assert given["mask"][..., :128].eq(1).all() and given["mask"][..., 128:].eq(0).all()


def test_a_small_image_is_a_sketch_and_the_default_strength_is_0_6(folder, asked):
    for side, read in ((12, 16), (16, 16), (17, 64), (64, 64), (65, 256), (700, 256)):
        Image.new("RGB", (side, side)).save(folder / "sketch.png")
        assert draw(folder, "--init", "sketch.png") == 0
        assert asked[-1]["image"].shape[-1] == read and asked[-1]["strength"] == 0.6


def test_the_file_says_how_it_was_made(folder, asked, capsys):
    assert draw(folder, "--init", "plain.png", "--negative", "fog", "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"][0]["seed"] == 0
    told = Image.open(folder / "out.png").text
    assert {
        "Init": "plain.png",
        "Strength": "0.6",
        "Negative-Prompt": "fog",
    }.items() <= told.items()
    assert asked[0]["negative"] == "fog"


def test_what_is_outside_the_mask_stays_and_strength_0_gives_the_image(folder, capsys):
    """The whole way, with the shipped weights: within 1/255 of what was read."""
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "noisy.png")
    mask = np.zeros((256, 256), dtype=np.uint8)
    mask[100:, 50:201] = 255
    Image.fromarray(mask).save(folder / "hole.png")
    steps = ("--steps", "2")
    assert draw(folder, "--init", "noisy.png", "--mask", "hole.png", *steps) == 0
    drawn = np.asarray(Image.open(folder / "out.png")).astype(int)
    moved = np.abs(drawn - pixels).max(axis=-1)
    assert moved[mask == 0].max() <= 1 and moved[mask > 0].mean() > 10
    assert draw(folder, "--init", "noisy.png", "--strength", "0", *steps) == 0
    assert np.abs(np.asarray(Image.open(folder / "out.png")).astype(int) - pixels).max() <= 1
    capsys.readouterr()
