"""A training step in tensors, recorded and launched again, is the plain step; a pool is the data set in it."""

import itertools
import time
from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState
from cpu_graph import CpuGraph, Recording

from minimagen.config import TrainConfig
from minimagen.errors import UserError
from minimagen.images import from_bytes
from minimagen.scenes import Scenes
from minimagen.stage import DEFAULTS, Stage
from minimagen.text import TextEncoder, tokenize
from minimagen.training import graph, loop, pool
from minimagen.training import step as stepping
from minimagen.training.order import ShuffledBatches
from minimagen.training.pool import Feed, Pool
from minimagen.training.t5 import TensorT5
from minimagen.unet import UNetConfig

CPU = torch.device("cpu")
TINY = UNetConfig((32, 32), (1, 1), ("self", "cross"), embedding=32)
SHAPES = {
    "base": TINY,
    "sr64": replace(TINY, efficient=True, low_res=True),
    "sr256": replace(TINY, efficient=True, low_res=True, attention=("", "cross")),
}


@pytest.fixture(autouse=True)
def forget_the_precision():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder(cache_size=0)


def fresh(name="base"):
    torch.manual_seed(0)
    crop = 16 if name == "sr256" else None
    stage = Stage(replace(DEFAULTS[name], unet=SHAPES[name], crop=crop))
    for p in stage.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.05)
    return stage


def scenes(count=24, size=16):
    return Scenes(size, length=count)


def trained(stage, data, encoder, **settings):
    """Losses and weights after some steps; at the end `stage` holds the average."""
    config = TrainConfig(
        **{"steps": 7, "batch": 8, "text_noise": 0.5, "warmup_steps": 2, **settings}
    )
    losses, weights = [], {}
    for row in loop.train(stage, data, encoder, config):
        losses.append(row["loss"])
        weights = {k: v.clone() for k, v in stage.unet.state_dict().items()}
    average = {f"ema.{k}": v.clone() for k, v in stage.unet.state_dict().items()}
    return losses, weights | average


@pytest.fixture
def recorded(monkeypatch):
    """On the CPU, too, a step from a pool is captured: by the CPU's own graph, which is returned."""
    made, plain_begin = [], stepping.Step.begin

    def capture(self, first_step):
        plain_begin(self, first_step)
        self.launch = CpuGraph(self._update, self.generators, self.forget)
        made.append(self.launch)

    monkeypatch.setattr(stepping.Step, "begin", capture)
    return made


@pytest.mark.parametrize("name, size", [("base", 16), ("sr64", 16), ("sr256", 32)])
def test_a_captured_step_from_a_pool_is_the_plain_step(name, size, encoder, recorded, monkeypatch):
    """Rates, decays, seeds and images of each step reach a graph that was recorded once."""
    captured = trained(fresh(name), Pool(scenes(size=size), encoder, CPU, 24), encoder)
    assert recorded[0].launches == 4 and len(recorded[0].operations) > 500
    monkeypatch.undo()
    plain = trained(fresh(name), scenes(size=size), encoder)
    assert captured[0] == pytest.approx(plain[0], rel=2e-3)
    start, moved = fresh(name).unet.state_dict(), 0.0
    for k, v in plain[1].items():
        way = (v - start[k.removeprefix("ema.")]).norm().item()
        moved = max(moved, way)
        assert (captured[1][k] - v).norm() <= 0.03 * way + 1e-4, k
    assert moved > 0.1


def test_a_batch_in_parts_is_captured_too(encoder, recorded):
    whole = trained(fresh(), Pool(scenes(), encoder, CPU, 24), encoder)
    parts = trained(fresh(), Pool(scenes(), encoder, CPU, 24), encoder, grad_accum_steps=4)
    assert whole[0] == pytest.approx(parts[0], rel=1e-3)


def test_a_rate_that_is_a_number_would_be_found(encoder, recorded, monkeypatch):
    """The check of the check: with one number of the optimizers in Python, the graph goes another way."""
    right = trained(fresh(), Pool(scenes(), encoder, CPU, 24), encoder)
    make = stepping.Optimizers

    def in_numbers(*args):
        made = make(*args)
        made.all[1].param_groups[0]["lr"] = 0.02
        return made

    monkeypatch.setattr(stepping, "Optimizers", in_numbers)
    wrong = trained(fresh(), Pool(scenes(), encoder, CPU, 24), encoder)
    assert right[0][:4] == pytest.approx(wrong[0][:4]) and right[0] != pytest.approx(wrong[0])


