"""The command line's numbers: defaults are the package's own, and bounds belong to what is allowed."""

import argparse
import re
from dataclasses import fields

import pytest

from minimagen.arguments import number, parser
from minimagen.config import GPU_SETTINGS, STAGES, SceneMix, TrainConfig, flag_of
from minimagen.errors import UserError


def test_defaults_are_those_of_the_package():
    args = parser().parse_args(["draw", "a cat"])
    assert (args.guidance, args.steps, args.seed, args.count) == (4.0, 20, 0, 1)
    args = parser().parse_args(["evaluate"])
    assert (args.guidance, args.steps, args.seed, args.samples) == (4.0, 20, 0, 200)
    assert (args.suite, args.size, args.vocabulary, args.device) == ("seen", 64, None, "auto")


def test_of_a_training_only_what_was_given_is_known():
    """The rest is of the run that goes on, or the default of the settings: it must not overrule either."""
    args = parser().parse_args("train base --out x".split())
    own = {"command": "train", "stage": "base", "out": "x", "resume": False, "previews": 8}
    assert {k: v for k, v in vars(args).items() if v is not None} == own | {"device": "auto"}
    args = parser().parse_args(
        "train sr64 --out x --steps 9 --seed 3 --accumulate 2 --decay 1".split()
    )
    assert (args.steps, args.seed, args.grad_accum_steps, args.decay_fraction) == (9, 3, 2, 1.0)


def test_what_training_does_unless_told_otherwise():
    """Measured choices (tests/benchmarks/recipes.md): another one costs alignment, and nothing else says so."""
    c = TrainConfig()
    assert (c.text_noise, c.text_noise_exponent, c.checkpoint_minutes) == (0.0, 1.0, 3.0)
    assert (c.grad_accum_steps, c.workers, c.seed, c.steps, c.minutes) == (1, None, 0, None, None)
    assert (SceneMix.pairs, SceneMix.styled, SceneMix.starter) == (0.45, 0.55, 0.0)


@pytest.mark.parametrize(
    "arguments, good, bad",
    [
        ("draw cat --count", "1 64", "0 65"),
        ("draw cat --guidance", "0 50", "-0.1 50.1 nan"),
        ("draw cat --steps", "1 1000", "0 1001"),
        ("draw cat --seed", "0 500000000", "-1 500000001"),
        ("evaluate --samples", "1 100000", "0 100001"),
        ("train base --out x --previews", "0 64", "-1 65"),
        ("train base --out x --steps", "1 1000000000", "0"),
        ("train base --out x --minutes", "0.01 1000000", "0 0.009"),
        ("train base --out x --batch", "1 65536", "0 65537"),
        ("train base --out x --lr", "1e-7 1", "0 1.01"),
        ("train base --out x --muon-lr", "0 1", "-0.1 1.01"),
        ("train base --out x --warmup-steps", "0", "-1"),
        ("train base --out x --decay", "0.01 1", "0 1.01"),
        ("train base --out x --ema-decay", "0 1", "-0.1 1.01"),
        ("train base --out x --pairs", "0 1", "-0.1 1.01"),
        ("train base --out x --captions", "1 2 3", "0 4"),
    ],
)
def test_bounds_on_the_command_line(arguments, good, bad):
    for value in good.split():
        parser().parse_args([*arguments.split(), value])
    for value in bad.split():
        with pytest.raises(UserError):
            parser().parse_args([*arguments.split(), value])


def test_a_bound_is_allowed_and_what_is_beyond_is_not():
    count = number(int, 1, 64)
    assert (count("1"), count("64")) == (1, 64)
    for text in ("0", "65", "1.5", "nan", "one"):
        with pytest.raises(argparse.ArgumentTypeError, match="a whole number from 1 to 64"):
            count(text)
    assert number(float, 0, 50)("0") == 0.0 and number(float, 0, 50)("50") == 50.0


def helped(flag):
    """What `minimagen train --help` says of a flag."""
    [train] = [
        action.choices["train"]
        for action in parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    [option] = [action for action in train._actions if flag in action.option_strings]
    return option.help


def test_the_help_says_what_a_gpu_takes_where_nothing_is_said():
    for setting in fields(TrainConfig):
        values = [GPU_SETTINGS[stage].get(setting.name, setting.default) for stage in STAGES]
        told = helped(flag_of(setting))
        if values == [setting.default] * 3:
            assert setting.name == "workers" or "CUDA" not in told
            continue
        told = told.partition("; with CUDA: ")[2]
        numbers = [float(x) for x in re.findall(r"(?<![a-z\d.])[\d.]+", told)]
        assert numbers == pytest.approx(values if len(set(values)) > 1 else values[:1]), setting
    assert "base 1536, sr64 768, sr256 512" in helped("--batch")
    assert "cores less one" in helped("--workers") and "CUDA: bf16" in helped("--precision")
