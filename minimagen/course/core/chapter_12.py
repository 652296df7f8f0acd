"""Chapter 12: can I steer it. These stay in their notebook: the finished system draws from words alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .base import Core, Draw, same
from .chapter_01 import q_sample
from .given import alpha_sigma, append_dims, cosine_log_snr, linear_log_snr


def sdedit_start(x_0, strength, steps, schedule, eps):
    """Where SDEdit begins (Meng et al. 2022, alg. 1): a picture as noisy as the time `strength`, and what follows.

    x_0, eps (B, C, H, W); strength in (0, 1]; schedule: times → log-SNR. Returns x_t (B, C, H, W) at t = strength,
    made by q_sample, and log_snrs (steps + 1,): the schedule at times evenly spaced from strength to 0.
    """
    log_snrs = schedule(strength * torch.linspace(1, 0, steps + 1))
    return q_sample(x_0, log_snrs[:1].expand(len(x_0)), eps), log_snrs


def keep_outside(x_s, x_0, mask, log_snr, eps):
    """One step of inpainting (RePaint, Lugmayr et al. 2022, eq. 8): outside the mask, the given picture comes back.

    x_s: what the sampler made; x_0: the given picture; eps; and the result: all (B, C, H, W). mask (B, 1, H, W): 1
    where it is drawn anew, 0 outside. log_snr () of x_s: the given picture must be as noisy as x_s.
    """
    alpha, sigma = alpha_sigma(log_snr)
    return mask * x_s + (1 - mask) * (alpha * x_0 + sigma * eps)


def slerp(a, b, share):
    """Between two noises on an arc (Shoemake 1985): sin((1 − s) θ) / sin θ · a + sin(s θ) / sin θ · b.

    a, b and the result (B, C, H, W); share (B,) in [0, 1], one number a picture; θ (B,) is the angle between a and
    b, each picture flattened to one long vector: cos θ = a · b / (|a| |b|).
    """
    cos = F.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)  # (B,)
    theta = cos.acos()
    first, second = (
        torch.sin((1 - share) * theta) / theta.sin(),
        torch.sin(share * theta) / theta.sin(),
    )
    return append_dims(first, a) * a + append_dims(second, b) * b


class LowRank(nn.Module):
    """A light adapter beside a linear layer (LoRA, Hu et al. 2021, eq. 3): y = layer(x) + up(down(x)).

    layer: an nn.Linear, kept as self.layer, frozen (requires_grad False). down: nn.Linear to `rank` numbers, up:
    nn.Linear back to the layer's outputs, both without bias; up begins at zero, so that at first nothing changes.
    x (…, layer.in_features) → (…, layer.out_features).
    """

    def __init__(self, layer, rank=4):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


def _start_with(times=lambda s, n: s * torch.linspace(1, 0, n + 1), level=0, mix=q_sample):
    def wrong(x_0, strength, steps, schedule, eps):
        log_snrs = schedule(times(strength, steps))
        return mix(x_0, log_snrs[[level]].expand(len(x_0)), eps), log_snrs

    return wrong


def _start_apart(times, turned=False):
    """The picture as noisy as it must be, and other times behind it."""

    def wrong(x_0, strength, steps, schedule, eps):
        at = schedule(torch.tensor([strength])).expand(len(x_0))
        log_snrs = schedule(times(strength, steps))
        return q_sample(x_0, at, eps), log_snrs.flip(0) if turned else log_snrs

    return wrong


def _start_plainly(x_0, strength, steps, schedule, eps):
    log_snrs = torch.stack(
        [schedule(torch.tensor(strength * (1 - k / steps))) for k in range(steps + 1)]
    )
    signal = torch.sigmoid(log_snrs[0].double())
    return signal.sqrt() * x_0 + (1 - signal).sqrt() * eps, log_snrs


def _cases_of_start(d):
    made = []
    for schedule in (cosine_log_snr, linear_log_snr):
        B, n = d.size(2, 4), d.size(3, 6)
        shape = (B, 3, n, n + 1)
        strength = round(float(d.uniform(0.2, 0.9, 1)), 3)
        made.append((d.picture(*shape), strength, d.size(3, 9), schedule, d.normal(*shape)))
    return made


def _keep_plainly(x_s, x_0, mask, log_snr, eps):
    signal = torch.sigmoid(log_snr.double())
    known = signal.sqrt() * x_0 + (1 - signal).sqrt() * eps
    return torch.where(mask.bool(), x_s.double(), known)


def _keep_with(mix, known=lambda x_0, a, s, eps: a * x_0 + s * eps):
    def wrong(x_s, x_0, mask, log_snr, eps):
        return mix(x_s, known(x_0, *alpha_sigma(log_snr), eps), mask)

    return wrong


def _inside(x_s, known, mask):
    return mask * x_s + (1 - mask) * known


def _cases_of_keep(d):
    made = []
    for _ in range(3):
        B, n = d.size(2, 4), d.size(4, 7)
        shape = (B, 3, n, n + 1)
        mask = (d.uniform(0, 1, B, 1, *shape[2:]) > 0.5).float()
        made.append(
            (d.normal(*shape), d.picture(*shape), mask, 4 * d.normal(1)[0], d.normal(*shape))
        )
    return made


def _arc(a, b, share):
    """Turn a towards b in the plane of both, while the length goes as the formula says: by orthogonal axes."""
    rows = []
    for x, y, s in zip(a.flatten(1).double(), b.flatten(1).double(), share.double(), strict=True):
        u, v = x / x.norm(), y / y.norm()
        w = v - (u @ v) * u
        theta = torch.atan2(w.norm(), u @ v)
        rows.append((torch.sin((1 - s) * theta) * x + torch.sin(s * theta) * y) / theta.sin())
    return torch.stack(rows).reshape(a.shape)


def _slerp_with(angle=None, order=lambda s: (1 - s, s), divide=True):
    def of(a, b):
        return F.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).acos()

    def wrong(a, b, share):
        theta = (angle or of)(a, b)
        first, second = (
            torch.sin(z * theta) / (theta.sin() if divide else 1) for z in order(share)
        )
        return append_dims(first, a) * a + append_dims(second, b) * b

    return wrong


def _whole_batch(a, b):
    return F.cosine_similarity(a.flatten(), b.flatten(), dim=0).acos().expand(len(a))


def _unscaled(a, b):
    """The product without the lengths, cut to what acos takes."""
    return (a * b).flatten(1).mean(1).clamp(-1, 1).acos()


def _line(a, b, share):
    return torch.lerp(a, b, append_dims(share, a))


def _cases_of_slerp(d):
    made = []
    for size in (0.6, 1.0, 1.7):
        B, n = d.size(2, 4), d.size(2, 4)
        a = d.normal(B, 3, n, n + 1)
        made.append((a, size * d.normal(B, 3, n, n + 1) + 0.5 * a, d.uniform(0.1, 0.45, B)))
    return made


def _check_low_rank(block):
    draw = Draw(*torch.randint(2**40, (2,)).tolist())
    for rank, bias in ((4, True), (draw.size(2, 6), False)):
        c_in, c_out, B = draw.sizes(7, 15, 3)
        layer = draw.layer(nn.Linear(c_in, c_out, bias=bias)).requires_grad_(True)
        own = block(layer, rank)
        for name, shape in (("down", (rank, c_in)), ("up", (c_out, rank))):
            made = getattr(own, name, None)
            if not isinstance(made, nn.Linear):
                return f"the layer {name!r} is missing: it is an nn.Linear"
            if tuple(made.weight.shape) != shape:
                return (
                    f"{name}.weight has the shape {tuple(made.weight.shape)}, it should be {shape}"
                )
            if made.bias is not None:
                return f"{name} has a bias: say bias=False"
        if getattr(own, "layer", None) is not layer:
            return "the layer that came in must be kept, as self.layer"
        if any(p.requires_grad for p in layer.parameters()):
            return "the layer is not frozen: layer.requires_grad_(False)"
        if not all(p.requires_grad for p in (own.down.weight, own.up.weight)):
            return "down and up are frozen: they are what learns"
        if own.up.weight.abs().max() > 0:
            return "up must begin at zero, so that at first nothing changes"
        if own.down.weight.abs().max() == 0:
            return "down begins at zero too: then neither ever gets a gradient"
        own.up.weight.data = draw.normal(c_out, rank)
        x = draw.normal(B, 5, c_in)
        low = x @ own.down.weight.T
        wanted = x @ layer.weight.T + (layer.bias if bias else 0)
        with torch.no_grad():
            given = own(x.clone())
            if given is None:
                return "forward returns nothing yet: end it with return"
            if same(given, wanted + low @ own.up.weight.T):
                continue
            if same(given, low @ own.up.weight.T):
                return "the layer itself is missing from the sum"
            if same(given, wanted):
                return "the adapter is missing from the sum"
        if given.shape != wanted.shape:
            return f"the shape is {tuple(given.shape)}, it should be {tuple(wanted.shape)}"
        return "the result is layer(x) + up(down(x))"
    return None


def _low_rank_with(change=lambda self: None, forward=None):
    class Wrong(LowRank):
        def __init__(self, layer, rank=4):
            super().__init__(layer, rank)
            change(self)

        def forward(self, x):
            return forward(self, x) if forward else super().forward(x)

    return Wrong


CORE = (
    Core(
        12,
        sdedit_start,
        hints=(
            "Times from strength to 0 are strength times the times from 1 to 0. Give them to the schedule.",
            "<code>log_snrs = schedule(strength * torch.linspace(1, 0, steps + 1))</code>. q_sample wants one log-SNR a "
            "picture: the first of these, expanded to (B,).",
        ),
        cases=_cases_of_start,
        oracle=_start_plainly,
        mistakes={
            "the times begin at 1, whatever the strength": (
                _start_with(lambda s, n: torch.linspace(1, 0, n + 1)),
                _start_apart(lambda s, n: torch.linspace(1, 0, n + 1))),
            "the times end before 0: they are steps + 1": _start_with(lambda s, n: s * torch.linspace(1, 0, n + 1)[:-1]),
            "there are steps times: steps + 1 are asked for, from strength to 0":
                _start_with(lambda s, n: s * torch.linspace(1, 0, n)),
            "the times rise: they go from strength down to 0": (
                _start_with(lambda s, n: s * torch.linspace(0, 1, n + 1)),
                _start_with(lambda s, n: s * torch.linspace(0, 1, n + 1), level=-1),
                _start_apart(lambda s, n: s * torch.linspace(0, 1, n + 1)),
                _start_with(lambda s, n: torch.linspace(0, 1, n + 1)),
                _start_with(lambda s, n: torch.linspace(0, 1, n + 1), level=-1)),
            "the times go from 1 to strength: they go from strength to 0": (
                _start_with(lambda s, n: torch.linspace(1, s, n + 1)),
                _start_apart(lambda s, n: torch.linspace(1, s, n + 1))),
            "the times go from strength to 1, into the noise: they go down to 0":
                _start_with(lambda s, n: torch.linspace(s, 1, n + 1)),
            "the picture is as noisy as a later time: it must be the first": (
                _start_with(level=-1), _start_with(level=-2), _start_with(level=1)),
            "the picture has no noise: q_sample adds it": _start_with(mix=lambda x_0, log_snr, eps: x_0),
            "strength is taken for its complement: little strength is little noise":
                _start_with(lambda s, n: (1 - s) * torch.linspace(1, 0, n + 1)),
        },
        errors={"size of tensor|must match|broadcast": "q_sample wants a log-SNR (B,): log_snrs[:1].expand(len(x_0))"},
        uses=("q_sample",),
        in_file=False,
    ),
    Core(
        12,
        keep_outside,
        hints=(
            "First make the given picture as noisy as x_s. Then put the two together by the mask.",
            "<code>alpha_sigma(log_snr)</code> gives the two factors of the noisy picture. The mask is 1 where "
            "<code>x_s</code> stays.",
        ),
        cases=_cases_of_keep,
        oracle=_keep_plainly,
        mistakes={
            "inside and outside are swapped: 1 in the mask is drawn anew": _keep_with(lambda x, k, m: m * k + (1 - m) * x),
            "the given picture comes back without noise: it must be as noisy as x_s":
                _keep_with(_inside, lambda x_0, a, s, eps: x_0),
            "the noise of the given picture is missing": _keep_with(_inside, lambda x_0, a, s, eps: a * x_0),
            "α and σ are swapped": _keep_with(_inside, lambda x_0, a, s, eps: s * x_0 + a * eps),
            "the two are added up everywhere: the mask is missing": _keep_with(lambda x, k, m: x + k),
            "the noisy picture is added to x_s instead of taking its place": _keep_with(lambda x, k, m: x + (1 - m) * k),
        },
        in_file=False,
    ),
    Core(
        12,
        slerp,
        hints=(
            "Flatten each picture: <code>flatten(1)</code>. The cosine of the angle gives the angle by acos.",
            "<code>F.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).acos()</code> is θ, (B,). The two factors are "
            "(B,) too: append_dims(factor, a) makes them broadcast.",
        ),
        cases=_cases_of_slerp,
        oracle=_arc,
        mistakes={
            "this is the straight line: it leaves noise too weak between": _line,
            "a and b are swapped: share 0 is a": _slerp_with(order=lambda s: (s, 1 - s)),
            "the division by sin θ is missing": _slerp_with(divide=False),
            "all pictures share one angle: each has its own": _slerp_with(_whole_batch),
            "the cosine is not divided by the two lengths": _slerp_with(_unscaled),
            "the angle is a right angle for all: take it from a and b":
                _slerp_with(lambda a, b: torch.full((len(a),), torch.pi / 2)),
        },
        errors={"size of tensor|must match": "the factors (B,) must become (B, 1, 1, 1): append_dims(factor, a)"},
        in_file=False,
    ),
    Core(
        12,
        LowRank,
        hints=(
            "Three layers: the one that came in, frozen; one from its inputs to rank numbers; one from there to its "
            "outputs, whose weights you set to zero.",
            "<code>self.down = nn.Linear(layer.in_features, rank, bias=False)</code>, and "
            "<code>nn.init.zeros_(self.up.weight)</code>. requires_grad_(False) freezes a layer and returns it.",
        ),
        check=_check_low_rank,
        mistakes={
            "up must begin at zero": _low_rank_with(lambda z: nn.init.normal_(z.up.weight)),
            "down begins at zero too": _low_rank_with(lambda z: nn.init.zeros_(z.down.weight)),
            "the layer is not frozen": _low_rank_with(lambda z: z.layer.requires_grad_(True)),
            "the layer itself is missing from the sum": _low_rank_with(forward=lambda z, x: z.up(z.down(x))),
            "the adapter is missing from the sum": _low_rank_with(forward=lambda z, x: z.layer(x)),
            "down and up are frozen": _low_rank_with(lambda z: z.requires_grad_(False)),
        },
        in_file=False,
    ),
)  # fmt: skip