def test_to_read_a_number_in_a_captured_step_is_an_error():
    with Recording(), pytest.raises(RuntimeError, match="capturing"):
        torch.ones(()).item()


def test_compiled_is_the_plain_step(encoder, monkeypatch):
    """The U-Net is one graph without breaks; so is the text encoder."""

    plain_begin = stepping.Step.begin

    def compiled(self, first_step):
        plain_begin(self, first_step)
        options = {"backend": "eager", "fullgraph": True, "dynamic": False}
        self.network = torch.compile(self.stage.unet, **options)
        self.source.encode = torch.compile(self.source.encoder, **options)

    plain = trained(fresh(), Pool(scenes(), encoder, CPU, 24), encoder, steps=5)
    monkeypatch.setattr(stepping.Step, "begin", compiled)
    other = trained(fresh(), Pool(scenes(), encoder, CPU, 24), encoder, steps=5)
    assert plain[0] == pytest.approx(other[0], rel=1e-4)
    for k, v in plain[1].items():
        torch.testing.assert_close(other[1][k], v, atol=1e-3, rtol=1e-3)


def test_where_it_can_not_be_compiled_it_goes_on_without_and_says_so(encoder, capsys, monkeypatch):
    plain_begin = stepping.Step.begin

    def broken(self, first_step):
        def compiled(*_):
            raise RuntimeError("no compiler")

        plain_begin(self, first_step)
        self.network = compiled

    plain = trained(fresh(), Pool(scenes(), encoder, CPU, 24), encoder)
    monkeypatch.setattr(stepping.Step, "begin", broken)
    capsys.readouterr()
    assert trained(fresh(), Pool(scenes(), encoder, CPU, 24), encoder)[0] == plain[0]
    told = capsys.readouterr().err
    assert told.count("is not compiled") == 1 and "no compiler" in told


class FakeCuda:
    """torch.cuda as far as Captured asks for it; a graph that can't be captured where `breaks`."""

    def __init__(self, monkeypatch, breaks=False):
        self.log, fake = [], self

        class Stream:
            def wait_stream(self, other):
                fake.log.append("wait")

        class Graph:
            def register_generator_state(self, generator):
                fake.log.append("generator")

            def replay(self):
                fake.log.append("replay")

        class capture:
            def __init__(self, graph, capture_error_mode):
                assert capture_error_mode == "thread_local"

            def __enter__(self):
                fake.log.append("capture")
                if breaks:
                    raise RuntimeError("operation not permitted")

            def __exit__(self, *_):
                fake.log.append("end")

        class beside(capture):
            def __init__(self, stream):
                pass

            def __enter__(self):
                fake.log.append("beside")

        for name, value in {
            "Stream": Stream, "CUDAGraph": Graph, "graph": capture, "stream": beside,
            "current_stream": Stream, "synchronize": lambda: None,
        }.items():  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, value)


def test_three_calls_warm_up_then_it_is_captured_once_and_launched(monkeypatch):
    cuda, calls, recovered = FakeCuda(monkeypatch), [], []
    work = graph.Captured(
        lambda: calls.append(1) or torch.ones(2), ["g"], lambda: recovered.append(1)
    )
    results = [work() for _ in range(6)]
    assert len(calls) == graph.WARM_UP + 1 and not recovered
    assert [x for x in cuda.log if x not in ("wait", "end")] == [
        "beside", "beside", "beside", "generator", "capture", "replay", "replay", "replay",
    ]  # fmt: skip
    assert results[3] is results[4] is results[5]


def test_what_can_not_be_captured_is_launched_kernel_by_kernel_and_says_so_once(
    monkeypatch, capsys
):
    cuda, calls, recovered = FakeCuda(monkeypatch, breaks=True), [], []
    work = graph.Captured(lambda: calls.append(1) or torch.ones(2), [], lambda: recovered.append(1))
    for _ in range(6):
        assert work().sum() == 2
    assert len(calls) == 6 and recovered == [1] and cuda.log.count("capture") == 1
    assert capsys.readouterr().err.count("kernel by kernel") == 1


