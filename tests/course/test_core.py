"""The core functions that a learner writes: the checks pass what is right, and name what is wrong."""

import inspect
import re

import pytest
import torch

from minimagen import diffusion, guidance
from minimagen.course.core import CORE, GIVEN
from minimagen.course.core.base import Draw
from minimagen.course.sources import load, source_of
from minimagen.unet import UNetConfig, group_norm, zero_module

CORES = pytest.mark.parametrize("core", CORE.values(), ids=CORE)
MISTAKES = [(core, sentence) for core in CORE.values() for sentence in core.mistakes]


def test_each_chapter_has_two_to_five():
    assert len(CORE) >= 25
    for chapter in range(1, 12):
        assert 2 <= sum(core.chapter == chapter for core in CORE.values()) <= 5


@CORES
def test_what_is_right_passes_every_time(core):
    own = load(source_of(core.reference), core.name)  # from its own source alone, as a learner's is
    assert [core.verdict(own) for _ in range(20)] == [None] * 20


@pytest.mark.parametrize("core, sentence", MISTAKES, ids=lambda z: getattr(z, "name", str(z)[:40]))
def test_each_mistake_is_named(core, sentence):
    for wrong in core.ways(sentence):
        for _ in range(3):
            assert sentence in (core.verdict(wrong) or "")


def cheats(core):
    """Functions that know one result, or one shape."""
    fixed = core.cases(Draw(1, 1))
    results = [
        core.observe(core.oracle or core.reference, *case) for case in core.cases(Draw(1, 1))
    ]
    plain = results[0][0] if core.name == "guided" else results[0]
    shape = [tuple(z.shape) for z in fixed[0] if isinstance(z, torch.Tensor)]

    def constant(*_):
        return plain

    def one_shape(*given):
        if [tuple(z.shape) for z in given if isinstance(z, torch.Tensor)] != shape:
            raise ValueError("another shape")
        return core.reference(*given)

    made = [constant, lambda *_: 0.0, lambda *_: None]
    return [*made, one_shape] if shape else made


@CORES
def test_constants_and_functions_for_one_shape_fail(core):
    if not core.cases(Draw(1, 1)):
        pytest.skip("it has a check of its own, without fixed inputs")
    for cheat in cheats(core):
        assert core.verdict(cheat) is not None


@CORES
def test_hints_and_docstrings_are_for_a_learner(core):
    assert len(core.hints) == 2 and all(20 < len(hint) < 400 for hint in core.hints)
    doc = inspect.getdoc(core.reference)
    assert len(doc.splitlines()) >= 3 and "(" in doc
    assert len(core.mistakes) >= 4
    # its own lines of code do not stand in the docstring or the first hint
    code = [line.strip() for line in source_of(core.reference).split('"""')[2].splitlines()]
    assert not any(len(line) > 30 and line in doc + core.hints[0] for line in code)


def test_a_check_leaves_the_notebooks_random_numbers_alone():
    torch.manual_seed(3)
    first = torch.rand(1)
    torch.manual_seed(3)
    CORE["train_step"].verdict(CORE["train_step"].reference)
    CORE["alpha_bar"].verdict(lambda betas: torch.rand_like(betas))
    assert torch.equal(torch.rand(1), first)


@pytest.mark.parametrize(
    "name, function, words",
    [
        ("alpha_bar", lambda betas: betas.mul_(-1).add_(1).cumprod_(0), "in place"),
        ("alpha_bar", lambda betas: 1 / 0, "stops with ZeroDivisionError"),
        ("alpha_bar", lambda betas: (1 - betas).cumprod(0).tolist(), "return a tensor, and returns a list"),
        ("alpha_bar", lambda betas: None, "returns nothing yet"),
        ("alpha_bar", lambda betas: (1 - betas).cumprod(0)[None], "the shape is"),
        ("alpha_bar", lambda betas: exit(), "stops with SystemExit"),
        ("alpha_bar", lambda betas: betas * torch.nan, "nan"),
        ("q_sample", lambda x, snr, e: snr * x, "append_dims does that"),
        ("drop_captions", lambda text, mask, share, u: text, "return 2 things"),
        ("sample_loop", lambda d, x, levels, step: d(x, levels[0]), "now.expand(len(x))"),
        ("cascade", lambda stages, noises, t, m: [s(noises[0][0], t, m, None, None) for s in stages],
         "wants the picture below"),
        ("down_and_up", lambda h, down, up, *c: [h := b(h, *c) for b in (*down, *up)][-1], "channels"),
    ],
)  # fmt: skip
def test_what_else_goes_wrong_is_said_in_a_sentence(name, function, words):
    assert words in CORE[name].verdict(function)


