"""The clinic of chapter 15: each patient is named by the doctor, or can't be seen; the healthy get no finding."""

import json
import re
import shutil

import pytest
import torch

from minimagen import doctor
from minimagen.course import case_notes, clinic, patients
from minimagen.course.check import discharged
from minimagen.errors import UserError
from minimagen.images import to_pil
from minimagen.scenes import Scenes
from minimagen.stage import Stage
from minimagen.text import TextEncoder

FINDINGS = {  # a part of the one sentence; None: it can't be seen from here
    1: "the average is never updated",
    2: "its config says that it predicts eps, but its output is v",
    3: "the last step leaves noise",
    4: "float16 ends at 65,504",
    5: "the learning rate was 0 from 25% of the run on",
    6: "once red and blue are exchanged",
    7: "16 of 16 pictures fit the caption of another",
    8: "the small image comes in [0, 1]",
    9: "the text encoder gives zeros at every token",
    10: "its halves with and without words are mixed up",
    11: "the same noise and words give two pictures",
    12: None,
}


@pytest.mark.parametrize("number", FINDINGS)
def test_a_patient_is_named_or_cannot_be_seen(number):
    torch.manual_seed(number)  # patient 11 throws dice
    found, part = doctor.examine(clinic.patient(number).subject), FINDINGS[number]
    assert len(found) == (0 if part is None else 1), found
    assert part is None or part in found[0]


def test_nine_of_twelve_at_least():
    assert sum(part is not None for part in FINDINGS.values()) >= 9
    assert FINDINGS.keys() == case_notes.NOTES.keys() == patients.PATIENTS.keys()


def test_pictures_in_order_get_no_finding(tmp_path):
    pictures, captions = Scenes(64, "seen", "starter", seed=5).batch(list(range(16)))
    rows = []
    for i, (picture, text) in enumerate(zip(to_pil(pictures), captions, strict=True)):
        picture.save(tmp_path / f"{i}.png")
        rows.append(json.dumps({"file_name": f"{i}.png", "text": text}) + "\n")
    (tmp_path / "metadata.jsonl").write_text("".join(rows))
    assert doctor.examine(tmp_path) == []


class Unknown:
    """Pictures that no stage knows, with captions that have nothing to do with them."""

    identity = "unknown"

    def __init__(self):
        smooth = torch.randn(16, 3, 4, 4, generator=torch.Generator().manual_seed(2))
        self.images = torch.nn.functional.interpolate(smooth, size=64, mode="bicubic").tanh()

    def __len__(self):
        return 16

    def batch(self, indices):
        return self.images[indices], Scenes(16, seed=9).batch(indices)[1]


def test_pictures_that_the_base_does_not_know_get_no_finding():
    assert list(doctor.check_pictures(Unknown(), TextEncoder())) == []


def test_a_small_run_that_went_well_gets_no_finding(tmp_path):
    """Patient 1's weights and log are those of a sound run."""
    patients.run("a").save(tmp_path)
    shutil.copy(patients.RUNS / "a" / "log.jsonl", tmp_path)
    assert doctor.examine(tmp_path) == []


def test_the_runs_are_small():
    files = [p for p in patients.RUNS.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 2**20


@pytest.mark.parametrize("number", FINDINGS)
def test_nothing_gives_a_patient_away(number):
    p, cause = clinic.patient(number), case_notes.NOTES[number].cause
    assert cause not in p.complaint.lower() and cause not in repr(p)
    names = [type(p.subject).__name__]
    if isinstance(p.subject, Stage):
        names += [type(m).__name__ for m in p.subject.modules()]
        assert not any(name.startswith("_") for name in names)
    assert "clinic" not in names


def test_a_patient_draws_and_one_that_is_pictures_says_so():
    drawn = clinic.patient(2).draw(["a cat"], [0], steps=2)
    assert drawn.shape == (1, 3, 16, 16) and drawn.isfinite().all()
    assert (clinic.patient(4).draw(["a cat"], [0], steps=2) == -1).all()
    sound = clinic.healthy().draw(["a cat"], [0], steps=2)
    assert sound.std() > 0.1 and not torch.equal(sound, drawn)
    with pytest.raises(UserError, match="folder of pictures"):
        clinic.patient(6).draw(["a cat"], [0])
    with pytest.raises(UserError, match="patients 1 to 12, not 13"):
        clinic.patient(13)


def test_what_is_too_large_for_float16_is_the_same_in_float32():
    ill, sound = clinic.patient(4).stage, clinic.healthy().stage
    noise = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    text, mask = TextEncoder()(["a cat", "a red car"])
    a, b = (s.sample(noise, text, mask, guidance=2.0, steps=2) for s in (ill, sound))
    assert (a - b).abs().max() < 0.01


def test_each_source_is_an_issue_of_its_own():
    sources = [notes.source for notes in case_notes.NOTES.values()]
    assert len(set(sources)) == 12
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", source) for source in sources)
    assert {notes.cause for notes in case_notes.NOTES.values()} < case_notes.CAUSES.keys()
    assert case_notes.NOTES[1].url == "https://github.com/huggingface/diffusers/issues/5783"


def test_diagnoses_are_judged(capsys):
    discharged({1: "average"})
    out = capsys.readouterr().out
    assert "✓ patient 1" in out and "huggingface/diffusers#5783" in out
    with pytest.raises(
        AssertionError, match="patient 2 waits; patient 3 has something else than 'seed'"
    ):
        discharged({1: "average", 2: None, 3: "seed"})
    with pytest.raises(AssertionError, match="'flu' is none of average"):
        discharged({4: "flu"})


def test_who_is_discharged_reads_what_the_bug_did_to_the_probes(capsys):
    from minimagen.course import check

    check.discharged({1: "average", 2: "target"})
    told = capsys.readouterr().out
    assert "here:   The average is the network as it began" in told and "α is nearly 0" in told
