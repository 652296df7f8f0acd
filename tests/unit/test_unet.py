"""The U-Nets: shapes, what they may see, what a fresh one does, and that each can learn one batch."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from minimagen.stage import DEFAULTS, Stage
from minimagen.unet import (
    PRESETS,
    Attention,
    AttentionPool,
    NoiseLevelEmbedding,
    ResBlock,
    UNet,
    UNetConfig,
    group_norm,
    num_parameters,
)

SMALL = UNetConfig(
    channels=(16, 32), blocks=(1, 1), attention=("", "self"), text_width=8, embedding=32
)


def inputs(config, side, B=2):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(B, 3, side, side, generator=g)
    text = torch.randn(B, 5, config.text_width, generator=g)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()[:B]
    low = {"low_res": x, "low_res_log_snr": torch.zeros(B)} if config.low_res else {}
    return x, torch.zeros(B), text, mask, low


def stirred(config):
    """A U-Net whose zero-initialised layers are not zero, so that everything shows."""
    torch.manual_seed(0)
    net = UNet(config).eval()
    for p in net.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.05)
    return net


@pytest.mark.parametrize("name", PRESETS)
def test_shape_and_size_limit(name):
    config = PRESETS[name]
    net = UNet(config)
    assert num_parameters(net) <= {"base": 6e6, "sr64": 4e6, "sr256": 2e6}[name]
    x, log_snr, text, mask, low = inputs(config, 32)
    with torch.no_grad():
        assert net(x, log_snr, text, mask, **low).shape == x.shape


@pytest.mark.parametrize(
    "name, side, kind, sides",
    [("base", 16, "self", {8, 4}), ("sr64", 64, "self", {8}), ("sr256", 256, "cross", {32})],
)
def test_where_each_stage_attends_and_that_it_runs_whole(name, side, kind, sides):
    """Keys and values of text joined at the coarse levels; in the last stage, text only."""
    net, seen = UNet(PRESETS[name]).eval(), set()
    for module in net.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda m, given, _: seen.add((m.kind, given[0].shape[-1])))
    x, log_snr = torch.randn(1, 3, side, side), torch.zeros(1)
    low = (x, log_snr) if net.config.low_res else ()
    with torch.no_grad():
        out = net(x, log_snr, torch.randn(1, 3, 256), torch.ones(1, 3, dtype=torch.bool), *low)
    assert out.shape == x.shape and seen == {(kind, s) for s in sides}


@pytest.mark.parametrize("efficient", [False, True])
def test_padding_and_neighbours_never_change_a_result(efficient):
    config = replace(SMALL, efficient=efficient, attention=("cross", "self"), head_dim=16)
    net = stirred(config)
    x, log_snr, text, mask, _ = inputs(config, 16)
    with torch.no_grad():
        both = net(x, log_snr, text, mask)
        alone = net(x[:1], log_snr[:1], text[:1, :3], mask[:1, :3])
        text[0, 3:] = 99.0
        padded = net(x, log_snr, text, mask)
    torch.testing.assert_close(both[:1], alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(both, padded)


def test_every_token_and_the_time_matter():
    net = stirred(SMALL)
    x, log_snr, text, mask, _ = inputs(SMALL, 16)
    with torch.no_grad():
        base = net(x, log_snr, text, mask)
        assert not torch.allclose(base, net(x, log_snr + 1, text, mask))
        for token in range(5):
            other = text.clone()
            other[1, token, ::2] += 1  # not all alike: a layer norm does not see that
            assert not torch.allclose(base[1], net(x, log_snr, other, mask)[1])


def test_attention_pooling_is_no_mean_over_padding():
    pool = AttentionPool(8, 16)
    text, mask = torch.randn(1, 4, 8), torch.tensor([[True, True, False, False]])
    torch.testing.assert_close(pool(text, mask), pool(text[:, :2], mask[:, :2]))


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_attention_by_hand(kind):
    """Text joins the keys and values of the pixels ("self"), or stands for them ("cross"); none of padding."""
    layer = Attention(32, 8, 16, kind, 0.5)
    torch.nn.init.normal_(layer.out.weight)
    x, text, mask = torch.randn(1, 32, 4, 4), torch.randn(1, 5, 8), torch.arange(5)[None] < 3
    z = layer.norm(x).flatten(2).transpose(1, 2)
    kv = layer.text_kv(layer.text_norm(text[:, :3]))
    if kind == "self":
        kv = torch.cat([layer.to_kv(z), kv], dim=1)
    q, (k, v), heads = layer.to_q(z), kv.chunk(2, dim=-1), []
    for h in range(2):
        s = slice(16 * h, 16 * h + 16)
        heads.append(((q[..., s] @ k[..., s].transpose(1, 2)) / 4).softmax(-1) @ v[..., s])
    expected = x + layer.out(torch.cat(heads, -1)).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(layer(x, text, mask), expected / 2, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_in_closed_form(name):
    """Counted from the config alone, as one would with the paper's figures and a pencil."""
    c = PRESETS[name]
    E, T, bottom = c.embedding, c.text_width, len(c.channels) - 1

    def conv(i, o, k):
        return i * o * k * k + o

    def linear(i, o):
        return i * o + o

    def block(i, o):
        modulate = 0 if c.efficient else linear(E, 2 * o)
        skip = conv(i, o, 1) if i != o else 0
        return 2 * i + conv(i, o, 3) + 2 * o + conv(o, o, 3) + modulate + skip

    def level(c_in, i):
        w, kind = c.channels[i], c.attention[i]
        total = linear(E, c_in) if c.efficient else 0
        total += block(c_in, w) + (c.blocks[i] - 1) * block(w, w)
        if kind:  # norms, q, k and v of the text, output; and k and v of the pixels
            total += 2 * w + 2 * T + w * w + T * 2 * w + linear(w, w)
            total += w * 2 * w if kind == "self" else 0
        return total

    total = (1 + c.low_res) * (linear(64, E) + linear(E, E))  # of the time, and of the noise level
    total += 2 * T + linear(T, 8) + linear(T, 8 * 32) + linear(8 * 32, E)  # attention pooling
    total += conv(6 if c.low_res else 3, c.channels[0], 3)  # the stem
    total += conv(2 * c.channels[0], c.channels[0], 3) + conv(c.channels[0], 3, 3)  # the way out
    for i, w in enumerate(c.channels):
        finer, stride = c.channels[max(i - 1, 0)], 2 if c.efficient or i else 1
        total += conv(finer, w, 3) + level(w, i)  # DBlock
        total += level(w if i == bottom else 2 * w, i) + conv(w, finer * stride**2, 1)  # UBlock
    assert num_parameters(UNet(c)) == total