# --- the pool --------------------------------------------------------------------------------------


def begun(data, encoder, size, **settings):
    made = Pool(data, encoder, CPU, size)
    made.begin(TrainConfig(steps=9, batch=8, **settings), 0)
    return made


def test_a_pool_that_holds_all_gives_the_batches_of_the_data_set(encoder):
    data = scenes(20)
    made = begun(data, encoder, 100, seed=3)
    order = ShuffledBatches(20, 8, 3)
    for step, indices in enumerate(itertools.islice(order, 6)):
        made.prepare(step)
        images, text, mask = made.part(slice(2, 8))
        expected, captions = data.batch(indices[2:])
        assert torch.equal(from_bytes(images), expected)
        states, seen = encoder(captions)
        n = states.shape[1]
        assert torch.equal(mask[:, :n], seen) and not mask[:, n:].any()
        assert (text[:, :n] - states).abs().max() < 3e-3  # both are rounded to fp16
        assert not text[:, n:].any()
    made.close()


def test_a_ring_holds_the_newest_and_every_picture_keeps_its_own_caption(encoder):
    data = scenes(1000)
    made = begun(data, encoder, 300)
    assert not made.whole and made.made >= 16
    end = time.monotonic() + 60
    while made.made < 700 and time.monotonic() < end:  # more than twice around
        made.prepare(0)
        time.sleep(0.01)
    made.close()
    assert 700 <= made.made <= 1000
    images, texts = data.batch(list(range(1000)))
    number = {x.numpy().tobytes(): i for i, x in enumerate(((images + 1) * 127.5).round().byte())}
    held = [number[x.numpy().tobytes()] for x in made.images]
    assert len(set(held)) == 300, "each once"
    ids, mask = tokenize(encoder.tokenizer, [texts[i] for i in held], 40)
    assert torch.equal(made.ids.long(), ids) and torch.equal(made.mask, mask)


def test_a_ring_is_drawn_from_evenly_and_anew_at_each_step(encoder):
    made = begun(scenes(1000), encoder, 64)
    made.close()
    made.made, drawn = 64, []
    made.feed.take = lambda wait: None
    for step in range(400):
        made.prepare(step)
        drawn.append(made.index.clone())
    counts = torch.cat(drawn).bincount(minlength=64)
    assert counts.min() > 20 and counts.max() < 90  # 50 on average
    made.prepare(7)
    assert torch.equal(made.index, drawn[7]) and not torch.equal(drawn[7], drawn[8])


def test_worker_processes_fill_it(encoder):
    made = Pool(scenes(30), encoder, CPU, 100, workers=1)
    made.begin(TrainConfig(steps=1, batch=8), 0)
    assert torch.equal(from_bytes(made.images), scenes(30).batch(list(range(30)))[0])
    made.close()
    assert not made.feed.thread.is_alive()


class Torn(Scenes):
    def batch(self, indices):
        if max(indices) > 3:
            raise UserError("line 5: it is damaged")
        return super().batch(indices)


def test_what_goes_wrong_behind_it_is_raised_before_it(encoder):
    with pytest.raises(UserError, match="^line 5: it is damaged$"):
        begun(Torn(16, length=9), encoder, 100)


def test_closing_ends_a_thread_that_waits_to_hand_over(encoder):
    chunks = pool.Chunks(scenes(), encoder.tokenizer, 40)
    feed = Feed(chunks, ([0] for _ in itertools.count()), 0)
    time.sleep(0.5)
    feed.close()
    assert not feed.thread.is_alive()


def test_the_text_encoder_in_tensors_is_the_courses(encoder):
    texts = [
        "a kitten playing on the grass",
        "一只小猫在草地上玩耍",
        "3d style, two red cars at night",
    ]
    ids, mask = tokenize(encoder.tokenizer, texts, 40)
    states, _ = encoder(texts)
    ours = TensorT5(encoder, 40)(ids, mask)
    apart = (ours[:, : states.shape[1]] - states).abs()
    assert apart.max() < 3e-3 and apart.mean() < 1e-5  # both are rounded to fp16, a few otherwise
    assert not ours[:, states.shape[1] :].any()
