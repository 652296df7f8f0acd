"""The tables of scores in README.md and data/cascade/README.md, written from data/cascade/scores.json.

    python data/build/scores.py            # writes them
    python data/build/scores.py --check    # says which are out of date, and writes nothing

A table stands between the lines <!-- scores: NAME --> and <!-- end -->. scores.json holds what
`minimagen evaluate --json` and `tests/benchmarks/eye.py --json` reported of the shipped weights.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "data" / "cascade" / "README.md")
SUITES = {
    "seen": "seen",
    "heldout": "held-out combinations",
    "words": "held-out words (synonyms that only the text encoder was taught), English",
    "chinese": "seen, Chinese",
    "everyday": "everyday wordings, English and Chinese",
    "drawbench": "the miniature DrawBench",
}
STARTS = {
    "bilinear": "true 64×64, bilinear enlargement",
    "64": "true 64×64, sr256",
    "16": "true 16×16, sr64 and sr256",
    "words": "words, the whole cascade",
}
ATTRIBUTES = ("object", "colour", "number", "style", "place", "time", "position")


def share(value: float, interval: list[float] | None = None, bold: bool = True) -> str:
    """A share in per cent, with its interval."""
    text = f"{100 * value:.1f} %"
    text = f"**{text}**" if bold else text
    return (
        text if interval is None else f"{text} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return "Not measured yet with these weights."
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def alignment(scores: dict) -> str:
    """Suites × vocabularies, and the strict judge on the whole one: README's table."""
    starter, whole = (scores["suites"].get(name, {}) for name in ("starter", "whole"))
    head = ["", "the 40 things, 8 places and 2 styles of the starter set"]
    head += ["everything: 100 things, 12 places, 4 styles, colours, sizes, times of day"]
    head += ["everything, by the strict judge"]
    rows = []
    for name, label in SUITES.items():
        if name not in whole and name not in starter:
            continue
        columns = (starter, ""), (whole, ""), (whole, "_strict")
        cells = [
            share(of[name][f"alignment{by}"], of[name][f"interval{by}"], False)
            if name in of
            else "–"
            for of, by in columns
        ]
        rows.append([label, *cells])
    return table(head, rows)


def suites(vocabulary: str) -> Callable[[dict], str]:
    """The card's table of one vocabulary, with how often each attribute is right where it is named."""

    def rows_of(scores: dict) -> str:
        measured = scores["suites"].get(vocabulary, {})
        names = [n for n in SUITES if n in measured]
        named = [
            a for a in ATTRIBUTES if any(f"named {a}" in measured[n]["by_category"] for n in names)
        ]
        rows = []
        for name in names:
            one = measured[name]
            cells = [f"{SUITES[name]}, {one['samples']}", share(one["alignment"], one["interval"])]
            cells += [share(one["alignment_strict"], one["interval_strict"])]
            kinds = [one["by_category"].get(f"named {a}") for a in named]
            rows.append([*cells, *("–" if k is None else f"{100 * k:.0f}" for k in kinds)])
        return table(["suite, pictures", "alignment", "by the strict judge", *named], rows)

    return rows_of


def eye(scores: dict) -> str:
    """What the eye recognises, stage by stage."""
    rows = []
    for network, measured in scores["eye"].items():
        for start, label in STARTS.items():
            if (one := measured.get(start)) is None:
                continue
            cells = [f"{label} ({network.capitalize()})", share(one["recognised"], one["interval"])]
            cells += [f"{one['likeness']:.2f}"]
            for judge in ("judge", "strict"):
                if f"{judge}_passes" not in one:
                    cells.append("–")
                    continue
                refused = round(one["pictures"] * (1 - one["recognised"]))
                passed = round(refused * one[f"{judge}_passes_refused"])
                cells += [f"{100 * one[f'{judge}_passes']:.0f} %, {passed} of {refused}"]
            rows.append(cells)
    head = ["begun with", "recognised", "likeness"]
    head += ["passed by the judge `whole`: of all, of those not recognised"]
    return table([*head, "by the strict judge"], rows)


