"""The core functions that a learner writes: the checks pass what is right, and name what is wrong."""

import inspect

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
    assert told(grain=lambda x: 7 * x.max()).startswith("not yet: 'grain'")
    assert signs.verdict(lambda x: {"mean": x.mean()}).endswith("and are 'mean'")
    assert "a dict" in signs.verdict(lambda x: x.mean())
    whole = CORE["effect_of_words"]  # a result that is no dict is judged as a whole
    assert whole.verdict(lambda *given: 3 * whole.reference(*given)).startswith("not yet: compare")


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
