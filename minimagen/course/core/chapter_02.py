"""Chapter 02: what the network learns."""

from __future__ import annotations

import torch
from torch import nn

from .base import Core, Draw
from .chapter_01 import q_sample
from .given import alpha_sigma, append_dims, cosine_log_snr, linear_log_snr


def training_target(x_0, eps, log_snr, target="v"):
    """What the network is asked for: "eps" the noise, "x_0" the picture, "v" = α ε − σ x_0 (Salimans & Ho 2022).

    x_0, eps and the result (B, C, H, W); log_snr (B,). α and σ come from alpha_sigma(log_snr), as in q_sample.
    """
    if target == "eps":
        return eps
    if target == "x_0":
        return x_0
    alpha, sigma = alpha_sigma(append_dims(log_snr, x_0))  # (B, 1, 1, 1)
    return alpha * eps - sigma * x_0


def to_x_0(x_t, output, log_snr, target="v"):
    """The picture that a network's output implies, whichever of "eps", "x_0" and "v" it was trained for.

    x_t = α x_0 + σ ε and v = α ε − σ x_0, solved for x_0; nothing is clipped. x_t, output, result (B, C, H, W);
    log_snr (B,).
    """
    if target == "x_0":
        return output
    alpha, sigma = alpha_sigma(append_dims(log_snr, x_t))  # (B, 1, 1, 1)
    if target == "eps":
        return (x_t - sigma * output) / alpha
    return alpha * x_t - sigma * output


def diffusion_loss(network, x_0, t, eps, schedule, target="v"):
    """The squared error of the network's answer, a mean over everything (Imagen eq. 1 with w_t = 1): one number.

    network(x_t, log_snr) answers with what training_target asks for; ours is told the log-SNR in place of t. x_0,
    eps (B, C, H, W); t (B,) in [0, 1]; schedule(t) is the log-SNR (B,). Returns a tensor (), with its gradient.
    """
    log_snr = schedule(t)  # (B,)
    x_t = q_sample(x_0, log_snr, eps)
    asked = training_target(x_0, eps, log_snr, target)
    return (network(x_t, log_snr) - asked).square().mean()


