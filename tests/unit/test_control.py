"""Control: what sampling begins with, what it keeps, what it leads away from, what lies between two drawings."""

import math

import pytest
import torch

from minimagen.control import (
    blend_texts,
    edit,
    inpainting,
    interpolate,
    same_length,
    slerp,
    times_from,
)
from minimagen.diffusion import cosine_log_snr, q_sample
from minimagen.errors import UserError
from minimagen.guidance import guided, null_text
from minimagen.imagen import Imagen
from minimagen.images import downsample
from minimagen.randomness import seeded_noise
from minimagen.samplers import SAMPLERS, times


@pytest.fixture(scope="module")
def imagen():
    return Imagen.from_pretrained()


@pytest.fixture(scope="module")
def cat(imagen):
    return imagen.generate(["a cat on the grass"], [0], steps=6)["sr256"]


def test_sdedit_begins_at_the_time_of_its_strength():
    assert times_from(1.0, 20).equal(times(20))
    assert times_from(0.6, 3).tolist() == pytest.approx([0.6, 0.4, 0.2, 0.0])
    for strength in (-0.1, 1.1, math.nan):
        with pytest.raises(UserError, match="strength is a number from 0 to 1"):
            times_from(strength, 20)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_outside_the_mask_every_step_is_the_noisy_image(sampler):
    """RePaint's eq. 8 at every step, with the noise that sampling began with; ddpm: of the right variance."""
    torch.manual_seed(0)
    x_0, eps = torch.rand(4, 3, 16, 16) * 2 - 1, torch.randn(4, 3, 16, 16)
    mask = (torch.rand(4, 1, 16, 16) > 0.5).float()
    denoise = inpainting(lambda x_t, log_snr: torch.tanh(x_t), x_0, mask)
    t = times(6)
    log_snr = cosine_log_snr(t).float()
    outside, errors = (1 - mask).expand_as(x_0) > 0, []

    def look(i, x_s, _):
        known = q_sample(x_0, log_snr[i + 1].expand(4), eps)
        errors.append((x_s - (known if i < 5 else x_0))[outside])

    start = q_sample(x_0, log_snr[:1].expand(4), eps)
    SAMPLERS[sampler](denoise, start, cosine_log_snr, t, callback=look)
    assert errors[-1].abs().max() == 0, "the last step lands on the image itself"
    if sampler == "ddpm":  # its noise is new at every step: x_s − α_s x_0 has variance σ_s²
        sigma = torch.sigmoid(-log_snr[3]).sqrt()
        new = errors[2] + sigma * eps[outside]
        assert new.std() == pytest.approx(float(sigma), rel=0.1)
    else:
        assert max(e.abs().max() for e in errors) < 1e-4


def test_noise_between_two_noises_keeps_its_length():
    a, b = seeded_noise([0, 1], (3, 32, 32)), seeded_noise([5, 6], (3, 32, 32))
    half = torch.full((2,), 0.5)
    between = slerp(a, b, half)
    assert between.std() == pytest.approx(1, abs=0.03)
    assert torch.lerp(a, b, 0.5).std() == pytest.approx(math.sqrt(0.5), abs=0.03)
    torch.testing.assert_close(slerp(a, b, torch.zeros(2)), a)
    torch.testing.assert_close(slerp(a, b, torch.ones(2)), b)
    torch.testing.assert_close(slerp(a, a, half), a)  # no angle: no division by 0
    x, y = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)  # a right angle: a third of it is 30°
    x[..., 0], y[..., 1] = 1, 1
    third = slerp(x, y, torch.tensor([1 / 3])).flatten()
    torch.testing.assert_close(third, torch.tensor([math.cos(math.pi / 6), 0.5]))


def test_words_between_two_texts():
    a = torch.ones(2, 3, 4), torch.tensor([[True, True, True]] * 2)
    b = 3 * torch.ones(2, 5, 4), torch.tensor([[True] * 5] * 2)
    text, mask = blend_texts(a, b, torch.tensor([0.25, 0.0]))
    assert text[0, :3].eq(1.5).all() and text[0, 3:].eq(0.75).all() and mask[0].all()
    assert text[1, :3].eq(1).all() and mask[1].tolist() == [True] * 3 + [False] * 2
    assert [len(m[0]) for _, m in same_length(a, b)] == [5, 5]
    text, mask = blend_texts(b, a, torch.tensor([1.0, 0.99]))  # at 1 the tokens of the second alone
    assert mask[0].tolist() == [True] * 3 + [False] * 2 and mask[1].all()
    assert text[0, :3].eq(1).all() and not text[0, 3:].any()


