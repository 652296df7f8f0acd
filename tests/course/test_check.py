"""Each exercise check passes the right answer and names each mistake that it knows."""

import math

import pytest
import torch

from minimagen.course import check
from minimagen.course.core.chapter_07 import joined_attention
from minimagen.diffusion import alpha_sigma, cosine_log_snr
from minimagen.text import TextEncoder

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
    if not isinstance(exercise.right(*exercise.inputs), tuple):
        with pytest.raises(AssertionError, match="return one tensor, not a tuple"):
            exercise(lambda *_: (torch.tensor(1.0), torch.tensor(2.0)))
    with pytest.raises(AssertionError, match="compare it with the text|the shape is"):
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


def test_exercises_of_forward_diffusion(capsys):
    def walk(betas):
        rows = []
        for one in torch.eye(4):
            x = one[0]
            for beta, eps in zip(betas, one[1:], strict=True):
                x = (1 - beta) ** 0.5 * x + beta**0.5 * eps
            rows.append(x)
        return torch.stack(rows)

    check.three_steps(walk)
    for wrong, sentence in (
        (lambda b: None, "nothing yet"),
        (lambda b: b, "four numbers"),
        (
            lambda b: torch.cat([(1 - b).sqrt().prod()[None], b.sqrt()]),
            "shrinks in every later step",
        ),
        (lambda b: walk(b.flip(0)), "the walk gives"),
        (lambda b: torch.tensor([0.5, 0.5, 0.5, 0.5]), "the walk gives"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.three_steps(wrong)
    right = {"A": "no shrinking", "B": "rand for randn", "C": "beta without its root"}
    check.who_did_what(right)
    for change, sentence in (
        ({"A": None}, "first"),
        ({"B": "x"}, "none of"),
        ({"C": "no shrinking"}, "C's curves"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.who_did_what(right | change)
    walks = check.three_walkers(torch.linspace(1e-3, 0.1, 200))
    assert walks["A"][1][-1] > 5 and walks["B"][0][-1] > 1 and walks["C"][1][-1] < 0.2


def test_a_claim_prints_its_number_and_fails_where_it_does_not_hold(capsys):
    check.claim("a third", True, torch.tensor(1 / 3))
    assert capsys.readouterr().out == "✓ a third ≈ 0.333\n"
    with pytest.raises(AssertionError, match="a third"):
        check.claim("a third", torch.tensor(False))


def test_a_prediction_without_a_notebook_is_the_middle(capsys):
    guess = check.predict("how much?", 0, 10)
    assert guess.value == 5
    guess.reveal(7.25)
    assert "you said ≈ 5, and it is ≈ 7.25" in capsys.readouterr().out


def test_the_first_cell_refuses_an_unknown_budget(monkeypatch, capsys):
    monkeypatch.setenv("MINIMAGEN_BUDGET", "huge")
    with pytest.raises(ValueError, match="quick, laptop, gpu"):
        check.start()


def test_exercises_of_guidance():
    check.what_becomes_of_a_half(0.2)
    for answer, sentence in ((None, "first"), (0.5, "static"), (0.7, "divided by s")):
        with pytest.raises(AssertionError, match=sentence):
            check.what_becomes_of_a_half(answer)
    right = {"A": "told twice", "B": "swapped", "C": "other convention"}
    check.who_guides_wrong(right)
    for change, sentence in (
        ({"A": None}, "first"),
        ({"B": "x"}, "none of"),
        ({"C": "swapped"}, "C's line"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.who_guides_wrong(right | change)
    means = check.three_guides((0, 1, 2))
    assert (means["A"] - 1).abs().max() < 0.05  # told twice: the weight does nothing
    assert abs(means["B"][0] - 1) < 0.05 and abs(means["B"][1]) < 0.05 and means["B"][2] < -1
    assert abs(means["C"][0] - 1) < 0.05 and means["C"][1] > 1.3


def test_exercises_of_super_resolution():
    def level(grain):
        return lambda small: 2 / math.pi * math.atan(grain(small.diff(dim=3)))

    check.honest_level(level(lambda d: d.abs().median() / 0.6745 / math.sqrt(2)))
    for answer, sentence in (
        (lambda small: None, "first"),
        (lambda small: 0.16, "noise than there is"),
        (level(lambda d: 2 * d.std()), "more noise"),
        (level(lambda d: d.abs().median() / 0.6745), "√2"),
        (level(lambda d: d.abs().median() / math.sqrt(2)), "0.6745"),
        (lambda small: small.diff(dim=3).abs().median() / 0.6745 / math.sqrt(2), "which level"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.honest_level(answer)
    right = {"A": "noised in [0, 1]", "B": "noised after enlarging", "C": "pixels repeated"}
    check.who_enlarges_wrong(right)
    for change, sentence in (
        ({"A": None}, "first"),
        ({"B": "x"}, "none of"),
        ({"C": "noised in [0, 1]"}, "C's input"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.who_enlarges_wrong(right | change)
    inputs = check.three_inputs(torch.zeros(3, 64, 64))
    assert abs(inputs["A"].mean() + 0.049) < 0.03  # darker by 1 − α
    steps = inputs["C"].diff(dim=2)[:, :, [0, 1, 2]]
    assert steps.abs().max() == 0  # four pixels are one
    assert inputs["B"].diff(dim=2).std() > inputs["A"].diff(dim=2).std()  # its grain is finer


def test_the_suspicious_file():
    text = check.suspicious_file().read_text(encoding="utf-8")
    compile(text, "my_imagen.py", "exec")
    assert "emb + unet.noise_level" not in text
    check.which_function("sr_first_layer")
    for name, sentence in (
        (None, "first"), ("magic", "no core function"), ("augment", "gives the same"), ("guided", "base too"),
    ):  # fmt: skip
        with pytest.raises(AssertionError, match=sentence):
            check.which_function(name)


def test_copies(capsys):
    check.copies({12: 1.0, 100: 0.9, 400: 0.7})
    assert "copies" in capsys.readouterr().out
    for shares, sentence in (
        ({12: 1.0, 100: None, 400: 0.5}, "no share yet for 100"),
        ({12: 1.0}, "three numbers"),
        ({12: 12, 100: 50, 400: 60}, "between 0 and 1"),
        ({12: 0.5, 100: 0.5, 400: 0.5}, "with 12 pictures"),
        ({12: 1.0, 100: 1.0, 400: 1.0}, "with 400 pictures there should be fewer"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.copies(shares)


def test_the_strange_loss_is_found_by_a_spy():
    """Its one mistake is σ² for σ: each wrong answer is refuted by what the check says of it."""
    seen = []

    def spy(x_t, log_snr):
        seen.append((x_t, log_snr))
        return x_t

    x_0, eps, t = torch.rand(4, 3, 2, 2), torch.randn(4, 3, 2, 2), torch.rand(4)
    log_snr = cosine_log_snr(t)
    alpha, sigma = alpha_sigma(log_snr[:, None, None, None])
    loss = check.strange_loss(spy, x_0, t, eps, cosine_log_snr, "x_0")
    assert torch.allclose(seen[0][0], alpha * x_0 + sigma**2 * eps) and torch.equal(
        seen[0][1], log_snr
    )
    assert torch.isclose(loss, (seen[0][0] - x_0).square().mean())
    assert check.strange_loss(lambda x, s: x_0, x_0, t, eps, cosine_log_snr) == 0
    check.what_is_strange("sigma squared")
    for answer, sentence in (
        (None, "first"),
        ("no sigma", "try x_0 = 0"),
        ("alpha and sigma swapped", "eps = 0"),
        ("the network is told t", "log-SNR"),
        ("the target is the noise", "pays nothing"),
        ("something", "is none of"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.what_is_strange(answer)


def test_which_target():
    check.which_target({"x_0": 0.02, "eps": 0.1, "v": 0.05})
    for errors, sentence in (
        ({"x_0": 0.02, "eps": None, "v": 0.05}, "no error yet for eps"),
        ({"x_0": 0.02, "eps": 0.0, "v": 0.05}, "positive"),
        ({"x_0": 0.02, "eps": 9.0, "v": 0.05}, "forgetting"),
        ({"x_0": 0.2, "eps": 0.1, "v": 0.05}, "should do best"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.which_target(errors)


def test_better_times():
    check.better_times(torch.linspace(1, 0, 11) ** 1.6)
    for times, sentence in (
        (torch.linspace(1, 0, 12), "11 times"),
        (torch.linspace(1, 0, 11)[[0, 2, 1, *range(3, 11)]], "must fall"),
        (torch.linspace(1, 0, 11), "1.00 of the even error"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.better_times(times)


def test_a_step_that_keeps_some_noise():
    def step(x_t, x_0, now, then, noise, eta):
        (a_t, s_t), (a_s, s_s) = alpha_sigma(now), alpha_sigma(then)
        fresh = eta**2 * (1 - torch.exp(now - then))
        return a_s * x_0 + s_s * ((1 - fresh) ** 0.5 * (x_t - a_t * x_0) / s_t + fresh**0.5 * noise)

    check.keeping_some(step)
    with pytest.raises(AssertionError, match="ancestral sampling for every"):
        check.keeping_some(lambda *a: step(*a[:5], 1.0))
    with pytest.raises(AssertionError, match="DDIM for every"):
        check.keeping_some(lambda *a: step(*a[:5], 0.0))
    with pytest.raises(AssertionError, match="its square"):
        check.keeping_some(lambda *a: step(*a[:5], a[5] ** 0.5))


def test_three_samplers_are_named():
    right = {
        "A": "looks a whole step ahead",
        "B": "variance without its root",
        "C": "one noise for all steps",
    }
    check.who_samples_how(right)
    for change, sentence in (
        ({"A": None}, "name the mistake of A"),
        ({"B": "no idea"}, "is none of"),
        ({"A": right["B"]}, "would not give A's crowd"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.who_samples_how(right | change)
    x, x_0, now, then = (
        torch.randn(4, 1, 2, 2),
        torch.zeros(4, 1, 2, 2),
        torch.tensor(-1.0),
        torch.tensor(1.0),
    )
    first, again = (
        {who: step(x, x_0, now, then, None) for who, step in check.three_samplers().items()}
        for _ in range(2)
    )
    assert torch.equal(first["A"], again["A"])  # the only one without chance
    assert not torch.equal(first["B"], again["B"]) and not torch.equal(first["C"], again["C"])


def test_strange_encoders():
    model = TextEncoder().model
    batch = TextEncoder().tokenizer(
        ["a cat", "a red car to the left of a dog"], return_tensors="pt", padding=True
    )
    tokens, mask = batch["input_ids"], batch["attention_mask"].bool()
    right = model(tokens, batch["attention_mask"]).last_hidden_state
    one = model(tokens[1:, -1:]).last_hidden_state  # a single piece: </s>
    strange = check.strange_encoders(model)
    seen = {
        who: (
            bool((f(tokens, mask) - right)[mask].abs().max() > 1e-2),
            bool((f(tokens, mask) - right)[1].abs().max() > 1e-2),
            bool((f(tokens[1:, -1:], mask[1:, -1:]) - one).abs().max() > 1e-2),
        )
        for who, f in strange.items()
    }
    assert seen == {"A": (True, False, False), "B": (True, True, True), "C": (True, True, False)}
    faults = {
        "A": "padding is attended to",
        "B": "gate and value swapped",
        "C": "left and right swapped",
    }
    check.what_is_strange_in_them(faults)
    for change, sentence in (
        ({"A": None}, "name the fault of A"),
        ({"B": "no idea"}, "is none of"),
        ({"B": faults["A"]}, "would not show as B's"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.what_is_strange_in_them(faults | change)


def test_exercises_of_the_text_encoder_that_are_no_functions():
    check.xxl_feed_forward(3.02)
    for given, sentence in (
        (2.01, "three matrices"),
        (0.126, "one layer"),
        (4.76, "all of it"),
        (9, "count the matrices"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.xxl_feed_forward(given)
    check.untaught_word("tomcat", "cat")
    for word, name, sentence in (
        ("kitten", "cat", "lists"), ("tomcat", "tiger", "forty"), ("poodle", "dog", "puts 'poodle' nearest"),
    ):  # fmt: skip
        with pytest.raises(AssertionError, match=sentence):
            check.untaught_word(word, name)


def test_exercises_of_text_conditioning():
    right = {"A": "two softmaxes", "B": "words alone", "C": "padding is asked"}
    check.which_door(right)
    for given, sentence in (
        ({"A": None}, "A has no name yet"),
        (right | {"A": "words alone"}, "does A notice"),
        (right | {"C": "two softmaxes"}, "all 1"),
        (right | {"B": "magic"}, "is none of"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.which_door(given)
    left, right_half = torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)
    left[..., :4], right_half[..., 4:] = 0.1, 0.1
    check.the_word_moves(left, right_half)
    for pair, sentence in (
        ((None, None), "two maps"),
        ((right_half, left), "before the swap"),
        ((left, left + right_half), "farther"),
        ((left[0], left[0]), "a map is"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.the_word_moves(*pair)


def test_two_sentences_in_one_picture():
    def answer(choose):
        def split(q, k, v, first, second, head_dim):
            n = torch.arange(q.shape[1])
            one, other = (joined_attention(q, k, v, *w, head_dim) for w in (first, second))
            return torch.where(choose(n, 4)[None, :, None], one, other)

        return split

    check.two_sentences(answer(lambda n, side: n % side < side // 2))
    for choose, sentence in (
        (lambda n, side: n % side >= side // 2, "swapped"),
        (lambda n, side: n // side < side // 2, "above and below"),
        (lambda n, side: n < 0, "second sentence"),
        (lambda n, side: n % 2 < 1, "one of two results"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.two_sentences(answer(choose))
    with pytest.raises(AssertionError, match="returns nothing"):
        check.two_sentences(lambda *_: None)


def test_the_width_that_a_pile_sees(capsys):
    def field(strides, grow=True, before=False, each=2):
        width, jump = 1, 1
        for stride in strides:
            jump *= stride if before and grow else 1
            width += each * jump
            jump *= stride if grow and not before else 1
        return width

    check.sees(field)
    assert capsys.readouterr().out == "✓ what a pile of convolutions sees\n"
    for wrong, sentence in (
        (lambda s: None, "returns nothing yet"),
        (lambda s: field(s, grow=False), "the strides do nothing yet"),
        (lambda s: field(s, before=True), "only for the convolutions after it"),
        (lambda s: field(s, each=3), "two jumps to the width"),
        (lambda s: 1000, "it sees"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.sees(wrong)


def test_the_four_strangers_have_the_faults_that_questions_find():
    x, s = torch.randn(2, 3, 16, 16), torch.zeros(2)
    corner, other = x.clone(), x.clone()
    corner[0, :, 0, 0] += 3
    other[1] += 1
    found = {}
    for name, stranger in check.strangers().items():
        before = stranger(x, s)
        assert before.shape == x.shape
        found[name] = (
            bool((stranger(x, s + 1) - before).abs().max() > 0.01),  # hears the clock
            bool((stranger(corner, s) - before)[0, :, -1, -1].abs().max() > 1e-4),  # sees far
            bool((stranger(other, s) - before)[0].abs().max() > 0.01),  # is disturbed
        )
    right = {
        "A": "pictures disturb each other",
        "B": "nothing is wrong",
        "C": "deaf to the clock",
        "D": "sees only near by",
    }
    assert found["A"][2] and not found["B"][2]
    assert found["B"] == (True, True, False)
    assert found["C"] == (False, True, False)
    assert found["D"] == (True, False, False)
    check.what_is_wrong(right)
    for change, sentence in (
        ({"A": None}, "A first"),
        ({"B": "all is well"}, "none of"),
        ({"C": "nothing is wrong"}, "a test of C"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.what_is_wrong(right | change)


def test_the_four_models_are_told_apart_by_measurements():
    train, real = torch.rand(400, 3, 16, 16), torch.rand(200, 3, 16, 16)
    sets = check.four_models(train, real)
    far = {
        k: torch.cdist(x.flatten(1), train.flatten(1)).min(1).values.median()
        for k, x in sets.items()
    }
    spread = {k: x.std(0).mean() for k, x in sets.items()}
    assert all(x.shape == (200, 3, 16, 16) for x in sets.values())
    assert far["A"] == min(far.values()) and far["A"] < far["C"] / 2  # copies
    assert spread["B"] == min(spread.values())  # blurs are alike
    check.who_is_honest({"A": "copies", "B": "blurs", "C": "honest", "D": "one kind"})
    for wrong, sentence in (
        ({}, "A does first"),
        ({"A": "fine"}, "none of"),
        ({"A": "honest"}, "a measurement of A"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.who_is_honest(wrong)


def test_enough_steps():
    shares = {n: check.ring_share(n) for n in (3, 11, 12, 13, 14, 40)}
    assert shares[3] < 0.5 and shares[40] > 0.99
    with pytest.raises(AssertionError, match="your number first"):
        check.enough_steps(None)
    check.enough_steps(next(n for n, share in shares.items() if share >= 0.95))
    with pytest.raises(AssertionError, match="only"):
        check.enough_steps(3)
    with pytest.raises(AssertionError, match="fewer"):
        check.enough_steps(40)


def test_a_notebook_computes_without_tf32(monkeypatch):
    """Or two ways to the same number differ on a GPU: by 0.0039 in chapter 08, where 1e-3 is allowed."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    check.start()
    assert not torch.backends.cudnn.allow_tf32


def test_exercises_of_control(capsys):
    def fold(adapter, bias=True, weight=1.0):
        linear = torch.nn.Linear(7, 5, bias=bias)
        both = adapter.layer.weight + weight * adapter.up.weight @ adapter.down.weight
        linear.weight.data = both.data
        if bias:
            linear.bias.data = adapter.layer.bias.data.clone()
        return linear

    def in_place(adapter):
        adapter.layer.weight.data += adapter.up.weight.data @ adapter.down.weight.data
        return adapter.layer

    check.merged_adapter(fold)
    assert "✓" in capsys.readouterr().out
    for merge, sentence in (
        (lambda a: None, "returns nothing yet"),
        (lambda a: a, "return an nn.Linear"),
        (lambda a: a.layer, "the frozen layer alone"),
        (lambda a: fold(a, bias=False), "the bias is missing"),
        (lambda a: fold(a, weight=0.5), "W \\+ up @ down"),
        (in_place, "copy it first"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.merged_adapter(merge)
    spread = check.three_inpaintings()
    assert spread["A"][-1] > 3 and spread["B"][-1] < 0.1 and spread["C"].min() > 1
    right = {"A": "factors swapped", "B": "without noise", "C": "one step late"}
    check.who_inpaints_wrong(right)
    for change, sentence in (
        ({"A": None}, "name the mistake of A first"),
        ({"B": "blurred"}, "is none of"),
        ({"C": "without noise"}, "would not look like C's line"),
    ):
        with pytest.raises(AssertionError, match=sentence):
            check.who_inpaints_wrong(right | change)


def test_a_share_of_alarms_is_no_per_cent():
    check.right_alarms(0.09)
    for wrong, words in (
        (None, "write your share"),
        (0.99, "most pictures are not"),
        (9, "50 % is 0.5"),
        (0.5, "100,000"),
    ):
        with pytest.raises(AssertionError, match=words):
            check.right_alarms(wrong)


def test_the_bytes_of_a_training_are_counted_and_three_accumulations_told_apart():
    check.bytes_of_training(lambda weights: 22 * weights)
    for wrong, words in (
        (lambda w: None, "return a number"),
        (lambda w: 44e9, "twice the weights"),
        (lambda w: 18 * w, "4 bytes are missing"),
        (lambda w: 20 * w, "the bfloat16 copy is missing"),
        (lambda w: 24 * w, "in bfloat16, 2 bytes and not 4"),
        (lambda w: 22 * w / 80e9, "don't divide"),
        (lambda w: 16 * w, "16 bytes a weight"),
    ):
        with pytest.raises(AssertionError, match=words):
            check.bytes_of_training(wrong)
    far = check.three_accumulations()
    assert far["A"][-1] > 0.01 and (far["A"][-4:] - far["A"][-1]).abs().max() < 1e-3  # beside it
    assert (far["B"].diff()[2:].sign().diff() != 0).sum() >= 3  # it comes back and overshoots
    assert far["C"][-1] > 100 * far["C"][0]
    check.who_accumulates_wrong({"A": "plain average", "B": "not cleared", "C": "sum"})
    with pytest.raises(AssertionError, match="1 of 3"):
        check.who_accumulates_wrong({"A": "plain average", "B": "sum", "C": "not cleared"})
    with pytest.raises(AssertionError, match="name the mistake"):
        check.who_accumulates_wrong({"A": None, "B": None, "C": None})
