"""The text encoder: masks, cache, and the same code path as any other T5."""

import math
import zlib

import pytest
import torch
from torch.nn import functional
from transformers import T5Config, T5EncoderModel

from minimagen.assets import DEFAULT_ENCODER
from minimagen.errors import UserError
from minimagen.scenes import Scenes, objects
from minimagen.text import MAX_TOKENS, TextEncoder, draw_text_noise, normalized
from minimagen.unet import num_parameters

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
        theirs = T5EncoderModel.from_pretrained(DEFAULT_ENCODER, dtype=torch.float32)(**tokens)
    first, second = encoder(["two dogs"])[0], encoder(["two dogs"])[0]
    torch.testing.assert_close(first, theirs.last_hidden_state, atol=2e-3, rtol=1e-3)
    assert torch.equal(first, second)


def test_without_a_cache_it_gives_the_same(encoder):
    """A training's way: nothing is kept, nothing taken apart. A text may come twice."""
    texts = ["a cat", "两只小狗在海滩上玩耍", "a cat", "three pizzas in the snow, flat style"]
    (states, mask), (kept, same) = TextEncoder(cache_size=0)(texts), encoder(texts)
    assert mask.equal(same) and states.shape == kept.shape and not states[~mask].any()
    assert (states - kept).abs().max() < 2e-3  # fp16 of states that stood beside other texts


def test_it_is_frozen_small_and_bilingual(encoder):
    assert num_parameters(encoder.model) <= 5e6
    assert not any(p.requires_grad for p in encoder.model.parameters())
    assert encoder.unknown("a cat") == [] and encoder.unknown("一只猫") == []


class Holder(torch.nn.Module):
    """A module with something of its own, and the text encoder."""

    def __init__(self, encoder):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.encoder = encoder


def test_it_follows_its_module_to_a_device_and_keeps_its_dtype_and_mode():
    encoder = TextEncoder()
    before, _ = encoder(TEXTS)
    assert len(encoder._cache) == len(TEXTS)
    holder = Holder(encoder).train().half()
    assert holder.layer.weight.dtype == torch.float16 and holder.training
    assert not any(module.training for module in encoder.modules())
    assert all(p.dtype == torch.float32 for p in encoder.parameters())
    assert not encoder._cache, "embeddings of the device that it left"
    after, _ = encoder(TEXTS)
    assert torch.equal(after, before) and not after.requires_grad
    assert holder.to("meta").encoder is encoder and encoder.device.type == "meta"


def test_its_weights_are_in_its_own_state_dict_and_not_in_that_of_a_module_around_it(encoder):
    holder = Holder(encoder)
    own = encoder.state_dict()
    assert {k.removeprefix("model.") for k in own} == set(encoder.model.state_dict())
    assert encoder.load_state_dict(own).missing_keys == []
    with pytest.raises(RuntimeError, match="Missing key"):
        encoder.load_state_dict({k: v for k, v in own.items() if "final" not in k})
    state = {k: torch.full_like(v, 3.0) for k, v in holder.state_dict().items()}
    assert set(state) == {"layer.weight", "layer.bias"}
    kept = {k: v.clone() for k, v in own.items()}
    holder.load_state_dict(state)  # strict
    assert (holder.layer.weight == 3).all()
    assert all(torch.equal(encoder.state_dict()[k], v) for k, v in kept.items())
    with pytest.raises(RuntimeError, match="Missing key"):
        holder.load_state_dict({"layer.weight": state["layer.weight"]})


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
    assert other.fits(other.fingerprint) and other.fits("") and not other.fits(encoder.fingerprint)
    config.aligned = {"fingerprint": other.fingerprint, "to": [encoder.fingerprint]}
    config.save_pretrained(tmp_path)
    aligned = TextEncoder(tmp_path)
    assert aligned.fits(encoder.fingerprint) and not aligned.fits("0123456789abcdef")
    T5EncoderModel(aligned.model.config).save_pretrained(
        tmp_path
    )  # other weights, with that config
    assert not TextEncoder(tmp_path).fits(encoder.fingerprint)