def test_strength_0_is_the_image_and_its_distance_rises_with_strength(imagen, cat):
    """At each stage, for another prompt; 1 forgets it: it is what the prompt alone gives."""
    prompts, seeds, options = (
        ["a dog on the grass"] * 4,
        [1, 2, 3, 4],
        {"steps": 10, "last": "sr64"},
    )
    far = []
    for strength in (0, 0.2, 0.6, 1):
        made = edit(imagen, prompts, seeds, cat, strength, **options)
        known = {name: downsample(cat, x.shape[-1]) for name, x in made.items()}
        far.append({name: float((x - known[name]).abs().mean()) for name, x in made.items()})
    assert set(far[0].values()) == {0.0}
    for name in far[0]:
        of = [row[name] for row in far]
        assert of == sorted(of) and of[1] > 0.005 and of[-1] > 0.2, (name, of)
    alone = imagen.generate(prompts, seeds, **options)["sr64"]
    assert (made["sr64"] - alone).abs().mean() < 0.05, "α_1 is not quite 0"
    assert edit(imagen, prompts[:1], [1], cat, 0)["sr256"].equal(cat)
    little, much = (edit(imagen, prompts[:1], [1], cat, s)["sr256"] for s in (0.3, 0.7))
    assert 0.005 < (little - cat).abs().mean() < (much - cat).abs().mean()


def test_outside_the_mask_the_image_stays_and_inside_it_does_not(imagen, cat):
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 61:250, 37:211] = 1  # no multiple of a stage's pixel
    made = edit(imagen, ["a dog on the grass"] * 2, [3, 4], cat, mask=mask, steps=10)["sr256"]
    moved = (made - cat).abs()
    assert (moved * (1 - mask)).max() == 0
    assert (moved * mask).sum() / (3 * mask.sum()) > 0.1
    assert (made[0] - made[1]).abs().max() > 0.1, "each seed draws its own"


def test_a_sketch_of_16_pixels_is_finished_by_the_stages_above(imagen):
    sketch = torch.zeros(1, 3, 16, 16)
    sketch[:, 2, :9], sketch[:, 1, 9:] = 1, 0.6
    made = edit(imagen, ["a cat on the grass"], [0], sketch, 0.5, steps=10)
    assert [x.shape[-1] for x in made.values()] == [16, 64, 256]
    assert (made["base"] - sketch).abs().mean() < 0.5
    kept = edit(imagen, ["a cat on the grass"], [0], sketch, 0.0, last="sr64")
    assert kept["base"].equal(sketch)
    enlarged = downsample(kept["sr64"], 16)
    assert (enlarged - sketch).abs().mean() < 0.15, "drawn anew, from the sketch"


def test_guidance_leads_away_from_the_negative_text():
    torch.manual_seed(0)
    text, mask = torch.randn(2, 4, 8), torch.ones(2, 4, dtype=torch.bool)
    negative = torch.randn(2, 4, 8), torch.ones(2, 4, dtype=torch.bool)

    def network(x_t, log_snr, text, mask):
        return x_t + (text * mask[..., None]).sum(dim=(1, 2)).reshape(-1, 1, 1, 1)

    x, snr = torch.randn(2, 3, 4, 4), torch.zeros(2)
    yes, no, null = (network(x, snr, *z) for z in ((text, mask), negative, null_text(text, mask)))
    got = guided(network, x, snr, text, mask, 3.0, negative=negative)
    torch.testing.assert_close(got, 3 * yes - 2 * no)
    torch.testing.assert_close(guided(network, x, snr, text, mask, 3.0), 3 * yes - 2 * null)


def test_a_negative_text_changes_what_is_drawn(imagen):
    prompt, seeds = ["a cat"], [0]
    plain = edit(imagen, prompt, seeds, last="base")["base"]
    assert plain.equal(imagen.generate(prompt, seeds, last="base")["base"])
    away = edit(imagen, prompt, seeds, negative="a cat in the snow by night", last="base")["base"]
    assert (away - plain).abs().mean() > 0.02


def test_interpolation_begins_and_ends_with_the_two_drawings(imagen):
    ends = imagen.generate(["a cat on the grass", "a red car in the city"], [0, 7], last="sr64")
    made = interpolate(
        imagen,
        ("a cat on the grass", "a red car in the city"),
        (0, 7),
        [0, 0.5, 1],
        last="sr64",
    )
    for name in ("base", "sr64"):
        torch.testing.assert_close(made[name][[0, 2]], ends[name], atol=5e-3, rtol=0)
        assert (made[name][1] - ends[name]).abs().mean() > 0.05


def test_what_does_not_fit_is_a_sentence(imagen, cat):
    with pytest.raises(UserError, match="strength is a number from 0 to 1, not 2"):
        edit(imagen, ["a cat"], [0], cat, 2)
    with pytest.raises(UserError, match="a mask needs an image of its own size"):
        edit(imagen, ["a cat"], [0], cat, 1, torch.ones(1, 1, 64, 64))
    with pytest.raises(UserError, match="a mask needs an image"):
        edit(imagen, ["a cat"], [0], None, 1, torch.ones(1, 1, 256, 256))
