"""The text encoder: masks, cache, and the same code path as any other T5."""

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from minimagen.text import POCKET, TextEncoder
from minimagen.unet import parameters

TEXTS = ["a cat", "a red car to the left of two dogs on the beach at night", "草地上有一只猫"]


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder()


def test_padding_never_changes_a_state(encoder):
    states, mask = encoder(TEXTS)
    assert states.shape == (3, mask.shape[1], encoder.width) and mask.any(dim=1).all()
    for i, text in enumerate(TEXTS):
        alone, m = TextEncoder()([text])
        torch.testing.assert_close(states[i, : m.sum()], alone[0], atol=2e-3, rtol=1e-3)
        assert not states[i, m.sum() :].any()


def test_padding_inside_the_model_is_masked_to_1e_5(encoder):
    batch = encoder.tokenizer(TEXTS, return_tensors="pt", padding=True)
    with torch.no_grad():
        together = encoder.model(**batch).last_hidden_state
        for i, text in enumerate(TEXTS):
            one = encoder.model(**encoder.tokenizer([text], return_tensors="pt")).last_hidden_state
            torch.testing.assert_close(together[i, : one.shape[1]], one[0], atol=1e-5, rtol=1e-5)


def test_equal_to_transformers(encoder):
    """Our path is transformers' own, and what comes from the cache is what was computed."""
    tokens = encoder.tokenizer(["two dogs"], return_tensors="pt")
    with torch.no_grad():
        theirs = T5EncoderModel.from_pretrained(POCKET, dtype=torch.float32)(**tokens)
    first, second = encoder(["two dogs"])[0], encoder(["two dogs"])[0]
    torch.testing.assert_close(first, theirs.last_hidden_state, atol=2e-3, rtol=1e-3)
    assert torch.equal(first, second)


def test_it_is_frozen_small_and_bilingual(encoder):
    assert parameters(encoder.model) <= 5e6
    assert not any(p.requires_grad for p in encoder.model.parameters())
    assert encoder.unknown("a cat") == [] and encoder.unknown("一只猫") == []


def test_what_it_does_not_know(encoder):
    assert not encoder.knows("𓀀𓀁") and encoder.knows("cat 𓀀")
    assert "𓀀" in "".join(encoder.unknown("cat 𓀀"))


def test_another_t5_from_disk_is_read_by_the_same_code_and_has_another_fingerprint(
    encoder, tmp_path
):
    config = T5Config(
        vocab_size=len(encoder.tokenizer), d_model=32, d_kv=8, num_heads=4, d_ff=64, num_layers=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    T5EncoderModel(config).save_pretrained(tmp_path)
    encoder.tokenizer.save_pretrained(tmp_path)
    other = TextEncoder(tmp_path)
    states, mask = other(TEXTS)
    assert states.shape[-1] == other.width == 32 and mask.shape == states.shape[:2]
    assert other.fingerprint != encoder.fingerprint


def test_a_missing_encoder_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="no text encoder could be read"):
        TextEncoder(tmp_path)
