"""A parallel caption grammar: one scene, said in English and in Chinese in many ways.

It is wider than the grammar that the course draws pictures with, and apart from it: the encoder is
frozen before anything learns to draw. Every caption carries spans that say which characters name
which thing, colour and number, so that a probe can be trained on token states.
"""

# ruff: noqa: E501  (a phrase is easier to read on one line)

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from text_sources import Thing, typo

COLOURS = dict(
    red="红", orange="橙", yellow="黄", green="绿", blue="蓝", purple="紫", pink="粉", black="黑",
    white="白", brown="棕", gray="灰",
)  # fmt: skip
SIZES = {"big": (("big", "large", "huge"), ("大", "巨大的", "很大的"))}
SIZES["small"] = (("small", "little", "tiny"), ("小", "小小的", "很小的"))
NUMBERS = [("one", "一"), ("two", "两"), ("three", "三")]
STYLES = {"3d": "立体", "flat": "扁平", "glossy": "光泽", "cartoon": "卡通"}
PLACES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "grass": (("on the grass", "on grass", "in the grass"), ("草地上", "草坪上", "草丛里")),
    "meadow": (("in a meadow", "in the field", "on the meadow"), ("田野里", "草原上", "原野上")),
    "beach": (("on the beach", "on a beach", "on the sand"), ("沙滩上", "海滩上", "海边")),
    "snow": (("in the snow", "on the snow", "on snow"), ("雪地里", "雪地上", "雪中")),
    "sea": (("in the sea", "on the sea", "in the ocean", "at sea"), ("海上", "大海里", "海里")),
    "underwater": (("under water", "under the sea", "underwater"), ("水下", "海底", "水里")),
    "desert": (("in the desert", "in a desert"), ("沙漠里", "沙漠中", "大漠里")),
    "city": (("in the city", "in a city", "in town"), ("城市里", "城里", "都市里")),
    "street": (("on the street", "in the street", "on a street"), ("街上", "街道上", "大街上")),
    "road": (("on the road", "on a road"), ("路上", "公路上", "马路上")),
    "space": (("in space", "in outer space"), ("太空中", "太空里", "宇宙中")),
    "moon": (("on the moon",), ("月球上", "月亮上")),
    "room": (("in a room", "in the room", "indoors"), ("房间里", "屋子里", "室内")),
    "kitchen": (("in the kitchen", "in a kitchen"), ("厨房里",)),
    "table": (("on the table", "on a table"), ("桌子上", "桌上")),
    "sky": (("in the sky", "in the air", "up in the sky"), ("天空中", "天上", "空中")),
    "clouds": (("in the clouds", "among the clouds"), ("云中", "云端", "云朵里")),
    "forest": (("in the forest", "in a forest", "in the woods"), ("森林里", "树林里", "林中")),
    "mountain": (("on a mountain", "in the mountains", "on the mountain"), ("山上", "山里")),
    "hill": (("on a hill", "on the hill"), ("山坡上", "小山上")),
    "park": (("in the park", "in a park"), ("公园里",)),
    "garden": (("in the garden", "in a garden"), ("花园里", "园子里")),
    "farm": (("on a farm", "on the farm"), ("农场里", "农场上")),
    "lake": (("on the lake", "by the lake", "on a lake"), ("湖上", "湖边", "湖面上")),
    "river": (("by the river", "on the river"), ("河边", "河上")),
    "island": (("on an island", "on the island"), ("岛上", "小岛上")),
    "jungle": (("in the jungle",), ("丛林里", "雨林里")),
    "stage": (("on the stage", "on stage"), ("舞台上", "台上")),
}
TIMES = {
    "night": (("at night", "by night", "in the dark"), ("夜晚", "晚上", "夜里")),
    "sunset": (("at sunset", "in the evening", "at dusk"), ("日落时", "傍晚", "黄昏")),
    "morning": (("in the morning", "at sunrise", "at dawn"), ("早晨", "清晨", "日出时")),
    "day": (("by day", "during the day", "in the daytime"), ("白天", "大白天")),
}
VERBS = [("playing", "玩耍"), ("sitting", "坐着"), ("standing", "站着"), ("resting", "休息"),
         ("waiting", "等待")]  # fmt: skip
OPENINGS = ["a picture of ", "a photo of ", "an image of ", "a drawing of ", "a scene with "]
OPENINGS_ZH = ["画着", "图中有", "画面里有", "图片：", "一幅画：", "有"]

