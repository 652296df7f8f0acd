"""The U-Nets: shapes, what they may see, what a fresh one does, and that each can learn one batch."""

from dataclasses import replace

import pytest
import torch

from minimagen.imagen import DEFAULTS, Stage
from minimagen.unet import PRESETS, Attention, AttentionPool, UNet, UNetConfig, parameters

SMALL = UNetConfig(
    widths=(16, 32), blocks=(1, 1), attention=("", "self"), text_width=8, embedding=32
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
    assert parameters(net) <= {"base": 6e6, "sr64": 4e6, "sr256": 2e6}[name]
    x, log_snr, text, mask, low = inputs(config, 32)
    with torch.no_grad():
        assert net(x, log_snr, text, mask, **low).shape == x.shape


def test_the_last_stage_has_cross_attention_only_and_runs_whole():
    assert set(PRESETS["sr256"].attention) == {"", "cross"}
    assert "self" in PRESETS["base"].attention


@pytest.mark.parametrize("efficient", [False, True])
def test_padding_and_neighbours_never_change_a_result(efficient):
    config = replace(SMALL, efficient=efficient, attention=("cross", "self"), head=16)
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
            other[1, token] += 1
            assert not torch.allclose(base[1], net(x, log_snr, other, mask)[1])


def test_attention_pooling_is_no_mean_over_padding():
    pool = AttentionPool(8, 16)
    text, mask = torch.randn(1, 4, 8), torch.tensor([[True, True, False, False]])
    torch.testing.assert_close(pool(text, mask), pool(text[:, :2], mask[:, :2]))


def test_text_joins_the_keys_and_values_of_the_pixels():
    """With no text to see, "self" is plain self-attention over the pixels, by hand."""
    layer = Attention(32, 8, 16, "self", 1.0)
    torch.nn.init.normal_(layer.out.weight)
    x, nothing = torch.randn(1, 32, 4, 4), torch.zeros(1, 3, dtype=torch.bool)
    got = layer(x, torch.randn(1, 3, 8), nothing)
    z = layer.norm(x).flatten(2).transpose(1, 2)
    q, (k, v) = layer.to_q(z), layer.to_kv(z).chunk(2, dim=-1)
    heads = []
    for h in range(2):
        s = slice(16 * h, 16 * h + 16)
        heads.append(((q[..., s] @ k[..., s].transpose(1, 2)) / 4).softmax(-1) @ v[..., s])
    expected = x + layer.out(torch.cat(heads, -1)).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_efficient_unet_strides_in_every_dblock_and_adm_in_all_but_the_first():
    first = [b.down.stride[0] for b in UNet(SMALL).down]
    efficient = [b.down.stride[0] for b in UNet(replace(SMALL, efficient=True)).down]
    assert first == [1, 2] and efficient == [2, 2]


def test_a_wrong_config_is_a_sentence():
    with pytest.raises(ValueError, match="one entry a level"):
        UNetConfig(widths=(16, 32), blocks=(1,), attention=("", ""))
    with pytest.raises(ValueError, match="attention is"):
        UNetConfig(attention=("", "own", "self"))
    config = replace(SMALL, low_res=True)
    x, log_snr, text, mask, _ = inputs(config, 16)
    with pytest.raises(ValueError, match="low_res"):
        UNet(config)(x, log_snr, text, mask)


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("target", ["eps", "x_0", "v"])
def test_one_batch_drives_the_loss_down(name, target):
    """Each kind of stage learns one picture by heart, whatever it predicts."""
    torch.manual_seed(0)
    config = DEFAULTS[name]
    efficient = config.unet.efficient
    unet = replace(SMALL, efficient=efficient, low_res=config.unet.low_res)
    stage = Stage(replace(config, unet=unet, target=target, caption_drop=0.0, crop=None))
    x_0 = torch.randn(1, 3, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3).clamp(-1, 1)
    x_0 = x_0.expand(16, -1, -1, -1)
    text, mask = torch.randn(1, 5, 8).expand(16, -1, -1), torch.ones(16, 5, dtype=torch.bool)
    optimizer = torch.optim.Adam(stage.parameters(), lr=3e-3)

    def loss():
        return stage(x_0, text, mask, torch.Generator().manual_seed(int(step)))

    losses = []
    for step in range(150):  # noqa: B007 - loss() reads it
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert sum(losses[-20:]) < 0.25 * sum(losses[:5]) * 4
