"""NaN and infinity are said and never drawn; prompts and seeds from Python meet the command line's rules."""

import math
import os
import shutil
import warnings

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minimagen.assets import CASCADE, read_tensors, write_tensors
from minimagen.config import STAGES
from minimagen.course import show, widgets
from minimagen.doctor import examine
from minimagen.errors import TextWarning, UserError
from minimagen.imagen import Imagen
from minimagen.images import to_pil
from minimagen.stage import Stage


@pytest.fixture(scope="module")
def imagen():
    return Imagen.from_pretrained(stages=("base",))


def draw(imagen, prompts, seeds=(0,), **options):
    return imagen.generate(prompts, seeds, steps=2, **options)["base"]


# --- NaN and infinity --------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_are_not_loaded(value, tmp_path):
    shutil.copytree(CASCADE / "base", tmp_path / "base")
    weights = read_tensors(tmp_path / "base" / "model.safetensors")
    weights["out.2.weight"][0, 0] = value
    write_tensors(weights, tmp_path / "base" / "model.safetensors")
    with pytest.raises(UserError, match="out.2.weight holds NaN or infinity"):
        Stage.load(tmp_path / "base")
    assert "out.2.weight holds NaN or infinity" in examine(tmp_path / "base")[0]


@pytest.mark.parametrize("guidance", [math.nan, math.inf])
def test_guidance_that_is_no_number_is_refused(guidance, imagen):
    with pytest.raises(UserError, match="guidance must be a finite number"):
        draw(imagen, ["a cat"], guidance=guidance)


def test_an_image_that_is_no_number_is_not_drawn_black(imagen, monkeypatch):
    with pytest.raises(UserError, match="holds NaN or infinity"):
        to_pil(torch.full((1, 3, 2, 2), math.nan))
    stage = imagen.stage("base")
    monkeypatch.setattr(stage.unet, "forward", lambda x, *_: x * math.nan)
    with pytest.raises(UserError, match="base made NaN or infinity"):
        draw(imagen, ["a cat"])


def test_a_weight_beyond_fp16_is_saved_as_it_is(tmp_path):
    stage = Stage.load(CASCADE / "base")
    stage.unet.out[-1].weight.data[0, 0] = 1e5
    stage.save(tmp_path)
    assert (Stage.load(tmp_path).unet.out[-1].weight[0, 0] == 1e5).all()
    stage.unet.out[-1].weight.data[0, 0] = math.nan
    with pytest.raises(UserError, match="holds NaN or infinity"):
        stage.save(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_model_in_a_folder_whose_name_is_no_utf_8(tmp_path):
    folder = tmp_path / os.fsdecode(b"r\xff")
    shutil.copytree(CASCADE / "base", folder)
    one, other = (
        Stage.load(folder).unet.state_dict(),
        Stage.load(CASCADE / "base").unet.state_dict(),
    )
    assert all(torch.equal(one[k], other[k]) for k in one)


# --- prompts and seeds --------------------


@pytest.mark.parametrize(
    "prompt", ["a cat\non the grass", " a cat  on\u00a0the grass ", "a c\u200bat on the grass"]
)
def test_a_prompt_is_read_in_one_form(prompt, imagen):
    assert torch.equal(draw(imagen, [prompt]), draw(imagen, ["a cat on the grass"]))


@pytest.mark.parametrize(
    "prompts, seeds, part",
    [
        ("ab", [0, 1], "not one text"),
        ([], [], "there is no prompt"),
        ([""], [0], "the text is empty"),
        (["   "], [0], "the text is empty"),
        (["кошка"], [0], "no token of 'кошка'"),
        (["a\x00cat"], [0], "holds U\\+0000"),
        ([3], [0], "must be a string, not int"),
        (["a cat"], [], "1 prompts need as many seeds, not 0"),
        (["a cat"], 3, "whole numbers"),
        (["a cat"], [1.5], "whole numbers"),
        (["a cat"], ["1"], "whole numbers"),
        (["a cat"], [-1], "from 0 to 536870911, not -1"),
        (["a cat"], [2**29], "from 0 to 536870911, not 536870912"),
    ],
)  # fmt: skip
def test_what_can_t_be_drawn_is_a_sentence(prompts, seeds, part, imagen):
    with pytest.raises(UserError, match=part):
        draw(imagen, prompts, seeds)


def test_seeds_of_numpy_and_torch_are_whole_numbers(imagen):
    expected = draw(imagen, ["a cat", "a dog"], [0, 1])
    for seeds in (np.arange(2), torch.arange(2), (i for i in range(2)), [np.uint8(0), True]):
        assert torch.equal(draw(imagen, ["a cat", "a dog"], seeds), expected)


@pytest.mark.parametrize(
    "prompt, told",
    [("a cat 𓀀", "unknown to the text encoder: '𓀀'"), ("a cat, " * 40, "is cut after 64")],
)
def test_what_is_not_read_of_a_prompt_is_a_warning(prompt, told, imagen):
    with pytest.warns(TextWarning, match=told):
        draw(imagen, [prompt])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(imagen, ["a cat on the grass"])


def test_the_box_of_a_notebook_says_what_the_command_line_says(imagen, monkeypatch):
    shown = []
    monkeypatch.setattr(widgets, "can_show", lambda: True)
    monkeypatch.setattr(widgets, "show", lambda box, text: shown.append(box))
    monkeypatch.setattr(show, "strip", lambda *_, **__: None)
    asked = []

    def draw_it(prompt, seed):
        asked.append(prompt)
        return imagen.generate([prompt], [seed], steps=1)

    show.ask(draw_it, "a cat")
    words, number, button, view = shown[0].children
    for prompt, part in (
        ("", "the prompt is empty"),
        ("\u200b ", "the prompt is empty"),
        ("кошка", "no token of"),
        ("a cat 𓀀", "unknown to the text encoder"),
        ("a cat\u00a0 on  the grass", "<img"),
    ):
        words.value, view.value = prompt, ""
        button.click()
        assert part in view.value, (prompt, view.value)
    assert asked[-1] == "a cat on the grass"
    number.value = -1
    button.click()
    assert "a seed is a whole number" in view.value


# --- a device without float64 --------------------


class NoDoubles(TorchDispatchMode):
    """A stand-in for MPS: here, whatever has more than one dimension or follows from it may not be float64.

    The schedule is computed in float64 at a handful of times, (T,), on the CPU; no image's number may be.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [z for z in tree_leaves((args, kwargs, out)) if isinstance(z, torch.Tensor)]
        doubles = [z for z in tensors if z.dtype == torch.float64]
        assert all(z.ndim < 2 for z in doubles), func
        moved = func is torch.ops.aten._to_copy.default
        singles = [z for z in tensors if z.dtype == torch.float32 and z.ndim]
        assert moved or not (doubles and singles), f"{func} mixes them"
        if moved and doubles:  # a copy changes the type or the device, and not both at once
            assert kwargs.get("device") is None or out.dtype == torch.float64, "on the CPU first"
        return out


@pytest.mark.parametrize("sampler", ["dpm_solver", "ddim", "ddpm"])
def test_no_double_reaches_a_device_that_may_have_none(sampler):
    imagen = Imagen.from_pretrained(stages=STAGES[:1])
    with NoDoubles():
        imagen.generate(["a cat"], [0], np.float64(3.0), 2, sampler=sampler)