def changed_to(core, change):
    """The right function, and each tensor of its result changed."""

    def apply(z):
        if isinstance(z, dict):
            return {k: apply(v) for k, v in z.items()}
        if isinstance(z, list | tuple):
            return type(z)(apply(v) for v in z)
        return change(z) if isinstance(z, torch.Tensor) else z

    return lambda *given: apply(core.reference(*given))


KINDS = {
    "float": (lambda z: z.item() if z.dim() == 0 else z, "tensor, and (returns|is) a float"),
    "array": (lambda z: z.detach().numpy(), "tensor, and (returns|is) a[nr ]|takes .*array|numpy"),
    "complex": (lambda z: torch.complex(z, z) if z.dtype == torch.float32 else z, "complex|stops with"),
    "float64": (lambda z: z.double() if z.is_floating_point() else z, "type float64, and should hold|stops with"),
    "floats": (lambda z: z if z.is_floating_point() else z.float(), "float32, and should hold|stops with"),
}  # fmt: skip


@CORES
@pytest.mark.parametrize("kind", KINDS)
def test_a_right_number_of_a_kind_that_stops_the_notebook_is_refused(core, kind):
    """.item(), numpy, no .real, double: what the check lets pass, later cells must be able to use."""
    if inspect.isclass(core.reference) or not core.cases(Draw(1, 1)):
        pytest.skip("it is judged otherwise")
    change, words = KINDS[kind]
    touched = []

    def noted(z):
        made = change(z)
        touched.append(made is not z and getattr(made, "dtype", None) != z.dtype)
        return made

    sentence = core.verdict(changed_to(core, noted))
    if not any(touched) or (core.name == "frechet_distance" and kind == "float64"):
        assert sentence is None
    else:
        assert re.search(words, sentence or "it was let pass")


@pytest.mark.parametrize("name", ["diffusion_loss", "generator_loss", "discriminator_loss"])
def test_a_loss_from_which_nothing_can_be_learned_is_refused(name):
    core = CORE[name]
    assert "its gradient" in core.verdict(changed_to(core, torch.Tensor.detach))
    assert "its gradient" in core.verdict(torch.no_grad()(core.reference))


def square(x, y):  # waves a pixel: a band with corners
    return torch.maximum(y.abs(), x.abs())


def band(f, low, high):
    return (f > low) & (f < high)


def fetched(noise, keep):
    f_y, f_x = (torch.fft.fftfreq(n) for n in noise.shape)
    return torch.fft.ifft2(torch.fft.fft2(noise) * keep(f_y[:, None], f_x))


def ring(noise, low, high):
    return fetched(noise, lambda y, x: band((y**2 + x**2).sqrt(), low, high))


def correlated(s, p):
    return torch.fft.ifft2(torch.fft.fft2(s) * torch.fft.fft2(p).conj()).real.flatten(1)


def solved(formula):
    def target(x_t, x_s, log_snr_t, log_snr_s):
        a, s = (z.reshape(-1, 1, 1, 1) for z in GIVEN["alpha_sigma"](log_snr_t))
        b, r = (z.reshape(-1, 1, 1, 1) for z in GIVEN["alpha_sigma"](log_snr_s))
        return formula(x_t, x_s, a, s, b, r)

    return target


def ending(name, change):
    """The right function, changed at its end."""
    return lambda *given: change(CORE[name].reference(*given), *given)