# {a} is the thing on the left, or above.
LEFT = """{a} to the left of {b}|{b} to the right of {a}|{a} on the left of {b}|{b} on the right of {a}
{a} left of {b}|{b} right of {a}|{a} is to the left of {b}|{b} is to the right of {a}
{a} is left of {b}|{b} is right of {a}|{a} on the left and {b} on the right
{b} on the right and {a} on the left|on the left {a}, on the right {b}|on the right {b}, on the left {a}
to the left of {b} there is {a}|to the right of {a} there is {b}|left of {b} is {a}|right of {a} is {b}
{a} with {b} to its right|{b} with {a} to its left|{a} with {b} on the right|{b} with {a} on the left
{a} is on the left, {b} is on the right|{b} is on the right, {a} is on the left"""
ABOVE = """{a} above {b}|{b} below {a}|{a} over {b}|{b} under {a}|{b} beneath {a}|{a} is above {b}
{b} is below {a}|{a} on top of {b}|{b} is under {a}|{a} at the top and {b} at the bottom
{b} at the bottom and {a} at the top|above {b} there is {a}|below {a} there is {b}|above {b} is {a}
{a} with {b} below it|{b} with {a} above it|under {a} is {b}|{a} is over {b}"""
LEFT_ZH = """{a}在{b}的左边|{b}在{a}的右边|{a}在{b}左边|{b}在{a}右边|{a}在{b}的左侧|{b}在{a}的右侧
左边是{a},右边是{b}|右边是{b},左边是{a}|左边有{a},右边有{b}|右边有{b},左边有{a}|{a}在左,{b}在右
{b}在右,{a}在左|{a}在左边,{b}在右边|{b}在右边,{a}在左边|{b}的左边是{a}|{a}的右边是{b}
{b}的左边有{a}|{a}的右边有{b}|{a}位于{b}左侧|{b}位于{a}右侧|{b}左边的{a}|{a}右边的{b}|{b}左面是{a}|{a}右面是{b}"""
ABOVE_ZH = """{a}在{b}的上面|{b}在{a}的下面|{a}在{b}上面|{b}在{a}下面|{a}在{b}的上方|{b}在{a}的下方
上面是{a},下面是{b}|下面是{b},上面是{a}|{a}在上,{b}在下|{b}在下,{a}在上|{b}的上面有{a}|{a}的下面有{b}
{b}的上方是{a}|{a}的下方是{b}|{a}位于{b}上方|{b}位于{a}下方|{b}上面的{a}|{a}下面的{b}|{a}在{b}之上|{b}在{a}之下"""
RELATIONS = {
    "left": (LEFT, LEFT_ZH), "above": (ABOVE, ABOVE_ZH),
    "row": ("{a}, {b} and {c} from left to right|from left to right: {a}, {b} and {c}|{c}, {b} and {a} from right to left",
            "从左到右是{a}、{b}和{c}|从左到右依次是{a}、{b}、{c}|从右到左是{c}、{b}和{a}"),
    "and2": ("{a} and {b}|{a} with {b}|{a} beside {b}|{a} next to {b}", "{a}和{b}|{a}与{b}|{a}旁边有{b}|{a}跟{b}"),
    "and3": ("{a}, {b} and {c}|{a} and {b} and {c}", "{a}、{b}和{c}|{a}和{b}和{c}"),
    "one": ("{a}", "{a}"),
}  # fmt: skip
TEMPLATES = {
    kind: tuple([t for line in both.splitlines() for t in line.split("|")] for both in pair)
    for kind, pair in RELATIONS.items()
}
CANON = {"left": ("left of", "左"), "above": ("above", "上"), "row": ("left of", "左")}


@dataclass(frozen=True)
class Group:
    thing: int
    count: int = 1
    colour: str = ""
    size: str = ""


@dataclass(frozen=True)
class Scene:
    groups: tuple[Group, ...]
    relation: str = "one"
    style: str = ""
    place: str = ""
    time: str = ""
    verb: int = -1


@dataclass
class Caption:
    text: str
    language: str
    scene: Scene
    spans: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)


def plural_of(noun: str) -> str:
    """English plurals for synonyms, by rule: "cup of tea" → "cups of tea"."""
    head, of, rest = noun.partition(" of ")
    if head.endswith(("s", "x", "ch", "sh", "z")):
        head += "es"
    elif head.endswith("y") and head[-2:-1] not in "aeiou":
        head = head[:-1] + "ies"
    else:
        head += "s"
    return head + of + rest