def test_a_missing_encoder_is_a_sentence(tmp_path):
    with pytest.raises(ValueError, match="no text encoder could be read"):
        TextEncoder(tmp_path)


def pooled(encoder, texts):
    states, mask = encoder(texts)
    return states.sum(dim=1) / mask.sum(dim=1, keepdim=True)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_synonym_is_nearest_to_its_object(encoder, language):
    """Of all objects' names, by pooled and centred states. The bar is 80 %."""
    rows = list(objects().values())
    names = pooled(encoder, [row[language] for row in rows])
    words, answers = [], []
    for i, row in enumerate(rows):
        words += row["synonyms"][language]
        answers += [i] * len(row["synonyms"][language])
    centre = names.mean(dim=0)
    near = (
        functional.normalize(pooled(encoder, words) - centre, dim=1)
        @ functional.normalize(names - centre, dim=1).T
    )
    right = (near.argmax(dim=1) == torch.tensor(answers)).float().mean()
    print(f"{language}: {right:.1%} of {len(words)}")
    assert right >= 0.8


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_linear_probe_reads_what_is_on_the_left(encoder, language):
    """From the states of a noun's own tokens; no ordered pair is in both halves. The bar is 95 %."""
    scenes = Scenes(split="all", vocabulary="starter", languages=(language,))
    states, truth, part = [], [], []
    i = 0
    while len(truth) < 1600:
        scene, asked, text, _ = scenes.describe(i)
        i += 1
        if asked.arrangement != "row":
            continue
        tokens = encoder.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        encoded = encoder([text])[0][0]
        for k, thing in enumerate(asked.things):
            start = text.index(objects()[thing.key][language])
            end = start + len(objects()[thing.key][language])
            inside = [t for t, (a, b) in enumerate(tokens) if a < end and b > start and b > a]
            states.append(encoded[inside].mean(dim=0))
            truth.append(float(k == 0))
            pair = " ".join(sorted(t.key for t in asked.things))
            part.append(zlib.crc32(pair.encode()) % 2)
    x, y, half = torch.stack(states), torch.tensor(truth), torch.tensor(part).bool()
    probe = torch.nn.Linear(encoder.width, 1)
    optimizer = torch.optim.LBFGS(probe.parameters(), max_iter=60)

    def loss():
        optimizer.zero_grad()
        fit = functional.binary_cross_entropy_with_logits(probe(x[half])[:, 0], y[half])
        (fit + 1e-3 * probe.weight.square().sum()).backward()
        return fit

    optimizer.step(loss)
    right = ((probe(x[~half])[:, 0] > 0) == y[~half].bool()).float().mean()
    print(f"{language}: {right:.1%}")
    assert right >= 0.95