@pytest.mark.parametrize(
    "name, function, words",
    [
        ("rounded", lambda x, bits: torch.ldexp((m := torch.frexp(x))[0].mul(2**bits).ceil() / 2**bits, m[1]),
         "rounds up"),
        ("rounded", lambda x, bits: ((m := torch.frexp(x))[0] * 2**bits).round() / 2**bits * 2 ** m[1],
         "torch.ldexp"),
        ("rounded", lambda x, bits: x.bfloat16().float(), "`bits` is ignored"),
        ("gradient_in_parts", lambda f, w, parts: torch.autograd.grad(f(w, torch.cat(parts)), w)[0],
         "all parts at once"),
        ("distillation_target", solved(lambda x, z, a, s, b, r: (z - r / s * x) / (b + r / s * a)),
         "sign is wrong in the denominator"),
        ("distillation_target", solved(lambda x, z, a, s, b, r: (z + r / s * x) / (b + r / s * a)), "two signs"),
        ("distillation_target", solved(lambda x, z, a, s, b, r: (r / s * x - z) / (b - r / s * a)),
         "x_s comes first"),
        ("distillation_target", solved(lambda x, z, a, s, b, r: (z - r * x) / (b - r * a)), "division by σ_t"),
        ("distillation_target", solved(lambda x, z, a, s, b, r: (s / r * z - x) / (s / r * b - a)),
         "divides by σ_s, which is 0"),
        ("level_flops", lambda s, c, n: CORE["level_flops"].reference(s, c, n)[::-1], "wrong order"),
        ("level_flops", lambda s, c, n: (18 * c * c * s * s, 4 * c * (s * s + n) ** 2), "only pixels ask"),
        ("level_flops", lambda s, c, n: (9 * c * c * s * s, 4 * c * s * s * (s * s + n)),
         "the convolution is half"),
        ("level_flops", lambda s, c, n: (2 * c * c * s * s, 4 * c * s * s * (s * s + n)), "9 is missing"),
        ("level_flops", lambda s, c, n: (18 * c * c * s * s, 4 * c * s * s * n), "pixels' own keys"),
        ("level_flops", lambda s, c, n: (18 * c * c * s * s, 4 * s * s * (s * s + n)), "C is missing"),
        ("level_flops", lambda s, c, n: (5 * c, 4 * s * s * (s * s + n)), "C is missing"),  # and a fault of its own
        ("level_flops", lambda s, c, n: (5 * c + s, 6 * s * n + c), "compare it with the docstring"),
        ("level_flops", lambda s, c, n: (5, 7), "the same numbers whatever goes in"),
        ("effective_number", lambda c: 1 / (c / c.sum()).square().sum(), "Simpson"),
        ("effective_number", ending("effective_number", lambda z, *_: z.item()), "leave the number in its tensor"),
        ("band_pass", lambda n, low, high: ring(n, low, high) / ring(n, low, high).std(), "take its real part"),
        ("band_pass", lambda n, low, high: (z := ring(n, low, high).abs()) / z.std(), "take the real part"),
        ("band_pass", lambda n, low, high: (
            z := fetched(n, lambda y, x: band(square(x, y), low, high)).real) / z.std(),
         "the band is square"),
        ("matching_peak", lambda s, p: (c := correlated(s, p).abs()).sub(c.mean(1, True)).amax(1) / c.std(1),
         "no absolute value"),
        ("matching_peak", lambda s, p: correlated(s, p).argmax(1), "where the peak lies"),
        ("matching_peak", lambda s, p: correlated(s, p).amax(1), "the highest value itself"),
        ("loss_of_a_constant", ending("loss_of_a_constant", lambda z, s, snr, t: z if t == "v" else z[0]),
         "one number for each log-SNR"),
        ("loss_of_a_constant", ending("loss_of_a_constant", lambda z, s, snr, t: z if t == "v" else 1 + s - z),
         "ε and x_0 are swapped"),
        ("loss_of_a_constant", ending("loss_of_a_constant", lambda z, s, snr, t: z if t == "v" else z + 1),
         "right for some inputs and wrong for others, as for target = 'eps'"),
        ("error_by_level", lambda f, x, e, levels: torch.stack(
            [(f(CORE["q_sample"].reference(x, z.expand(len(x)), e), z.expand(len(x))) - x).square().sum()
             for z in levels]), "added up"),
        ("error_by_level", lambda f, x, e, levels: torch.stack(
            [(f(CORE["q_sample"].reference(x, z.expand(len(x)), torch.randn_like(e)), z.expand(len(x))) - x)
             .square().mean() for z in levels]), "random numbers of its own"),
        ("error_by_level", lambda f, x, e, levels: torch.stack(
            [(CORE["q_sample"].reference(x, z.expand(len(x)), e) - x).square().mean() for z in levels]),
         "the error of x_t"),
        ("best_captions", lambda f, x, x_t, snr, text, mask: torch.stack(
            [(f(x_t, snr, t.expand_as(text), mask) - x).square().mean((1, 2, 3)) for t in text]).argmin(0),
         "mask stayed behind"),
        ("best_captions", lambda f, x, x_t, snr, text, mask: torch.stack(
            [(f(x_t, snr, text, mask) - x).square().mean((1, 2, 3)) for _ in text]).argmin(0),
         "pictures' own captions"),
        ("best_captions", lambda f, x, x_t, *words: CORE["best_captions"].reference(f, x_t, x_t, *words),
         "compares x̂_0 with x_t"),
        ("effect_of_words", ending("effect_of_words", lambda z, *_: z.item()), "leave the number in its tensor"),
    ],
)  # fmt: skip
def test_what_learners_of_the_last_chapters_wrote_is_called_by_its_name(name, function, words):
    for _ in range(3):
        assert words in (CORE[name].verdict(function) or "it was let pass")