class Captions:
    """Draws scenes and says them."""

    def __init__(self, things: list[Thing], synonyms: float = 0.5, typos: float = 0.0) -> None:
        self.things, self.synonyms, self.typos = things, synonyms, typos

    def scene(self, rng: random.Random, pool: list[int] | None = None, kind: str = "") -> Scene:
        kind = (
            kind
            or rng.choices(["one", "left", "above", "and2", "and3", "row"], [26, 34, 20, 10, 5, 5])[
                0
            ]
        )
        size = {"one": 1, "and3": 3, "row": 3}.get(kind, 2)
        groups = tuple(
            Group(
                thing,
                rng.choices([1, 2, 3], [6, 2, 2])[0],
                rng.choice(list(COLOURS)) if rng.random() < 0.4 else "",
                rng.choice(["big", "small"]) if rng.random() < 0.25 else "",
            )
            for thing in rng.sample(pool or range(len(self.things)), size)
        )
        return Scene(
            groups,
            kind,
            rng.choice(list(STYLES)) if rng.random() < 0.35 else "",
            rng.choice(list(PLACES)) if rng.random() < 0.6 else "",
            rng.choice(list(TIMES)) if rng.random() < 0.25 else "",
            rng.randrange(len(VERBS)) if kind == "one" and rng.random() < 0.2 else -1,
        )

    def twist(self, scene: Scene, rng: random.Random) -> Scene:
        """The nearest wrong scene: things swapped, colours swapped, or another number."""
        groups = list(scene.groups)
        if scene.relation in ("left", "above", "row") and rng.random() < 0.6:
            return replace(scene, groups=tuple(reversed(groups)))
        if len(groups) > 1 and groups[0].colour != groups[1].colour and rng.random() < 0.6:
            a, b = groups[:2]
            groups[:2] = [replace(a, colour=b.colour), replace(b, colour=a.colour)]
            return replace(scene, groups=tuple(groups))
        i = rng.randrange(len(groups))
        groups[i] = replace(
            groups[i], count=rng.choice([n for n in (1, 2, 3) if n != groups[i].count])
        )
        return replace(scene, groups=tuple(groups))

    def _noun(self, thing: Thing, language: str, count: int, rng: random.Random) -> str:
        names = thing.names(language)
        noun = names[0]
        if len(names) > 1 and rng.random() < self.synonyms:
            noun = rng.choice(names[1:])
        if language == "en":
            if count > 1:
                noun = thing.plural if noun == thing.en else plural_of(noun)
            if rng.random() < self.typos:
                noun = typo(noun, rng)
        return noun

    def _phrase(self, i: int, group: Group, language: str, style: str, rng: random.Random) -> str:
        """One group of things. Characters from U+E000 on mark the spans; `say` takes them out."""
        zh = language == "zh"
        thing = self.things[group.thing]

        def mark(kind: int, text: str) -> str:
            return chr(0xE000 + 16 * kind + i) + text + "\ue0ff"

        words = []
        if group.size:
            words.append(rng.choice(SIZES[group.size][zh]))
        if style:
            words.append(
                rng.choice([f"{STYLES[style]}的", f"{STYLES[style]}风格的"]) if zh else style
            )
        if rng.random() < 0.5:
            words.reverse()
        if group.colour:
            colour = COLOURS[group.colour]
            forms = [f"{colour}色的", f"{colour}色", colour]
            words.append(mark(1, rng.choice(forms) if zh else group.colour))
        noun = mark(0, self._noun(thing, language, group.count, rng))
        number = NUMBERS[group.count - 1][zh]
        if zh:
            counted = mark(2, number) + thing.measure
            if group.count == 1 and rng.random() < 0.25:
                counted = ""
            return counted + "".join(words) + noun
        if group.count == 1 and rng.random() < 0.9:
            first = (words + [noun])[0].lstrip("\ue000\ue001\ue002\ue010\ue011\ue012")
            number = rng.choice(["", "the "]) if rng.random() < 0.12 else "a"
            number = "an" if number == "a" and first[0] in "aeiou" else number
        counted = mark(2, number.strip()) + " " if number.strip() else ""
        return counted + " ".join([*words, noun])

    def say(self, scene: Scene, language: str, rng: random.Random) -> Caption:
        zh = language == "zh"
        style_at = rng.choice(["adjective", "end", "front"]) if scene.style else ""
        inside = scene.style if style_at == "adjective" else ""
        phrases = [self._phrase(i, g, language, inside, rng) for i, g in enumerate(scene.groups)]
        template = rng.choice(TEMPLATES[scene.relation][zh])
        body = template.format(**dict(zip("abc", phrases, strict=False)))
        place = rng.choice(PLACES[scene.place][zh]) if scene.place else ""
        when = rng.choice(TIMES[scene.time][zh]) if scene.time else ""
        verb = VERBS[scene.verb][zh] if scene.verb >= 0 else ""
        if zh:
            text = self._frame_zh(body, place, when, verb, scene.relation, rng)
        else:
            text = self._frame_en(body, place, when, verb, scene, rng)
        if style_at == "end":
            word = STYLES[scene.style] if zh else scene.style
            ends = [",{}风格", ",{}画风", ",{}"] if zh else [", {} style", " in {} style", ", {}"]
            text += rng.choice(ends).format(word)
        elif style_at == "front":
            word = STYLES[scene.style] if zh else scene.style
            fronts = ["{}风格的", "{}风格:", "{}的"] if zh else ["{} style: ", "{}, ", "{} "]
            text = rng.choice(fronts).format(word) + text
        return self._strip(text, language, scene)

    def _frame_en(self, body: str, place: str, when: str, verb: str, scene: Scene, rng: random.Random) -> str:  # fmt: skip
        if verb:
            joint = " are " if scene.groups[0].count > 1 else " is "
            body += rng.choice([" ", joint]) + verb
        tail = [w for w in (place, when) if w]
        if rng.random() < 0.3:
            tail.reverse()
        opening = ""
        if " is " not in body and " are " not in body and not body.startswith(("from", "on", "to")):
            there = "there are " if scene.groups[0].count > 1 else "there is "
            opening = rng.choice(["", "", "", there, rng.choice(OPENINGS)])
        if tail and rng.random() < 0.4:
            front = tail.pop(0)
            comma = " " if opening.startswith("there") and rng.random() < 0.5 else ", "
            opening = front + comma + (opening if opening.startswith("there") else "")
        return " ".join([opening + body, *tail])

    def _frame_zh(self, body: str, place: str, when: str, verb: str, relation: str, rng: random.Random) -> str:  # fmt: skip
        if relation == "one" and place and rng.random() < 0.4:
            body, place = f"{body}在{place}{verb}", ""
        elif verb:
            body = rng.choice([f"{body}在{verb}", f"{verb}的{body}", f"{body}正在{verb}"])
        front, end = "", ""
        if place:
            where = rng.random()
            if where < 0.45:
                front = rng.choice([f"{place},", f"{place}有", f"在{place},", f"{place}的"])
            else:
                end = rng.choice([f",在{place}", f",{place}"])
        elif rng.random() < 0.2:
            front = rng.choice(OPENINGS_ZH)
        if when:
            if rng.random() < 0.7:
                front = when + rng.choice([",", "的", ""]) + front
            else:
                end += f",{when}"
        return front + body + end

    def _strip(self, marked: str, language: str, scene: Scene) -> Caption:
        text, spans, opened = [], {}, None
        for char in marked:
            code = ord(char) - 0xE000
            if code == 0xFF and opened is not None:
                spans[opened[0]] = (opened[1], len(text))
            elif 0 <= code < 0xFF:
                opened = ((("noun", "colour", "count")[code // 16], code % 16), len(text))
            else:
                text.append(char)
        return Caption("".join(text), language, scene, spans)

    def canon(self, scene: Scene, language: str) -> str:
        """What the decoder must write: the scene in one fixed order, leftmost or topmost first."""
        zh = language == "zh"
        parts = []
        for group in scene.groups:
            thing = self.things[group.thing]
            colour = COLOURS[group.colour] if zh and group.colour else group.colour
            words = [NUMBERS[group.count - 1][zh], SIZES[group.size][zh][0] if group.size else ""]
            parts.append(" ".join(w for w in [*words, colour, thing.zh if zh else thing.en] if w))
        joint = f" {CANON[scene.relation][zh]} " if scene.relation in CANON else " , "
        style = STYLES[scene.style] if zh and scene.style else scene.style
        place = PLACES[scene.place][zh][0] if scene.place else ""
        when = TIMES[scene.time][zh][0] if scene.time else ""
        return joint.join(parts) + "".join(f" ; {w}" for w in (place, when, style) if w)
