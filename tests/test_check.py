"""Each exercise check passes the right answer and names each mistake that it knows."""

import pytest
import torch

from minimagen import check

EXERCISES = {name: e for name, e in vars(check).items() if isinstance(e, check.Exercise)}


@pytest.mark.parametrize("name", EXERCISES)
def test_an_exercise_takes_the_right_answer_and_names_each_mistake(name, capsys):
    exercise = EXERCISES[name]
    exercise(exercise.right)
    assert capsys.readouterr().out == f"✓ {exercise.title}\n"
    assert exercise.mistakes
    for sentence, wrong in exercise.mistakes.items():
        with pytest.raises(AssertionError) as told:
            exercise(wrong)
        assert str(told.value) == f"{exercise.title}: {sentence}"
    for stub in (None, lambda *_: None):
        with pytest.raises(AssertionError, match="returns nothing yet"):
            exercise(stub)
    with pytest.raises(AssertionError, match="not yet|the shape is"):
        exercise(lambda *_: torch.tensor(1e9))


@pytest.mark.parametrize(
    "betas, sentence",
    [
        (torch.linspace(1e-4, 0.02, 1000), "give 200"),
        (torch.linspace(1e-4, 1.2, 200), "outside"),
        (torch.linspace(0.1, 1e-4, 200), "grow"),
        (torch.linspace(1e-4, 0.02, 200), "0.36 of the picture is left"),
    ],
)
def test_short_schedule(betas, sentence):
    check.short_schedule(torch.linspace(5e-4, 0.1, 200))
    with pytest.raises(AssertionError, match=sentence):
        check.short_schedule(betas)


def test_a_claim_prints_its_number_and_fails_where_it_does_not_hold(capsys):
    check.claim("a third", True, torch.tensor(1 / 3))
    assert capsys.readouterr().out == "✓ a third ≈ 0.333\n"
    with pytest.raises(AssertionError, match="a third"):
        check.claim("a third", torch.tensor(False))


def test_a_prediction_without_a_notebook_is_the_middle(capsys):
    assert check.predict("how much?", 0, 10).value == 5


def test_the_first_cell_refuses_an_unknown_budget(monkeypatch, capsys):
    monkeypatch.setenv("MINIMAGEN_BUDGET", "huge")
    with pytest.raises(ValueError, match="quick, laptop, gpu"):
        check.start()


def test_exercises_of_guidance_that_take_a_number(capsys):
    check.what_becomes_of_a_half(0.2)
    check.smallest_weight(1.6)
    for answer, sentence in ((None, "first"), (0.5, "static"), (0.7, "divided by s")):
        with pytest.raises(AssertionError, match=sentence):
            check.what_becomes_of_a_half(answer)
    for w, sentence in ((1.0, "go higher"), (3.0, "smaller one")):
        with pytest.raises(AssertionError, match=sentence):
            check.smallest_weight(w)
