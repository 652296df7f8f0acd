"""The finale: one file that is the system, equal to the package, in which every function counts."""

import json
import math
import os
import subprocess
import sys

import pytest
import torch
from PIL import Image

from minimagen import Imagen
from minimagen.course import my_imagen
from minimagen.course.core import CORE
from minimagen.course.kept import read
from minimagen.course.sources import source_of

PROMPT = "一只小猫在草地上玩耍"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("finale")


def made(folder, own):
    path = folder / "my_imagen.py"
    path.write_text(my_imagen.assemble(own), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def module(folder):
    return my_imagen.load(made(folder, {}))


def test_it_imports_nothing_of_ours_and_is_readable(folder):
    text = made(folder, {}).read_text(encoding="utf-8")
    imports = {
        line.split()[1].split(".")[0]
        for line in text.splitlines()
        if line.startswith(("import", "from"))
    }
    outside = imports - set(sys.stdlib_module_names)
    assert outside == {"torch", "PIL", "safetensors", "transformers"} and "minimagen" not in imports
    assert "T5EncoderModel" not in text and "#: " not in text and "{{" not in text.split('"""')[1]
    assert len(my_imagen.GLUE.read_text(encoding="utf-8").splitlines()) < 560
    assert max(map(len, text.splitlines())) <= 120


def test_mine_and_lent_are_told_apart(folder):
    own = {
        "q_sample": source_of(CORE["q_sample"].reference).replace(
            "return alpha", "return 1.0 * alpha"
        )
    }
    path = made(folder, own)
    assert read(path) == own
    assert f"1 of its {len(my_imagen.IN_FILE)} core functions are yours" in path.read_text(
        encoding="utf-8"
    )
    everything = {name: source_of(CORE[name].reference) for name in my_imagen.IN_FILE}
    text = my_imagen.assemble(everything)
    assert "# lent by the course" not in text and text.count("# yours: ") == len(everything)
    assert my_imagen.assemble(read(path)) == my_imagen.assemble(own)  # made again, nothing moves


@pytest.mark.parametrize("name", ["base", "sr64", "sr256"])
def test_a_call_of_a_network_is_the_packages(module, name):
    theirs = Imagen.from_pretrained(stages=[name]).stage(name).unet
    stage = module.Stage.load(module.data_folder() / "cascade" / name)
    g = torch.Generator().manual_seed(0)
    side, low = {"base": 16, "sr64": 32, "sr256": 64}[name], ()
    x, text = (torch.randn(*s, generator=g) for s in ((2, 3, side, side), (2, 6, 256)))
    mask, log_snr = torch.arange(6) < torch.tensor([[6], [3]]), torch.tensor([-1.0, 2.0])
    if name != "base":
        low = torch.randn(2, 3, side, side, generator=g), torch.tensor([4.0, 5.0])
    with torch.no_grad():
        off = (
            (theirs(x, log_snr, text, mask, *low) - stage.unet(x, log_snr, text, mask, *low))
            .abs()
            .max()
        )
    assert off <= 1e-4


def test_the_text_encoder_is_the_packages(module):
    from minimagen import TextEncoder

    sentences = [
        PROMPT,
        "a cat to the left of a big red car on the beach at night, in flat style, and much more",
        "pig",
    ]
    ours, mask = module.TextEncoder(module.data_folder() / "text-encoder")(sentences)
    theirs, their_mask = TextEncoder()(sentences)
    assert (
        torch.equal(mask, their_mask) and (ours - theirs).abs().max() <= 2e-3
    )  # a last bit of fp16


SAMPLERS = [("dpm_solver", None, 6), ("ddim", "dynamic", 3), ("ddpm", None, 3)]


@pytest.mark.parametrize("sampler, threshold, steps", SAMPLERS)
def test_the_whole_cascade_draws_the_packages_picture(module, sampler, threshold, steps):
    options = {"sampler": sampler, "threshold": threshold, "steps": steps}
    theirs = Imagen.from_pretrained().generate([PROMPT], [7], **options)
    for a, b in zip(theirs.values(), module.draw([PROMPT], [7], **options), strict=True):
        assert (a - b).abs().max() <= 1e-3


@pytest.fixture(scope="module")
def tiny(module, folder):
    """Two small stages with random weights, none of them zero: whatever changes in them shows, and at once."""
    g = torch.Generator().manual_seed(0)
    for name in ("base", "sr64"):
        recipe = module.RECIPES[name] | {"steps": 3}
        weights = module.Stage(recipe).unet.state_dict()
        (folder / "tiny" / name).mkdir(parents=True)
        (folder / "tiny" / name / "config.json").write_text(json.dumps(recipe))
        random = {k: 0.1 * torch.randn(v.shape, generator=g) for k, v in weights.items()}
        module.save_file(random, folder / "tiny" / name / "model.safetensors")
    return str(folder / "tiny")


def drawn(module, tiny, last="base", **options):
    prompts = ["a cat on the grass", "pig"]  # one is shorter: padding shows
    pictures = module.draw(prompts, [1, 2], steps=3, last=last, weights=tiny, **options)
    return torch.cat([p.flatten() for p in pictures])


def trained(module, folder, stage):
    losses = module.train(stage, steps=3, batch=4, out=str(folder))
    weights = module.load_file(folder / stage / "model.safetensors").values()
    return torch.cat([torch.tensor(losses), *(w.float().flatten() for w in weights)])


OPTIONS = {
    "ddim_step": {"sampler": "ddim"},
    "ddpm_step": {"sampler": "ddpm"},
    "dynamic_threshold": {"threshold": "dynamic"},
    **dict.fromkeys(("q_sample", "augment", "sr_first_layer", "cascade"), {"last": "sr64"}),
}
IN_TRAINING = (
    "markov_step",
    "alpha_bar",
    "training_target",
    "diffusion_loss",
    "train_step",
    "update_ema",
    "drop_captions",
)


@pytest.fixture(scope="module")
def sound(module, tiny, folder):
    """What the file gives when nothing is broken."""
    pictures = {str(o): drawn(module, tiny, **o) for o in ({}, *OPTIONS.values())}
    return pictures | {"base": trained(module, folder, "base")}


@pytest.mark.parametrize("name", my_imagen.IN_FILE)
def test_every_function_counts(name, module, tiny, folder, sound, monkeypatch):
    """Broken in the way that its check names first, the picture or the training changes, or a sentence names it."""
    core = CORE[name]
    assert my_imagen.IN_FILE == [n for n, c in CORE.items() if c.in_file]
    wrong = core.ways(next(iter(core.mistakes)))[0]
    monkeypatch.setattr(module, name, wrong)
    if name == "dynamic_threshold":
        monkeypatch.setitem(module.THRESHOLDS, "dynamic", wrong)
    try:
        if name in IN_TRAINING:
            now, before = trained(module, folder, "base"), sound["base"]
        else:
            options = OPTIONS.get(name, {})
            now, before = drawn(module, tiny, **options), sound[str(options)]
    except (SystemExit, RuntimeError) as error:
        assert name in str(error) or isinstance(error, RuntimeError)
        return
    assert now.shape != before.shape or not torch.allclose(now, before, atol=1e-5)


def test_a_function_that_is_subtly_wrong_is_named(folder, monkeypatch):
    monkeypatch.setenv("MINIMAGEN_WORK", str(folder))
    text = source_of(CORE["dpm_solver_step"].reference).replace("* h /", "* 2 * h /")
    made(folder, {"dpm_solver_step": text})
    with pytest.raises(AssertionError, match="dpm_solver_step is not right: the guess"):
        my_imagen.prove()


def test_the_proof_holds_to_a_thousandth_and_says_by_how_much_it_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMAGEN_WORK", str(tmp_path))
    monkeypatch.setattr(my_imagen, "wrong_in", lambda path: {})
    for off, right in ((0.0, True), (1e-3, True), (1.1e-3, False), (math.nan, False)):
        monkeypatch.setattr(my_imagen, "largest_difference", lambda *_, off=off: off)
        if right:
            assert my_imagen.prove() == off
        else:
            with pytest.raises(AssertionError, match=f"differ by {off:.3g}"):
                my_imagen.prove()


def test_the_command_draws_and_trains_without_this_package(folder):
    """In a process that can't import minimagen, from another folder."""
    path = made(folder, {})
    (folder / "block" / "minimagen").mkdir(parents=True)
    (folder / "block" / "minimagen" / "__init__.py").write_text("raise ImportError('not here')")
    environment = {**os.environ, "PYTHONPATH": str(folder / "block"), "HF_HUB_OFFLINE": "1"}

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(path), *arguments],
            cwd=folder, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    count = len(my_imagen.IN_FILE)
    said = run("train", "--steps", "2", "--batch", "4", "--out", "world")
    assert (
        said.startswith(f"0 of {count} functions are yours, {count} are lent")
        and "world/base" in said
    )
    assert run(PROMPT, "--steps", "2", "--weights", "world").endswith("my_imagen.png\n")
    with Image.open(folder / "my_imagen.png") as picture:
        picture.load()
    assert picture.size == (256, 256) and "AI-generated" in picture.info["Comment"]


def test_pictures_of_ones_own(module, folder):
    for i in range(2):
        Image.new("RGB", (20, 20), (255 * i, 0, 0)).save(folder / f"{i}.png")
    (folder / "metadata.jsonl").write_text(
        '{"file_name": "0.png", "text": "black"}\n{"file_name": "1.png", "text": "red"}\n'
    )
    pictures, captions = module.Folder(folder).batch(8, 4)
    assert pictures.shape == (8, 3, 4, 4) and pictures.abs().max() == 1
    assert all(
        (p[0].mean() > 0) == (text == "red") for p, text in zip(pictures, captions, strict=True)
    )