def test_a_t5_layer_by_hand(encoder):
    """RMS norm, attention without scaling but with a bias for distance, then a gated GELU."""
    tokens = encoder.tokenizer(["a red car to the left of two dogs"], return_tensors="pt")
    w = {k.removeprefix("encoder.block.0."): v for k, v in encoder.model.state_dict().items()}
    with torch.no_grad():
        theirs = encoder.model(**tokens, output_hidden_states=True).hidden_states
        x = encoder.model.shared.weight[tokens["input_ids"][0]]  # (L, D)

        def rms(z, gain):
            return z * torch.rsqrt(z.square().mean(dim=-1, keepdim=True) + 1e-6) * gain

        heads = encoder.model.config.num_heads
        z = rms(x, w["layer.0.layer_norm.weight"])
        q, k, v = (
            (z @ w[f"layer.0.SelfAttention.{n}.weight"].T).unflatten(1, (heads, -1)).transpose(0, 1)
            for n in "qkv"
        )  # (heads, L, width of a head)
        far = torch.arange(len(x))[None] - torch.arange(len(x))[:, None]  # key minus query
        bucket = far.abs().clamp(max=7) + 16 * (far > 0)
        long = far.abs() >= 8  # from 8 on, buckets grow with the logarithm, up to 128
        wide = 8 + (far.abs().clamp(min=1) / 8).log() / math.log(16) * 8
        bucket = torch.where(long, wide.long().clamp(max=15) + 16 * (far > 0), bucket)
        bias = w["layer.0.SelfAttention.relative_attention_bias.weight"][bucket].permute(2, 0, 1)
        mixed = ((q @ k.transpose(1, 2) + bias).softmax(dim=-1) @ v).transpose(0, 1).flatten(1)
        x = x + mixed @ w["layer.0.SelfAttention.o.weight"].T
        z = rms(x, w["layer.1.layer_norm.weight"])
        gate = functional.gelu(z @ w["layer.1.DenseReluDense.wi_0.weight"].T, approximate="tanh")
        x = (
            x
            + (gate * (z @ w["layer.1.DenseReluDense.wi_1.weight"].T))
            @ w["layer.1.DenseReluDense.wo.weight"].T
        )
    torch.testing.assert_close(x, theirs[1][0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 0.5])
def test_the_noise_on_texts_by_numbers(exponent):
    """σ = max · u^p has the mean max / (1 + p); the noise is standard normal, and of each text its own."""
    sigma, noise = draw_text_noise(4000, 2, 0.6, torch.Generator().manual_seed(0), exponent)
    assert sigma.shape == (4000, 1, 1) and noise.shape == (4000, MAX_TOKENS, 2)
    assert 0 <= sigma.min() and 0.59 < sigma.max() <= 0.6
    assert sigma.mean().item() == pytest.approx(0.6 / (1 + exponent), abs=0.01)
    assert noise.mean().abs() < 0.01 and noise.std().item() == pytest.approx(1, abs=0.01)
    assert not torch.equal(noise[0], noise[1])


def test_the_cache_forgets_what_was_asked_for_longest_ago():
    encoder = TextEncoder(cache_size=2)
    for texts in (["a cat"], ["a dog"], ["a cat"], ["a pig"]):
        encoder(texts)
    assert list(encoder._cache) == ["a cat", "a pig"]
    states, mask = encoder(["a dog", "a car", "a bus"])  # more than it holds
    assert states.shape[0] == 3 and len(encoder._cache) == 2
    again = TextEncoder(cache_size=0)(["a dog", "a car", "a bus"])
    assert torch.equal(mask, again[1]) and (states - again[0]).abs().max() < 2e-3


def test_the_form_of_a_text():
    """Accents are composed, white space is one space; but a letter that only looks like another stays itself."""
    assert normalized("  e\u0301 \t\u3000cat\n") == "é cat"
    assert normalized("ｃａｔ ① ﬁ ²") == "ｃａｔ ① ﬁ ²"
    assert normalized("a\u200b\ufeffb\u00adc") == "abc"
    for odd in ("\x00", "\x7f", "\ud800"):
        with pytest.raises(UserError, match=f"holds U\\+{ord(odd):04X}, which is no text"):
            normalized(f"a {odd} cat")


def test_a_text_of_64_tokens_is_read_whole_and_one_of_65_is_not(encoder):
    for words, told in ((63, False), (64, True)):  # each is a token, and one more ends them
        text = " ".join(["cat"] * words)
        assert len(encoder.tokenizer(text).input_ids) == words + 1
        assert any("too long" in sentence for sentence in encoder.check(text)) == told


def test_a_text_is_cut_at_sixty_four_tokens(encoder):
    long = " ".join(["a cat and a dog on the grass"] * 20)
    for reader in (encoder, TextEncoder(cache_size=0)):
        states, mask = reader([long, "a cat"])
        assert states.shape[:2] == (2, 64) and mask[0].all() and 2 <= mask[1].sum() <= 4
