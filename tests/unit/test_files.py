"""Files are written whole or not at all, and read line by line as far as they are whole."""

import json
import os
import stat

import pytest
import torch

from minimagen.assets import (
    from_int8,
    int8,
    read_tensors,
    replacing,
    write_json,
    write_tensors,
)
from minimagen.training.log import RunLog, read_log


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_what_breaks_off_leaves_the_old_file_and_nothing_else(error, tmp_path):
    path = tmp_path / "a.json"
    write_json({"a": "猫"}, path)
    assert path.read_text("utf-8") == '{\n "a": "猫"\n}\n'
    with pytest.raises(error), replacing(path) as aside:
        assert aside.parent == path.parent and aside != path
        aside.write_text("half")
        assert json.loads(path.read_text("utf-8")) == {"a": "猫"}, "the old one until the end"
        raise error
    assert json.loads(path.read_text("utf-8")) == {"a": "猫"} and os.listdir(tmp_path) == ["a.json"]


def test_tensors_come_back_as_they_were_and_others_may_read_them(tmp_path):
    x = torch.randn(4, 6, requires_grad=True)
    tensors = {"t": x.t(), "half": x.half()[:, ::2], "n": torch.tensor(2**40), "b": x > 0}
    write_tensors(tensors, tmp_path / "new" / "a.safetensors", {"k": "v"})
    again = read_tensors(tmp_path / "new" / "a.safetensors")
    for k, value in tensors.items():
        assert (
            again[k].equal(value) and again[k].dtype == value.dtype and not again[k].requires_grad
        )
    if os.name != "nt":
        assert stat.S_IMODE((tmp_path / "new" / "a.safetensors").stat().st_mode) == 0o644


def test_eight_bits_are_right_to_half_a_step():
    """A row of small numbers keeps its own step; a tensor of zeros comes back as zeros."""
    x = torch.randn(3, 5, 7) * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    tensors = {"x": x, "v": torch.randn(9), "zero": torch.zeros(2, 2), "n": torch.tensor(3)}
    packed = int8(tensors)
    assert packed["x"].dtype == torch.int8 and packed["x/step"].shape == (3, 1, 1)
    back = from_int8(packed)
    assert set(back) == set(tensors) and torch.equal(back["n"], tensors["n"])
    step = x.abs().amax(dim=(1, 2), keepdim=True) / 127
    assert ((back["x"] - x).abs() <= 0.501 * step).all()
    assert (back["v"] - tensors["v"]).abs().max() <= 0.501 * tensors["v"].abs().max() / 127
    assert torch.equal(back["zero"], tensors["zero"])
    whole = int8({"x": x}, by_row=False)
    assert whole["x/step"].shape == () and whole["x/step"] == x.abs().max() / 127


def test_a_log_is_read_around_broken_lines_and_goes_on_after_the_checkpoint(tmp_path):
    path = tmp_path / "log.jsonl"
    assert read_log(path) == []
    log = RunLog(path)
    for step in (1, 2, 3, 4):
        log.append({"step": step, "loss": step / 3})
    with open(path, "a") as file:
        file.write('{"step": 5, "lo\n7\n{"step": 6}\n')
    assert [row["step"] for row in read_log(path)] == [1, 2, 3, 4, 6]
    assert read_log(path)[1] == {"step": 2, "loss": 2 / 3}
    RunLog(path, 3).append({"step": 4, "loss": 0.5})  # resumed from step 3
    assert [(row["step"], row["loss"]) for row in read_log(path)] == [
        (1, 1 / 3), (2, 2 / 3), (3, 1.0), (4, 0.5),
    ]  # fmt: skip
    RunLog(path, 3)  # nothing is done before its first row
    assert len(read_log(path)) == 4
