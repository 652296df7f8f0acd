"""What a stage's config.json may hold, by numbers: a bound is allowed, what is beyond is refused."""

import math

import pytest

from minimagen.config_ranges import OPTIONAL, STAGE_RANGES, UNET_RANGES, check_ranges
from minimagen.stage import DEFAULTS

LISTS = ("channels", "blocks", "attention")
NUMBERS = [
    (ranges, key, kind, low, high)
    for ranges in (STAGE_RANGES, UNET_RANGES)
    for key, (kind, low, high) in ((k, r) for k, r in ranges.items() if r and isinstance(r[0], type))
]  # fmt: skip


def allowed(ranges, key, value):
    try:
        check_ranges({key: [value] if key in LISTS else value}, ranges)
    except ValueError as error:
        assert key in str(error)
        return False
    return True


@pytest.mark.parametrize("ranges, key, kind, low, high", NUMBERS, ids=[n[1] for n in NUMBERS])
def test_a_bound_is_allowed_and_what_is_beyond_is_not(ranges, key, kind, low, high):
    for value in (low, high):
        assert allowed(ranges, key, value)
    beyond = (low - 1, high + 1) if kind is int else (low - 1e-7, math.nextafter(high, math.inf))
    for value in (*beyond, True, str(high), math.nan, math.inf, [low]):
        assert not allowed(ranges, key, value), value
    assert allowed(ranges, key, high - 0.5) == (kind is float)
    assert allowed(ranges, key, None) == (key in OPTIONAL)


def test_the_bounds_themselves():
    bounds = {key: (low, high) for _, key, _, low, high in NUMBERS}
    for share in ("caption_drop", "max_aug_level", "aug_level"):
        assert bounds[share] == (0, 1)
    assert bounds["blocks"][0] == 0 and bounds["channels"][0] == bounds["steps"][0] == 1
    assert bounds["guidance"][0] == 0 and bounds["time_exponent"][0] > 0


def test_words_and_lists():
    assert allowed(STAGE_RANGES, "name", "sr64") and not allowed(STAGE_RANGES, "name", "sr65")
    assert allowed(STAGE_RANGES, "text_encoder", "any") and not allowed(
        STAGE_RANGES, "text_encoder", 1
    )
    assert allowed(UNET_RANGES, "efficient", False) and not allowed(UNET_RANGES, "efficient", 0)
    assert not allowed(STAGE_RANGES, "unknown", 1)
    for length, right in ((0, False), (1, True), (8, True), (9, False)):
        for key, value in (("channels", 16), ("blocks", 1), ("attention", "self")):
            values = {key: [value] * length}
            if right:
                check_ranges(values, UNET_RANGES)
            else:
                with pytest.raises(ValueError, match=key):
                    check_ranges(values, UNET_RANGES)
    with pytest.raises(ValueError, match="channels"):
        check_ranges({"channels": 16}, UNET_RANGES)
    with pytest.raises(ValueError, match="channels"):
        check_ranges({"channels": [16, 0]}, UNET_RANGES)  # each of them is looked at


@pytest.mark.parametrize("name", DEFAULTS)
def test_our_own_are_within_them(name):
    config = vars(DEFAULTS[name])
    check_ranges(config, STAGE_RANGES)
    check_ranges(vars(config["unet"]), UNET_RANGES)