def test_the_residual_sum_is_scaled():
    """A fresh block adds nothing to its skip, so that what it gives is x / √2 (SR3, score-SDE)."""
    x, emb = torch.randn(2, 16, 4, 4), torch.randn(2, 32)
    block = ResBlock(16, 16, 32, UNetConfig().skip_scale)
    torch.testing.assert_close(block(x, emb), x / 2**0.5)
    text, mask = torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
    attention = Attention(16, 8, 16, "self", UNetConfig().skip_scale)
    torch.testing.assert_close(attention(x, text, mask), x / 2**0.5)


@pytest.mark.parametrize("efficient", [False, True])
def test_text_is_normalised_wherever_it_enters(efficient):
    """LayerNorm on the text in attention pooling and in attention: its scale and offset say nothing."""
    net = stirred(replace(SMALL, attention=("cross", "self"), head_dim=16, efficient=efficient))
    x, log_snr, text, mask, _ = inputs(SMALL, 16)
    with torch.no_grad():
        same = net(x, log_snr, 7 * text + 3, mask)
        torch.testing.assert_close(same, net(x, log_snr, text, mask), atol=1e-3, rtol=1e-3)


def test_the_pooled_text_is_added_to_the_time():
    net = stirred(replace(SMALL, attention=("", "")))
    x, log_snr, text, mask, _ = inputs(SMALL, 16)
    with torch.no_grad():
        moved = net.pool(text, mask) + net.time(log_snr)
        expected = net(x, log_snr, text, mask)
        net.time.forward = lambda log_snr: moved
        net.pool.forward = lambda text, mask: torch.zeros_like(moved)
        assert torch.equal(net(x, log_snr, text, mask), expected)


