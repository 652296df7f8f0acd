"""Exercises of chapter 15: the diagnoses."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["discharged"]


def discharged(diagnoses: Mapping[int, str | None]) -> None:
    """The patients' causes, each one of case_notes.CAUSES: prints the case notes of those that are right.

    Raises AssertionError for those that are missing or wrong.
    """
    from .. import case_notes

    wrong = []
    for number, cause in diagnoses.items():
        notes = case_notes.NOTES[number]
        if cause is not None and cause not in case_notes.CAUSES:
            raise AssertionError(
                f"patient {number}: {cause!r} is none of {', '.join(case_notes.CAUSES)}"
            )
        if cause != notes.cause:
            wrong.append((number, cause))
            continue
        print(f"✓ patient {number}: {case_notes.CAUSES[cause]}")
        print(f"  wrong:  {notes.wrong}\n  right:  {notes.right}\n  {notes.told}")
        if notes.here:
            print(f"  here:   {notes.here}")
        print(f"  {notes.source}, “{notes.title}”")
    said = [
        f"patient {n} {'waits' if c is None else f'has something else than {c!r}'}"
        for n, c in wrong
    ]
    if said:
        raise AssertionError("; ".join(said))
