"""The command line's numbers: defaults are the package's own, and bounds belong to what is allowed."""

import argparse

import pytest

from minimagen.arguments import number, parser


def test_defaults_are_those_of_the_package():
    args = parser().parse_args(["draw", "a cat"])
    assert (args.guidance, args.steps, args.seed, args.count) == (4.0, 20, 0, 1)
    args = parser().parse_args(["evaluate"])
    assert (args.guidance, args.steps, args.seed, args.samples) == (4.0, 20, 0, 200)


def test_a_bound_is_allowed_and_what_is_beyond_is_not():
    count = number(int, 1, 64)
    assert (count("1"), count("64")) == (1, 64)
    for text in ("0", "65", "1.5", "nan", "one"):
        with pytest.raises(argparse.ArgumentTypeError, match="a whole number from 1 to 64"):
            count(text)
    assert number(float, 0, 50)("0") == 0.0 and number(float, 0, 50)("50") == 50.0
