"""data/build/cascade.py, the recipe of the shipped weights: what it asks the package to train."""

import importlib.util
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_it_asks_for_the_whole_vocabulary_and_leaves_the_rest_to_the_package(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("cascade_build", ROOT / "data/build/cascade.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    asked = []
    monkeypatch.setattr(module, "run_all", asked.append)
    monkeypatch.setattr(sys, "argv", ["x", "--out", str(tmp_path), "--minutes", "11"])
    module.main()
    [request] = asked
    assert (request.stage, request.settings, request.scenes) == (
        "all",
        {"minutes": 11.0},
        module.MIX,
    )
    shipped = json.loads((ROOT / "data/cascade/base/config.json").read_text())
    assert module.MIX["vocabulary"] == shipped["vocabulary"]
