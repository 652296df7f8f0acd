"""The benchmarks run; what they measure is for a quiet machine (see their first lines)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "benchmarks" / script, "--quick", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_speed_runs(tmp_path):
    table = run("speed.py", "--out", tmp_path / "speed.json")
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert [r["network"] for r in rows] == ["minimagen", "diffusers"]  # no --peers given
    assert rows[0]["train_ratio"] == rows[0]["sample_ratio"] == 1 and "| diffusers |" in table
    assert all(r["seconds_per_sample"] > 0 and r["parameters"] > 1e6 for r in rows)


@pytest.mark.slow
def test_steps_runs(tmp_path):
    table = run("steps.py", "--out", tmp_path / "steps.md")
    assert (tmp_path / "steps.md").read_text(encoding="utf-8") == table
    assert all(f"| {stage} |" in table for stage in ("base", "sr64", "sr256"))


@pytest.mark.slow
def test_words_are_read():
    rows = run("words.py", "0", "1", "--captions", "1", "3").splitlines()
    cells = [r.removeprefix("| ").split(" | ") for r in rows[2:]]
    assert [row[:2] for row in cells] == [["1", "0"], ["1", "1"], ["3", "0"], ["3", "1"]]
    assert all(0 <= float(cell.split()[0]) <= 100 for row in cells for cell in row[2:])


@pytest.mark.slow
def test_a_race_adds_a_line_a_recipe(tmp_path):
    recipes = ("shipped", "times later still")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "benchmarks" / "race.py", "--minutes", "0.05", "--samples",
         "4", "--init", ROOT / "data" / "cascade" / "base", "--out", tmp_path / "race.jsonl", *recipes],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "race.jsonl").read_text().splitlines()]
    assert tuple(r["recipe"] for r in rows) == recipes
    assert all(0 <= r["alignment"] <= 1 and 0 < r["error"]["0.9"] < 1 for r in rows)


@pytest.mark.slow
def test_every_mutant_is_seen():
    """tests/benchmarks/mutants.py: also red where a text of its list is no longer there."""
    script = ROOT / "tests" / "benchmarks" / "mutants.py"
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_worlds_are_trained_and_judged(tmp_path):
    rows = run("worlds.py", "--out", tmp_path, "--choices", "b", "--stages", "base", "sr64")
    cells = rows.splitlines()[-1].split(" | ")
    assert cells[0] == "| dragon, castle, rocket, snowman, pizza, owl" and "of 10, " in cells[1]
    told = json.loads((tmp_path / "worlds.json").read_text())["b"]
    assert told["sr64"]["steps"] == 3 and told["sr64"]["error"] > 0 and "sr256" not in told
