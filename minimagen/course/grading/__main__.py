"""python -m minimagen.course.grading assignments | grade FOLDER."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m minimagen.course.grading")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("assignments", "what students are given, in TO/release"),
        ("grade", "marks for what they handed in"),
    ):
        command = commands.add_parser(name, help=text)
        if name == "grade":
            command.add_argument("folder", type=Path, help="a folder for each student")
            command.add_argument("--jobs", type=int, default=1, help="submissions at a time")
        command.add_argument("--to", type=Path, default=Path("grades"))
        command.add_argument("--chapters", nargs="*", default=[], metavar="NN")
    given = parser.parse_args(arguments)
    if find_spec("nbgrader") is None:
        sys.exit('nbgrader is not installed: pip install -c constraints.txt -e ".[teach]"')
    from .classroom import CannotGrade, assignments, grade, show

    to = given.to.resolve()
    try:
        if given.command == "assignments":
            made = assignments(to, given.chapters)
            print(f"{len(made)} assignments stand in {given.to / 'release'}")
            return
        show(grade(given.folder, to, given.chapters, given.jobs))
    except CannotGrade as reason:
        sys.exit(str(reason))
    print(f"the table: {given.to / 'class.csv'}; what to give back: {given.to / 'feedback'}")


if __name__ == "__main__":
    main(sys.argv[1:])