def test_the_order_inside_the_blocks_of_an_efficient_unet():
    """Strided convolution, embeddings, residual blocks, attention; a UBlock ends with its upsample."""
    net, order = stirred(replace(SMALL, efficient=True, attention=("", "self"))), []
    for side in ("down", "up"):
        block = getattr(net, side)[1 if side == "down" else 0]
        for name, part in block.named_children():
            part = part[0] if isinstance(part, torch.nn.ModuleList) else part
            part.register_forward_hook(lambda *_, at=f"{side}.{name}": order.append(at))
    x, log_snr, text, mask, _ = inputs(SMALL, 16)
    with torch.no_grad():
        net(x, log_snr, text, mask)
    assert order == [
        *("down.down", "down.combine", "down.blocks", "down.attention"),
        *("up.combine", "up.blocks", "up.attention", "up.up"),
    ]
    for name in ("sr64", "sr256"):
        assert PRESETS[name].efficient and list(PRESETS[name].blocks) == sorted(
            PRESETS[name].blocks
        )
        assert PRESETS[name].blocks[-1] > PRESETS[name].blocks[0], "most blocks at low resolution"


def test_the_low_res_picture_and_its_noise_level_matter():
    config = replace(SMALL, efficient=True, low_res=True)
    net = stirred(config)
    x, log_snr, text, mask, low = inputs(config, 16)
    with torch.no_grad():
        base = net(x, log_snr, text, mask, **low)
        for name in low:
            assert not torch.allclose(
                base, net(x, log_snr, text, mask, **{**low, name: low[name] + 1})
            )


def test_efficient_unet_strides_in_every_dblock_and_adm_in_all_but_the_first():
    first = [b.down.stride[0] for b in UNet(SMALL).down]
    efficient = [b.down.stride[0] for b in UNet(replace(SMALL, efficient=True)).down]
    assert first == [1, 2] and efficient == [2, 2]


def test_a_wrong_config_is_a_sentence():
    with pytest.raises(ValueError, match="one entry for each level"):
        UNetConfig(channels=(16, 32), blocks=(1,), attention=("", ""))
    with pytest.raises(ValueError, match="attention is"):
        UNetConfig(attention=("", "own", "self"))
    config = replace(SMALL, low_res=True)
    x, log_snr, text, mask, _ = inputs(config, 16)
    with pytest.raises(ValueError, match="low_res"):
        UNet(config)(x, log_snr, text, mask)


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("target", ["eps", "x_0", "v"])
def test_one_batch_drives_the_loss_to_zero(name, target):
    """Each kind of stage learns one batch by heart, its noise and times too, whatever it predicts."""
    torch.manual_seed(0)
    config = DEFAULTS[name]
    unet = replace(SMALL, efficient=config.unet.efficient, low_res=config.unet.low_res)
    stage = Stage(replace(config, unet=unet, target=target, caption_drop=0.0, crop=None))
    x_0, text, mask = torch.randn(4, 3, 16, 16).clamp(-1, 1), torch.randn(4, 5, 8), torch.ones(4, 5)
    optimizer, steps, losses = torch.optim.Adam(stage.parameters()), 180, []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * min(1, 2 * (1 - step / steps))
        loss = stage(
            x_0, text, mask.bool(), stage.draw_noise(4, 16, torch.Generator().manual_seed(0))
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.02 * losses[0]


def test_the_rates_of_the_noise_level_embedding():
    """e^-3 … e^3, 32 of them: a log-SNR from −12 to 12 turns the slowest by 1.2 rad, the fastest 77 times."""
    layer = NoiseLevelEmbedding(16)
    expected = [math.exp(-3 + 6 * k / 31) for k in range(32)]
    assert layer.rates.tolist() == pytest.approx(expected, rel=1e-5)
    layer.layers = torch.nn.Identity()
    phase = [2.0 * r for r in expected]
    told = [math.sin(p) for p in phase] + [math.cos(p) for p in phase]
    assert layer(torch.tensor([2.0]))[0].tolist() == pytest.approx(told, abs=1e-4)


def test_group_norm_has_at_most_sixteen_groups():
    assert [group_norm(c).num_groups for c in (16, 24, 32, 48, 96, 192)] == [16, 8, 16, 16, 16, 16]


def test_a_residual_block_by_hand():
    """conv2(SiLU(norm2(conv1(SiLU(norm1(x)))) (1 + scale) + shift)) beside the skip, over √2."""
    torch.manual_seed(0)
    block = ResBlock(16, 32, 8, 2**-0.5)
    torch.nn.init.normal_(block.conv2.weight, std=0.1)
    x, emb = torch.randn(2, 16, 4, 4), torch.randn(2, 8)
    h = block.norm2(block.conv1(F.silu(block.norm1(x))))
    scale, shift = block.modulate(emb).chunk(2, dim=1)
    h = block.conv2(F.silu(h * (1 + scale[:, :, None, None]) + shift[:, :, None, None]))
    torch.testing.assert_close(block(x, emb), (block.skip(x) + h) / 2**0.5)