def train_step(network, optimizer, x_0, schedule, target="v"):
    """Ho et al. 2020, algorithm 1, in continuous time: one step of gradient descent on pictures x_0 (B, C, H, W).

    Draws a time from U(0, 1), then noise from N(0, I), for every picture, takes diffusion_loss, and moves the
    network's weights by one step of the optimizer. Returns the loss, a number without a gradient.
    """
    t = torch.rand(len(x_0), device=x_0.device)  # (B,)
    eps = torch.randn_like(x_0)  # (B, C, H, W)
    loss = diffusion_loss(network, x_0, t, eps, schedule, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


class _Network(nn.Module):
    """A network small enough to be checked by hand: three weights; it remembers what it was given."""

    def __init__(self, start: torch.Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(start.clone())
        self.seen: list = []

    def answer(self, x_t, log_snr, weights):
        return weights[0] * x_t + weights[1] * torch.sin(append_dims(log_snr, x_t)) + weights[2]

    def forward(self, x_t, log_snr):
        self.seen.append((x_t.detach().clone(), log_snr.detach().clone()))
        return self.answer(x_t, log_snr, self.weights)

    def __deepcopy__(self, memo):
        return _Network(self.weights.detach())


def _targets(x_0, eps, log_snr, target="v"):
    """By angle: at x_t = cos φ x_0 + sin φ ε, v is the derivative with respect to φ."""
    angle = torch.atan(torch.exp(-log_snr.double() / 2)).reshape(-1, 1, 1, 1)
    v = angle.cos() * eps - angle.sin() * x_0
    return {"eps": eps, "x_0": x_0, "v": v}[target]


def _loss_by_angle(network, x_0, t, eps, schedule, target="v"):
    log_snr = schedule(t)
    angle = torch.atan(torch.exp(-log_snr / 2)).reshape(-1, 1, 1, 1)
    error = network(angle.cos() * x_0 + angle.sin() * eps, log_snr) - _targets(
        x_0, eps, log_snr, target
    )
    return (error**2).flatten().double().mean()


def _check_train_step(function):
    draw = Draw(*torch.randint(2**40, (2,)).tolist())
    for target in ("v", "eps", "x_0"):
        start = draw.normal(3)
        network, B = _Network(start), draw.size(300, 400)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        x_0 = draw.picture(B, 3, 2, draw.size(2, 4))
        weights = start.double().requires_grad_()
        for step in (1, 2):
            loss = function(network, optimizer, x_0, cosine_log_snr, target)
            if loss is None:
                return "it returns nothing yet: end it with return"
            if isinstance(loss, torch.Tensor) and loss.requires_grad:
                return "the loss still has its gradient: return loss.item(), or memory fills up with every step"
            if len(network.seen) != step:
                return f"the network was called {len(network.seen)} times in {step} steps: once a step is enough"
            x_t, log_snr = (z.double() for z in network.seen[-1])
            if sentence := _drawn(x_0.double(), x_t, log_snr):
                return sentence
            alpha, sigma = alpha_sigma(append_dims(log_snr, x_t))
            eps = (x_t - alpha * x_0) / sigma
            error = network.answer(x_t, log_snr, weights) - _targets(x_0, eps, log_snr, target)
            expected = error.square().mean()
            (slope,) = torch.autograd.grad(expected, weights)
            if abs(float(loss) - expected.item()) > 1e-3 * max(1, expected.item()):
                return f"the loss is not the mean squared error on the target {target!r}: use diffusion_loss"
            then, now = weights.detach(), network.weights.detach().double()
            weights = (then - 0.1 * slope).requires_grad_()
            if torch.allclose(now, then, atol=1e-7):
                return "no weight has moved: loss.backward() and optimizer.step() are both needed, in this order"
            if not torch.allclose(now, weights.detach(), atol=1e-3):
                if step == 1:
                    return "the weights did not move by one step down the gradient of the loss"
                return "the second step went too far: gradients add up until optimizer.zero_grad() clears them"
    return None


def _drawn(x_0, x_t, log_snr):
    """Were times and noise drawn as algorithm 1 says?"""
    if log_snr.ndim != 1 or len(log_snr) != len(x_0):
        return "t has one number a picture: its shape is (B,)"
    if log_snr.std() < 1e-6:
        return "every picture of the batch got the same time: draw B of them"
    t = torch.atan(torch.exp(-log_snr / 2)) * 2 / torch.pi
    if abs(t.mean() - 0.5) > 0.12 or t.min() > 0.15 or t.max() < 0.85:
        return "the times are not spread evenly over [0, 1]: torch.rand draws from U(0, 1)"
    alpha, sigma = alpha_sigma(append_dims(log_snr, x_t))
    some = (sigma > 0.2).flatten()  # where there is enough noise to see it
    eps = ((x_t - alpha * x_0) / sigma)[some]
    if eps.std(dim=0).mean() < 0.2 or eps.flatten(1).std(dim=1).mean() < 0.2:
        return "the noise is the same for all: every pixel of every picture has its own"
    if abs(eps.mean()) > 0.3 and eps.min() > -0.1:
        return "the noise is never negative: rand for randn"
    if abs(eps.mean()) > 0.2 or abs(eps.std() - 1) > 0.2:
        return "the noise is not from N(0, I): torch.randn_like(x_0)"
    return None


def _step_with(
    t=lambda x: torch.rand(len(x)), eps=torch.randn_like, clear=True, give=lambda z: z.item()
):
    """train_step with one thing changed."""

    def step(network, optimizer, x_0, schedule, target="v"):
        loss = diffusion_loss(network, x_0, t(x_0), eps(x_0), schedule, target)
        if clear:
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return give(loss)

    return step


def _step_late(network, optimizer, x_0, schedule, target="v"):
    loss = diffusion_loss(
        network, x_0, torch.rand(len(x_0)), torch.randn_like(x_0), schedule, target
    )
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


def _step_other_loss(network, optimizer, x_0, schedule, target="v"):
    return _step_with()(network, optimizer, x_0, schedule, "eps" if target == "v" else target)


def _v_with(change):
    """training_target with another v."""

    def asked(x_0, eps, log_snr, target="v"):
        return _targets(x_0, eps, log_snr, target) if target != "v" else change(
            x_0, eps, *alpha_sigma(append_dims(log_snr, x_0))
        )  # fmt: skip

    return asked


def _x_0_with(eps, v):
    """to_x_0 with another answer for ε and v."""

    def implied(x_t, output, log_snr, target="v"):
        alpha, sigma = alpha_sigma(append_dims(log_snr, x_t))
        ways = {"eps": eps, "v": v, "x_0": lambda x, o, a, s: o}
        return ways[target](x_t, output, alpha, sigma)

    return implied


def _pictures(d):
    B, n = d.size(2, 5), d.size(6, 9)
    return B, (B, 3, n, n + 2)


def _cases_of_target(d):
    made = []
    for target in ("v", "eps", "x_0", "v"):
        B, shape = _pictures(d)
        made.append((d.picture(*shape), d.normal(*shape), d.uniform(-3, 3, B), target))
    return made


def _cases_of_loss(d):
    made = []
    for target, schedule in (
        ("v", cosine_log_snr),
        ("eps", cosine_log_snr),
        ("x_0", linear_log_snr),
    ):
        B, shape = _pictures(d)
        made.append((_Network(d.normal(3)), d.picture(*shape), d.uniform(0.1, 0.9, B), d.normal(*shape),
                     schedule, target))  # fmt: skip
    return made


def _loss_with(
    given=q_sample, told=lambda t, log_snr: log_snr, target=None, end=lambda z: z.square().mean()
):
    def loss(network, x_0, t, eps, schedule, asked="v"):
        log_snr = schedule(t)
        answer = network(given(x_0, log_snr, eps), told(t, log_snr))
        return end(answer - training_target(x_0, eps, log_snr, target or asked))

    return loss


_BROADCAST = {
    "size of tensor|must match|broadcast": "two shapes do not fit: log_snr (B,) has to become (B, 1, 1, 1) before "
    "it can be multiplied with pictures; append_dims does that",
}

CORE = (
    Core(
        2,
        training_target,
        hints=(
            "Two of the three are arguments as they are. For v you need α and σ of each picture.",
            "<code>alpha, sigma = alpha_sigma(append_dims(log_snr, x_0))</code>, then v is the equation in the "
            "docstring, with <code>eps</code> for ε.",
        ),
        cases=_cases_of_target,
        oracle=_targets,
        mistakes={
            "the sign of v is turned round: it is α ε − σ x_0": _v_with(lambda x, e, a, s: s * x - a * e),
            "α and σ are swapped in v: α multiplies the noise": _v_with(lambda x, e, a, s: s * e - a * x),
            "v has a minus: this is x_t, not v": _v_with(lambda x, e, a, s: a * x + s * e),
            "v has a minus: α ε − σ x_0": _v_with(lambda x, e, a, s: a * e + s * x),
            "α² and σ² stand in v where α and σ belong": _v_with(lambda x, e, a, s: a**2 * e - s**2 * x),
            "v is returned whatever `target` asks for: look at it first":
                lambda x, e, snr, target="v": _targets(x, e, snr, "v"),
        },
        errors=_BROADCAST,
    ),
    Core(
        2,
        to_x_0,
        hints=(
            "Solve x_t = α x_0 + σ ε for x_0. For v, compute α x_t − σ v on paper: what becomes of ε?",
            "From ε: <code>(x_t - sigma * output) / alpha</code>. From v no division is needed, because "
            "α² + σ² = 1.",
        ),
        cases=lambda d: [(c[0] * 2, c[1], c[2], c[3]) for c in _cases_of_target(d)],
        oracle=lambda x_t, output, log_snr, target="v": {
            "x_0": lambda a, s: output,
            "eps": lambda a, s: x_t / a - output * (-log_snr.double() / 2).exp().reshape(-1, 1, 1, 1),
            "v": lambda a, s: torch.complex(x_t.double(), output.double())
            .mul(torch.polar(torch.ones_like(a), torch.atan2(s, a))).real,
        }[target](*(z.double() for z in alpha_sigma(append_dims(log_snr, x_t)))),
        mistakes={
            "from v: the sign of the second term is wrong": _x_0_with(
                lambda x, o, a, s: (x - s * o) / a, lambda x, o, a, s: a * x + s * o),
            "from v: α and σ are swapped": _x_0_with(
                lambda x, o, a, s: (x - s * o) / a, lambda x, o, a, s: s * x - a * o),
            "from ε: the division by α is missing": _x_0_with(
                lambda x, o, a, s: x - s * o, lambda x, o, a, s: a * x - s * o),
            "from ε: it is multiplied by α where it should be divided": _x_0_with(
                lambda x, o, a, s: (x - s * o) * a, lambda x, o, a, s: a * x - s * o),
            "v is treated like ε: it has an equation of its own": _x_0_with(
                lambda x, o, a, s: (x - s * o) / a, lambda x, o, a, s: (x - s * o) / a),
        },
        errors=_BROADCAST,
    ),
    Core(
        2,
        diffusion_loss,
        hints=(
            "Four lines: the log-SNR from t, the noisy picture from q_sample, what is asked for from "
            "training_target, the squared difference.",
            "The network must see <code>x_t</code> and <code>log_snr</code>, not x_0 and t. The last line is "
            "<code>(network(x_t, log_snr) - asked).square().mean()</code>.",
        ),
        cases=_cases_of_loss,
        oracle=_loss_by_angle,
        is_loss=True,
        mistakes={
            "the network is given t: it wants the log-SNR, schedule(t)": _loss_with(told=lambda t, snr: t),
            "the network is given the clean picture: it must see x_t": _loss_with(given=lambda x, snr, e: x),
            "the network is given pure noise: it must see x_t": _loss_with(given=lambda x, snr, e: e),
            "the squares are added up: take their mean": _loss_with(end=lambda z: z.square().sum()),
            "this is the mean of the absolute error: square it": _loss_with(end=lambda z: z.abs().mean()),
            "one number is asked for: the mean over all pixels is missing": _loss_with(end=lambda z: z.square()),
            "the answer is compared with ε whatever the target is: ask training_target": _loss_with(target="eps"),
            "the target is not passed on: it is always v": _loss_with(target="v"),
        },
        uses=("q_sample", "training_target"),
    ),
    Core(
        2,
        train_step,
        hints=(
            "Draw t (B,) with torch.rand and eps with torch.randn_like. The rest is the usual four lines of PyTorch.",
            "<code>optimizer.zero_grad()</code>, <code>loss.backward()</code>, <code>optimizer.step()</code>, in "
            "this order, and at the end <code>return loss.item()</code>.",
        ),
        check=_check_train_step,
        mistakes={
            "the noise is never negative: rand for randn": _step_with(eps=torch.rand_like),
            "every picture of the batch got the same time": _step_with(t=lambda x: torch.rand(1).expand(len(x))),
            "gradients add up until optimizer.zero_grad() clears them": _step_with(clear=False),
            "no weight has moved": _step_late,
            "the loss still has its gradient": _step_with(give=lambda z: z),
            "the times are not spread evenly": _step_with(t=lambda x: torch.rand(len(x)) ** 3),
            "the noise is the same for all": _step_with(eps=lambda x: torch.randn_like(x[:1]).expand_as(x)),
            "the loss is not the mean squared error on the target 'v'": _step_other_loss,
        },
        uses=("diffusion_loss",),
    ),
)  # fmt: skip