def categories(scores: dict) -> str:
    """DrawBench and everyday by category, in per cent."""
    rows = []
    for name in ("drawbench", "everyday"):
        if (one := scores["suites"].get("whole", {}).get(name)) is None:
            continue
        shares = one["by_category"]
        kinds = sorted((k for k in shares if not k.startswith("named ")), key=lambda k: -shares[k])
        rows.append([SUITES[name], ", ".join(f"{k} {100 * shares[k]:.0f}" for k in kinds)])
    return table(["suite", "by category, per cent"], rows)


BARS = (  # measure, where it stands in scores.json, what it should reach
    ("recognised by the eye, whole cascade", "eye lite0 words recognised", 0.90),
    ("likeness, whole cascade", "eye lite0 words likeness", 0.60),
    ("recognised, from true 16×16", "eye lite0 16 recognised", 0.95),
    ("likeness, from true 16×16", "eye lite0 16 likeness", 0.62),
    ("likeness, from true 64×64", "eye lite0 64 likeness", 0.78),
    ("alignment, seen, starter set", "suites starter seen alignment", 0.98),
    ("seen", "suites whole seen alignment", 0.95),
    ("held-out combinations", "suites whole heldout alignment", 0.90),
    ("held-out words", "suites whole words alignment", 0.75),
    ("seen, Chinese", "suites whole chinese alignment", 0.95),
    ("everyday wordings", "suites whole everyday alignment", 0.85),
    ("seen, by the strict judge", "suites whole seen alignment_strict", 0.85),
    ("not recognised, passed by the strict judge", "eye lite0 words strict_passes_refused", -0.10),
    ("prompt to 256×256 on two cores, seconds", "seconds picture", -1.0),
    ("first picture from a cold start, seconds", "seconds cold", -8.0),
)


def bars(scores: dict) -> str:
    """Every bar, what the weights before reached, and what these do. A bar under 0 is a limit."""

    def found(of: dict, path: str) -> float | None:
        value: dict | float | None = of
        for key in path.split():
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, float) else None

    rows = []
    for label, path, bar in BARS:
        plain = "likeness" in path or path.startswith("seconds")
        digits = ".2f" if plain else ".1%"
        before, now = found(scores["before"], path), found(scores, path)
        cells = ["–" if v is None else format(v, digits).replace("%", " %") for v in (before, now)]
        met = now is not None and (now >= bar if bar > 0 else now <= -bar)
        limit = f"{'≥' if bar > 0 else '≤'} {format(abs(bar), '.2f' if plain else '.0%')}"
        verdict = "not measured yet" if now is None else "yes" if met else "**no**"
        rows.append([label, *cells, limit.replace("%", " %"), verdict])
    return table(["measure", "weights of 0.1.0", "these", "bar", "reached"], rows)


TABLES: dict[str, Callable[[dict], str]] = {
    "alignment": alignment,
    "starter": suites("starter"),
    "whole": suites("whole"),
    "eye": eye,
    "categories": categories,
    "bars": bars,
}


def filled(text: str, scores: dict) -> str:
    """The page with its tables. Raises KeyError for a table that there is none of."""

    def fill(found: re.Match[str]) -> str:
        return f"<!-- scores: {found[1]} -->\n{TABLES[found[1]](scores)}\n<!-- end -->"

    return re.sub(r"<!-- scores: (\w+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    scores = json.loads((ROOT / "data" / "cascade" / "scores.json").read_text("utf-8"))
    old = []
    for page in PAGES:
        text = page.read_text("utf-8")
        if (new := filled(text, scores)) != text:
            old.append(str(page.relative_to(ROOT)))
            if not args.check:
                page.write_text(new, "utf-8")
    if args.check and old:
        sys.exit(f"out of date: {', '.join(old)}; run python data/build/scores.py")


if __name__ == "__main__":
    main()
