"""Numbers in README and the model card are those of data/cascade/scores.json."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("scores", ROOT / "data" / "build" / "scores.py")
assert spec is not None and spec.loader is not None
scores = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scores)
SCORES = json.loads((ROOT / "data" / "cascade" / "scores.json").read_text("utf-8"))


@pytest.mark.parametrize("page", scores.PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_tables_are_those_of_scores_json(page):
    """Red: run python data/build/scores.py."""
    text = page.read_text("utf-8")
    assert scores.filled(text, SCORES) == text
    assert re.search(r"<!-- scores: \w+ -->\n\|", text), "the page has no table"


def test_a_changed_number_is_seen():
    text = "<!-- scores: bars -->\n| before |\n<!-- end -->"
    now = scores.filled(text, SCORES)
    other = json.loads(json.dumps(SCORES))
    other["eye"]["lite0"]["words"]["recognised"] = 0.123
    assert (
        "| before |\n<" not in now
        and "12.3 %" not in now
        and "12.3 %" in scores.filled(text, other)
    )


def test_bars_are_reached_or_said_not_to_be():
    """A share over its bar is "yes", one under it "no"; limits the other way round."""
    made = {"suites": {"whole": {"seen": {"alignment": 0.94}}}, "seconds": {"cold": 7.9}}
    lines = scores.bars({**made, "before": {}}).splitlines()
    assert "| seen | – | 94.0 % | ≥ 95 % | **no** |" in lines
    assert "| first picture from a cold start, seconds | – | 7.90 | ≤ 8.00 | yes |" in lines