def test_both_readings_of_a_standard_deviation_are_right():
    assert (
        CORE["band_pass"].verdict(
            lambda n, low, high: (z := ring(n, low, high).real) / z.std(correction=0)
        )
        is None
    )
    assert (
        CORE["matching_peak"].verdict(
            lambda s, p: ((c := correlated(s, p)).amax(1) - c.mean(1)) / c.std(1, correction=0)
        )
        is None
    )


def test_a_function_right_for_one_input_is_told_for_which_it_is_wrong():
    told = CORE["rounded"].verdict(
        lambda x, bits: CORE["rounded"].reference(x, bits) + (bits == 11)
    )
    assert told == "it is right for some inputs and wrong for others, as for bits = 11"


def test_of_a_dict_each_entry_is_judged():
    """One wrong entry is named beside right ones, and beside another that no mistake explains."""
    signs = CORE["vital_signs"]

    def told(**changed):
        return signs.verdict(
            lambda x: signs.reference(x) | {key: of(x) for key, of in changed.items()}
        )

    assert "spread divides by one less" in told(spread=lambda x: x.std())
    assert "spread divides by one less" in told(
        spread=lambda x: x.std(), grain=lambda x: 7 * x.max()
    )
    assert told(grain=lambda x: 7 * x.max()).startswith("'grain' is another")
    assert signs.verdict(lambda x: {"mean": x.mean()}).endswith("and are 'mean'")
    assert "a dict" in signs.verdict(lambda x: x.mean())
    whole = CORE["effect_of_words"]  # a result that is no dict is judged as a whole
    assert whole.verdict(lambda *given: 3 * whole.reference(*given)).startswith(
        "compare it with the docstring"
    )


def test_the_given_helpers_are_the_packages():
    t, x = torch.rand(5).double(), torch.randn(5, 3, 8, 8)
    for name in ("cosine_log_snr", "linear_log_snr", "alpha_sigma"):
        ours, theirs = GIVEN[name](t), getattr(diffusion, name)(t)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(GIVEN["append_dims"](t, x), diffusion.append_dims(t, x))
    text, mask = torch.randn(2, 3, 4), torch.ones(2, 3).bool()
    for a, b in zip(GIVEN["null_text"](text, mask), guidance.null_text(text, mask), strict=True):
        assert torch.equal(a, b)
    from minimagen import stage  # wherever these two stand, a stage uses them

    assert torch.equal(GIVEN["upsample"](x), stage.upsample(x))
    assert torch.equal(GIVEN["downsample"](x, 2), stage.downsample(x, 2))
    for channels in (24, 48, 7):
        assert GIVEN["group_norm"](channels).num_groups == group_norm(channels).num_groups
    assert (
        not GIVEN["zero_module"](torch.nn.Linear(2, 2)).weight.any()
        and not zero_module(torch.nn.Linear(2, 2)).bias.any()
    )


def test_references_are_the_packages():
    """Where the package has the same function, the two agree; the finished file is held to it as a whole."""
    from minimagen import samplers, unet

    B = 3
    x, eps, log_snr = torch.randn(B, 3, 4, 4), torch.randn(B, 3, 4, 4), torch.randn(B)
    get = {name: core.reference for name, core in CORE.items()}
    close = lambda a, b: torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)  # noqa: E731
    close(get["q_sample"](x, log_snr, eps), diffusion.q_sample(x, log_snr, eps))
    target_of = diffusion.training_target
    for target in diffusion.TARGETS:
        close(get["training_target"](x, eps, log_snr, target), target_of(x, eps, log_snr, target))
        close(get["to_x_0"](x, eps, log_snr, target), diffusion.to_x_0(x, eps, log_snr, target))
        args = (lambda x, l: x * 0.3, x, torch.rand(B), eps, diffusion.cosine_log_snr, target)  # noqa: E741
        close(get["diffusion_loss"](*args), diffusion.diffusion_loss(*args))
    embedding = unet.NoiseLevelEmbedding(16)
    close(embedding.layers(get["time_embedding"](log_snr)), embedding(log_snr))
    for scheduled, name in (("ddim", "ddim_step"), ("dpm_solver", "dpm_solver_step")):

        def denoise(x, log_snr):
            return torch.tanh(x + log_snr[:, None, None, None])

        t = samplers.times(5)
        step = get[name] if name != "ddim_step" else lambda *a: get["ddim_step"](*a[:4])
        ours = get["sample_loop"](denoise, x, diffusion.cosine_log_snr(t).float(), step)
        close(ours, samplers.SAMPLERS[scheduled](denoise, x, diffusion.cosine_log_snr, t))
    assert UNetConfig().skip_scale == pytest.approx(0.5**0.5)  # what ResBlock divides by
