"""Which parts of a chapter make a talk of at most 25 slides, and what stands on each."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

from . import page, pictures
from .chapter import Chapter, Figure, Part, signature

MOST = 25  # slides
STEER = json.loads((Path(__file__).parent / "steer.json").read_text(encoding="utf-8"))
NEVER = 9
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LONG = 17  # lines of code; what is longer takes two slides


@dataclass
class Slide:
    """One slide. kind is its class in deck.css."""

    kind: str
    body: str
    notes: list[str]

    def html(self) -> str:
        dark = ' data-background-color="#00456f"' if self.kind == "ask" else ""
        aside = page.notes(self.notes)
        return f'<section class="{self.kind}"{dark}>{self.body}<aside class="notes">{aside}</aside></section>'


def slides(chapter: Chapter) -> list[Slide]:
    """The talk of a chapter, from its title to its quiz."""
    steer = STEER.get(chapter.number, {})
    ends = [title(chapter, steer), *summary(chapter), *quiz(chapter)]
    opening = next((p for p in chapter.parts if p.kind in ("figure", "question")), None)
    offers = [
        (rank(p, steer, p is opening and k == 0) + 2 * (k > 0), *offer)
        for p in chapter.parts
        for k, offer in enumerate(shown(p, steer))
    ]
    room = MOST - len(ends)
    taken = set()
    for first, i in sorted((offer[0], i) for i, offer in enumerate(offers)):
        if first < NEVER and offers[i][1] <= room:
            room -= offers[i][1]
            taken.add(i)
    body = [slide for i in sorted(taken) for slide in offers[i][2]()]
    return [ends[0], *body, *ends[1:]]


def lost(chapter: Chapter) -> set[str]:
    """Cells that steer.json names and the chapter has no more."""
    steer = STEER.get(chapter.number, {})
    named = {*steer.get("skip", []), *steer.get("keep", []), *steer.get("ask", {})}
    return named - {part.cell for part in chapter.parts}


def rank(part: Part, steer: dict, first: bool = False) -> int:
    """What comes into a talk before what: 0 before 1 before 2 …; 9 never. first: it opens the chapter."""
    if part.cell in steer.get("skip", []) or (part.kind == "question" and not part.truth):
        return NEVER
    if part.cell in steer.get("keep", []):
        return 0
    if first:
        return 2
    if part.kind == "equation":
        return 1 if "boxed" in part.text else 5
    if part.kind == "figure":
        return 4 if any(f.claims for f in part.figures) else 6
    if part.kind == "question":
        return 3 if part.figures else 5
    return {"function": 1, "diagram": 2}[part.kind]


def kicker(text: str) -> str:
    return f'<p class="kicker">{page.line(text)}</p>'


def capital(text: str) -> str:
    """The text with a capital at its beginning; a symbol like ε stays as it is."""
    return text[0].upper() + text[1:] if text[0].isascii() else text


def title(chapter: Chapter, steer: dict) -> Slide:
    size = min(84, max(60, 2150 / len(chapter.question)))
    head = f'<p class="number">{chapter.number}</p>'
    head += f'<h1 style="font-size:{size:.0f}px">{page.line(chapter.question)}</h1>'
    room = page.MOST - page.words(head)
    promise = steer.get("promise") or shortened(chapter.promise, room)
    body = f'{head}<p class="promise">{page.line(capital(promise))}</p>'
    return Slide(
        "title",
        body + page.diagram(f"here-{chapter.number}"),
        [f"**The promise:** {chapter.promise}", chapter.facts],
    )


def shortened(text: str, room: int) -> str:
    """The longest beginning that ends with a sentence or a part of one, in so many words."""
    cuts = [len(text), *(m.start() for m in re.finditer(r"[.,;]\s", text))]
    for cut in sorted(cuts, reverse=True):
        if page.words(page.line(text[:cut])) <= room:
            return text[:cut].rstrip(".,;: ") + "."
    return text


def summary(chapter: Chapter) -> list[Slide]:
    """The five lines, on as many slides as 40 words each ask for, evenly filled."""
    head = kicker("Remember")
    room = page.MOST - page.words(head)
    lines = [f"<li>{page.line(text)}</li>" for text in chapter.summary]
    for count in range(1, len(lines) + 1):
        splits = []
        for cuts in combinations(range(1, len(lines)), count - 1):
            ends = [0, *cuts, len(lines)]
            groups = list(zip(ends, ends[1:], strict=False))
            loads = [sum(page.words(text) for text in lines[a:b]) for a, b in groups]
            splits.append((max(loads), groups))
        most, groups = min(splits)
        if most <= room:
            return [
                Slide(
                    "lines",
                    f'{head}<ol start="{a + 1}">{"".join(lines[a:b])}</ol>',
                    chapter.summary[a:b],
                )
                for a, b in groups
            ]
    raise ValueError(f"chapter {chapter.number}: a line of its five has over {room} words")


def quiz(chapter: Chapter) -> list[Slide]:
    """Each question, then as much of its answer as 40 words allow, on the same slide where one sentence fits."""
    made = []
    for number, (question, answer) in enumerate(chapter.quiz, 1):
        head = f"{kicker(f'Quiz {number}')}<h2>{page.line(question)}</h2>"
        parts = page.sentences(answer)
        if said := page.at_most(parts, page.MOST - page.words(head)):
            reply = f'<p class="reply fragment">{" ".join(said)}</p>'
            made.append(Slide("quiz", head + reply, [answer]))
        else:
            said = page.at_most(parts, page.MOST - 4)
            reply = f'{kicker(f"Quiz {number}, the answer")}<p class="reply">{" ".join(said)}</p>'
            made += [Slide("quiz", head, [answer]), Slide("quiz", reply, [answer])]
    return made


def shown(part: Part, steer: dict) -> list[tuple[int, Callable[[], list[Slide]]]]:
    """What a part may show: how many slides that must stay together, and what makes them."""
    match part.kind:
        case "question":
            first = (2, lambda: question(part, steer))
            return [first, *((1, partial(figure, part, f, [])) for f in part.figures[1:])]
        case "figure":
            first, *more = part.figures
            return [
                (1, partial(figure, part, first, part.notes)),
                *((1, partial(figure, part, f, [])) for f in more),
            ]
        case "equation":
            return [(1, lambda: [equation(part)])]
        case "diagram":
            drawn = kicker(part.section) + stage(page.diagram(part.text))
            return [(1, lambda: [Slide("show", drawn, part.notes)])]
        case _:
            return [(1 + len(halves(page.narrow(signature(part.text)[1]))), lambda: function(part))]


def question(part: Part, steer: dict) -> list[Slide]:
    """Ask the class; the answer is on the next slide."""
    head = kicker("Ask the class")
    ruler, bare = (page.scale(part.low, part.high, t) if part.low else "" for t in (part.label, ""))
    rooms = [page.MOST - page.words(head + line) for line in (ruler, bare)]
    text = steer.get("ask", {}).get(part.cell) or asked(part, rooms[0])
    if not text:  # it is too long to stand beside what the guess is about
        text, ruler = asked(part, rooms[1]) or part.label, bare
    body = f"{head}<h2>{page.line(capital(text))}</h2>{ruler}"
    notes = [*part.notes, f"It is {part.truth}."]
    return [Slide("ask", body, notes), *answer(part)]


def asked(part: Part, room: int) -> str:
    """The question as the chapter puts it, with as much before it as there is room for."""
    text = re.sub(r"\s*\([^()]*\)\.?$|\s*\([^()]*\)(?=\?$)", "", part.text.strip())
    found = [
        s for s in page.sentences(text) if not re.match("Move the slider|Put your guess|Give ", s)
    ]
    while found and not found[-1].endswith("?"):
        found.pop()
    while found and page.words(page.line(" ".join(found))) > room:
        found.pop(0)
    return " ".join(found)


def answer(part: Part) -> list[Slide]:
    told = [] if part.figures else part.claims
    notes = [*part.answer_notes, *told] or [part.label]
    number = f'<p class="truth">{claim(part.truth)}</p>'
    if part.figures:
        return figure(part, part.figures[0], notes, number)
    head = kicker(part.section)
    body = f'<div class="stage center"><div>{number}<p class="about">{page.line(part.label)}</p>{{}}</div></div>'
    room = page.MOST - page.words(head + body)
    return [Slide("show", head + body.format(claims(part.claims, room)), notes)]


def claims(texts: list[str], room: int) -> str:
    items = page.at_most(texts, room, claim)
    return (
        f'<ul class="claims">{"".join(f"<li>{item}</li>" for item in items)}</ul>' if items else ""
    )


def caption(alt: str, room: int) -> str:
    """What a figure without a claim shows: its alt text, as far as there is room."""
    parts = page.at_most(re.split("(?<=[;.]) ", capital(alt)), room, html.escape)
    return f"<p>{' '.join(parts).rstrip(';')}</p>" if parts else ""


def claim(text: str) -> str:
    """A claim, with its number in bold."""
    text = re.sub(
        r"(\d)e([+-]\d+)", lambda m: f"{m[1]} × 10{str(int(m[2])).translate(RAISED)}", text
    )
    said, sign, number = html.escape(text).rpartition(" ≈ ")
    return f"{said} <b>≈ {number}</b>" if sign else number


def figure(part: Part, shown: Figure, notes: list[str], number: str = "") -> list[Slide]:
    """A figure as large as it can be: above its claims where it is wide, else beside them."""
    head = kicker(capital(part.label) if number else part.section)
    room = page.MOST - page.words(head + number)
    told = claims(shown.claims, room) or caption(shown.alt, room)
    address, ratio = pictures.prepared(shown.image, shown.alt)
    image = f'<img class="figure" alt="{html.escape(shown.alt)}" src="{address}">'
    if shown.live:
        image = shown.live
    told_all = "".join(f"\n- {text}" for text in shown.claims)
    notes = [*notes, f"**The figure:** {shown.alt}.\n{told_all}"]
    kind = "beside" if ratio < 1.75 and not shown.live else "above"
    body = f'{stage(image)}<div class="caption">{number}{told}</div>'
    return [Slide("show", f'{head}<div class="{kind}">{body}</div>', notes)]


def stage(inner: str) -> str:
    return f'<div class="stage">{inner}</div>'


def equation(part: Part) -> Slide:
    head = kicker(part.section)
    tex = part.text
    if boxed := re.fullmatch(r"\\boxed\{(.*)\}", tex, re.S):
        tex = boxed[1]
    made = page.formula(re.sub(r"^\\;|\\;$", "", tex.strip()), inline=False)
    width = float(re.search(r"width:([\d.]+)em", made)[1])  # type: ignore[index]
    lead = page.sentences(part.label)[-1]
    said = " ".join(page.at_most([lead], min(28, page.MOST - page.words(head))))
    style = f"font-size:{min(64, (1040 if boxed else 1140) / width):.0f}px"
    kind = "box" if boxed else "free"
    shown = f'<p class="lead">{said}</p><div class="{kind}" style="{style}">{made}</div>'
    body = f'<div class="stage center"><div>{shown}</div></div>'
    return Slide("show", head + body, part.notes)


def function(part: Part) -> list[Slide]:
    """You write this: what is asked for, then the program."""
    first, body = signature(part.text)
    name = re.search(r"(?:def|class) (\w+)", first)[1]  # type: ignore[index]
    head = kicker(part.section)
    task = next((t for t in reversed(part.notes) if "Your turn" in t), "")
    said = re.sub(r"^.*?\*\*Your turn:[^*]*\*\*\s*", "", task.split("<details>")[0], flags=re.S)
    start = f"{head}<h2>You write <code>{name}</code></h2>"
    first = page.narrow(first)
    told = page.at_most(page.sentences(said), min(28, page.MOST - page.words(start)))
    task_slide = Slide(
        "write", f'{start}<p class="task">{" ".join(told)}</p>{page.code(first)}', part.notes
    )
    pieces = halves(page.narrow(body))
    made = [task_slide]
    for k, piece in enumerate(pieces, 1):
        count = f" · {k} of {len(pieces)}" if len(pieces) > 1 else ""
        made.append(
            Slide("program", f"{kicker(name + count)}{stage(page.code(piece))}", part.notes)
        )
    return made


def halves(body: str) -> list[str]:
    """A long program in two, cut where it is least indented near the middle."""
    lines = body.split("\n")
    if len(lines) <= LONG:
        return [body]
    middle = range(len(lines) // 3, 2 * len(lines) // 3 + 1)
    depth = {i: len(lines[i]) - len(lines[i].lstrip()) for i in middle if lines[i].strip()}
    cut = min(depth, key=lambda i: (depth[i], abs(i - len(lines) / 2)))
    return ["\n".join(lines[:cut]).rstrip(), "\n".join(lines[cut:])]
