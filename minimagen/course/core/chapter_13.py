"""Chapter 13: what changes with real hardware. These stay in their notebook."""

from __future__ import annotations

import torch

from .base import Core
from .given import alpha_sigma, append_dims, cosine_log_snr, linear_log_snr


def rounded(x, bits):
    """Round float32 numbers to `bits` significant binary digits: 8 is what bfloat16 keeps, 11 what float16 keeps.

    x, any shape, finite, and the result of its shape. Write x = m · 2^e with 1/2 ≤ |m| < 1 (torch.frexp gives m and
    e, torch.ldexp puts them together): rounded is m to the nearest multiple of 2^−bits, e stays. (Not here: how
    large and how small e may be. bfloat16 has float32's range; float16 ends at 65,504.)
    """
    m, e = torch.frexp(x)
    return torch.ldexp((m * 2**bits).round() / 2**bits, e)


def gradient_in_parts(loss_of, weight, parts):
    """The gradient of a large batch, part by part: gradient accumulation, and what several processes do together.

    loss_of(weight, part): the mean loss over one part, (). weight: any shape, requires_grad. parts: tensors
    (B_k, …), which need not be of one length. Returns the gradient of the mean over all B = Σ B_k samples,
    Σ_k (B_k / B) ∇L_k, of weight's shape. torch.autograd.grad(loss, weight) gives a tuple of one, and leaves
    weight.grad alone, as you should.
    """
    total = sum(len(part) for part in parts)
    shares = [len(part) / total for part in parts]
    gradients = [torch.autograd.grad(loss_of(weight, part), weight)[0] for part in parts]
    return sum(share * gradient for share, gradient in zip(shares, gradients, strict=True))


def distillation_target(x_t, x_s, log_snr_t, log_snr_s):
    """What a student must predict to land in one step where its teacher landed in many.

    (Salimans & Ho 2022, algorithm 2.) x_t (B, C, H, W), where both begin, at log_snr_t (B,); x_s (B, C, H, W),
    where the teacher stands, at log_snr_s (B,). One DDIM step is x_s = α_s x̂_0 + σ_s (x_t − α_t x̂_0) / σ_t.
    Returns the x̂_0 that solves it, (B, C, H, W). For log_snr_s = ∞, where α_s = 1 and σ_s = 0, that is x_s itself.
    """
    alpha_t, sigma_t = alpha_sigma(append_dims(log_snr_t, x_t))
    alpha_s, sigma_s = alpha_sigma(append_dims(log_snr_s, x_t))
    ratio = sigma_s / sigma_t
    return (x_s - ratio * x_t) / (alpha_s - ratio * alpha_t)


def level_flops(side, channels, tokens):
    """The arithmetic of one level of a U-Net: floating-point operations of a 3×3 convolution, and of attention.

    side: H = W = side pixels; channels: C in and C out; tokens: L of the text, whose keys and values stand beside
    the pixels'. A product and its sum are 2 operations. Convolution: 9 C C products for each pixel. Attention: q·kᵀ
    has C products for each pair of a pixel and one of H W + L keys; then the weighted sum of the values has as
    many again. (Projections and softmax are left out.) Returns two whole numbers.
    """
    pixels = side**2
    convolution = 2 * 9 * channels**2 * pixels
    attention = 2 * 2 * channels * pixels * (pixels + tokens)
    return convolution, attention


def _numbers(d):
    made = []
    for bits in (8, 11, d.size(3, 7)):
        x = d.normal(d.size(4, 9), d.size(4, 9)) * 10 ** d.uniform(0, 4, 1)
        x[0, :3] = torch.tensor([0, 0.3, -0.11])  # e is negative for two of them
        made.append((x, bits))
    return made


def _by_neighbours(x, bits):
    """The nearer of the two multiples of the step 2^(e − bits) below and above; ties do not come up."""
    x = x.double()
    step = 2.0 ** (x.abs().clamp(min=1e-30).log2().floor() + 1 - bits)
    low = (x / step).floor() * step
    return torch.where(x - low < low + step - x, low, low + step).float()


def _rounded_with(change):
    def wrong(x, bits):
        m, e = torch.frexp(x)
        return change(m, e, bits)

    return wrong


def _square_loss(weight, part):
    return (part @ weight - 1).square().mean()


def _parts(d):
    made = []
    for _ in range(3):
        n = d.size(2, 6)
        parts = [d.normal(b, n) for b in d.sizes(1, 9, d.size(3, 4))]
        made.append((_square_loss, d.normal(n).requires_grad_(True), parts))
    return made


def _of_all(loss_of, weight, parts):
    return torch.autograd.grad(loss_of(weight, torch.cat(parts)), weight)[0]


def _observed(function, loss_of, weight, parts):
    """On weights of its own, so that one call does not see the .grad of another."""
    weight = weight.detach().clone().requires_grad_(True)
    lengths = [0]

    def watched(weight, part):
        lengths.append(len(part))
        return loss_of(weight, part)

    given = function(watched, weight, parts)
    return given, weight.grad is None, max(lengths) <= max(len(part) for part in parts)


def _by_formula(loss_of, weight, parts):
    """The gradient of the mean of (x·w − 1)², written down; loss_of is not asked."""
    x = torch.cat(parts)
    return (2 * x.T @ (x @ weight - 1) / len(x)).detach()


def _parts_with(share=None, chosen=lambda g: g):
    def wrong(loss_of, weight, parts):
        total = sum(len(p) for p in parts)
        gradients = [torch.autograd.grad(loss_of(weight, p), weight)[0] for p in parts]
        shares = [share(len(p), total, len(parts)) for p in parts]
        return sum(s * g for s, g in chosen(list(zip(shares, gradients, strict=True))))

    return wrong


def _into_grad(loss_of, weight, parts):
    total = sum(len(p) for p in parts)
    for p in parts:
        (len(p) / total * loss_of(weight, p)).backward()
    return weight.grad


def _landings(d):
    made = []
    for schedule in (cosine_log_snr, linear_log_snr, cosine_log_snr):
        B, n = d.size(2, 4), d.size(3, 6)
        shape = (B, 3, n, n + 1)
        t = d.uniform(0.6, 0.95, B)
        s = t * d.uniform(0.2, 0.7, B)
        made.append((d.normal(*shape), d.normal(*shape), schedule(t), schedule(s)))
    B = d.size(2, 4)
    last = torch.full((B,), torch.inf)
    made.append(
        (d.normal(B, 3, 4, 5), d.picture(B, 3, 4, 5), cosine_log_snr(d.uniform(0.3, 0.7, B)), last)
    )
    return made  # fmt: skip


def _by_two_points(x_t, x_s, log_snr_t, log_snr_s):
    """DDIM is a straight line in x̂_0: walk it from two guesses, and see where it meets x_s."""

    def step(x_0):
        a_t, a_s = (
            torch.sigmoid(append_dims(z, x_t).double()).sqrt() for z in (log_snr_t, log_snr_s)
        )
        s_t, s_s = (
            torch.sigmoid(-append_dims(z, x_t).double()).sqrt() for z in (log_snr_t, log_snr_s)
        )
        return a_s * x_0 + s_s * (x_t - a_t * x_0) / s_t

    zero = torch.zeros_like(x_t).double()
    return (x_s - step(zero)) / (step(zero + 1) - step(zero))  # fmt: skip


def _target_with(formula):
    def wrong(x_t, x_s, log_snr_t, log_snr_s):
        a_t, s_t = alpha_sigma(append_dims(log_snr_t, x_t))
        a_s, s_s = alpha_sigma(append_dims(log_snr_s, x_t))
        return formula(x_t, x_s, a_t, s_t, a_s, s_s)

    return wrong


def _level_with(convolution=None, attention=None):
    """One of the two wrong, or both: of (C, N, L) = channels, pixels, tokens."""

    def wrong(side, channels, tokens):
        right = level_flops(side, channels, tokens)
        return tuple(
            whole if formula is None else formula(channels, side**2, tokens)
            for formula, whole in zip((convolution, attention), right, strict=True)
        )

    return wrong


def _levels(d):
    return [(d.size(5, 40), 8 * d.size(2, 20), d.size(3, 30)) for _ in range(4)]


CORE = (
    Core(
        13,
        rounded,
        hints=(
            "m, e = torch.frexp(x). To round to multiples of a step, divide by it, .round(), multiply by it.",
            "The step is 2^−bits, so <code>(m * 2**bits).round() / 2**bits</code>; then <code>torch.ldexp(…, e)</code>.",
        ),
        cases=_numbers,
        oracle=_by_neighbours,
        mistakes={
            "this cuts the digits off: round to the nearest": _rounded_with(
                lambda m, e, b: torch.ldexp((m * 2**b).trunc() / 2**b, e)),
            "this rounds down: round to the nearest": _rounded_with(lambda m, e, b: torch.ldexp((m * 2**b).floor() / 2**b, e)),
            "this keeps one digit too few": _rounded_with(lambda m, e, b: torch.ldexp((m * 2 ** (b - 1)).round() / 2 ** (b - 1), e)),
            "this keeps one digit too many": _rounded_with(lambda m, e, b: torch.ldexp((m * 2 ** (b + 1)).round() / 2 ** (b + 1), e)),
            "this rounds up: round to the nearest": _rounded_with(lambda m, e, b: torch.ldexp((m * 2**b).ceil() / 2**b, e)),
            "2**e of whole numbers is 0 where e is negative: torch.ldexp(…, e) multiplies by 2^e": _rounded_with(
                lambda m, e, b: (m * 2**b).round() / 2**b * 2**e),
            "`bits` is ignored: round to as many digits as it says": (
                lambda x, b: x.bfloat16().float(), lambda x, b: x.half().float(),
                lambda x, b: rounded(x, 8), lambda x, b: rounded(x, 11)),
            "the power of two is lost: put m and e together again": _rounded_with(lambda m, e, b: (m * 2**b).round() / 2**b),
            "all numbers get the same step: it goes with the size of each, so round m and not x": lambda x, b: (
                (x * 2**b).round() / 2**b),
        },
        in_file=False,
    ),
    Core(
        13,
        gradient_in_parts,
        hints=(
            "The mean over all is the sum of the parts' means, each times its share of the samples. So is its gradient.",
            "<code>torch.autograd.grad(loss_of(weight, part), weight)[0]</code> for each part, times "
            "<code>len(part) / total</code>, then the sum.",
        ),
        cases=_parts,
        oracle=_by_formula,
        observe=_observed,
        mistakes={
            "the parts are added up: that is the gradient of a sum, as many times too large as there are parts":
                _parts_with(lambda b, total, k: 1),
            "parts of different length count alike: each sample must, so weigh a part by its length":
                _parts_with(lambda b, total, k: 1 / k),
            "this is the gradient of the last part alone": _parts_with(lambda b, total, k: 1, lambda g: g[-1:]),
            "this is the gradient of the first part alone": _parts_with(lambda b, total, k: 1, lambda g: g[:1]),
            "the lengths are there, the division by all samples is missing": _parts_with(lambda b, total, k: b),
            "these are all parts at once, and their memory is what parts save: a loss for each part": _of_all,
            "weight.grad is touched: torch.autograd.grad returns the gradient and leaves it alone": _into_grad,
        },
        errors={"must be Tensor, not tuple|multiply sequence": "torch.autograd.grad gives a tuple: take its [0]"},
        in_file=False,
    ),
    Core(
        13,
        distillation_target,
        hints=(
            "Multiply out the DDIM step: x_s is (something) · x̂_0 + (something) · x_t. Then solve for x̂_0.",
            "With r = σ_s / σ_t the step is x_s = (α_s − r α_t) x̂_0 + r x_t. "
            "<code>alpha_sigma(append_dims(log_snr_t, x_t))</code> gives α_t and σ_t, (B, 1, 1, 1).",
        ),
        cases=_landings,
        oracle=_by_two_points,
        mistakes={
            "this is where the teacher stands, noise and all: solve the step for x̂_0": _target_with(
                lambda x, z, a, s, b, r: z + 0 * x),
            "this divides x_s by α_s alone: it holds the noise of x_t, too": _target_with(
                lambda x, z, a, s, b, r: z / b),
            "r is turned over: it is σ_s / σ_t": _target_with(
                lambda x, z, a, s, b, r: (z - s / r * x) / (b - s / r * a)),
            "x_t is missing in the numerator": _target_with(lambda x, z, a, s, b, r: z / (b - r / s * a)),
            "α_t is missing in the denominator": _target_with(lambda x, z, a, s, b, r: (z - r / s * x) / b),
            "a sign is wrong: what x_t brings goes to the other side": _target_with(
                lambda x, z, a, s, b, r: (z + r / s * x) / (b - r / s * a)),
            "a sign is wrong in the denominator: it is α_s − r α_t": _target_with(
                lambda x, z, a, s, b, r: (z - r / s * x) / (b + r / s * a)),
            "two signs are wrong: there is a + where the step, solved, has a −": _target_with(
                lambda x, z, a, s, b, r: (z + r / s * x) / (b + r / s * a)),
            "the sign of all is turned round: x_s comes first, and minus what x_t brings": _target_with(
                lambda x, z, a, s, b, r: (r / s * x - z) / (b - r / s * a)),
            "the division by σ_t is missing: r is σ_s / σ_t": _target_with(
                lambda x, z, a, s, b, r: (z - r * x) / (b - r * a)),
            "it divides by σ_s, which is 0 at the end: divide by σ_t": (
                _target_with(lambda x, z, a, s, b, r: (s / r * z - x) / (s / r * b - a)),
                _target_with(lambda x, z, a, s, b, r: (x - s / r * z) / (a - s / r * b))),
        },
        errors={"size of tensor|must match|broadcast": "log_snr (B,) must become (B, 1, 1, 1): append_dims(log_snr_t, x_t)"},
        in_file=False,
    ),
    Core(
        13,
        level_flops,
        hints=(
            "Count products, then double: every product has its sum. There are side² pixels, and side² + tokens keys.",
            "The convolution has <code>9 * channels**2</code> products a pixel. Attention has <code>channels</code> products for "
            "each of pixels · (pixels + tokens) pairs, twice: scores, then values.",
        ),
        cases=_levels,
        mistakes={
            "products without their sums: everything is half": _level_with(
                lambda c, n, L: 9 * c * c * n, lambda c, n, L: 2 * c * n * (n + L)),
            "the two numbers are in the wrong order: convolution first": lambda s, c, n: level_flops(s, c, n)[::-1],
            "the convolution is half: a product and its sum are two operations": _level_with(lambda c, n, L: 9 * c * c * n),
            "attention is half: scores, and then values, and of each the products and their sums": _level_with(
                attention=lambda c, n, L: 2 * c * n * (n + L)),
            "attention is a quarter: scores, and then values, and of each the products and their sums": _level_with(
                attention=lambda c, n, L: c * n * (n + L)),
            "the text's keys are missing from attention": _level_with(attention=lambda c, n, L: 4 * c * n * n),
            "the pixels' own keys are missing from attention: the text's stand beside them": _level_with(
                attention=lambda c, n, L: 4 * c * n * L),
            "only pixels ask: each of H·W pixels has H·W + L keys": _level_with(attention=lambda c, n, L: 4 * c * (n + L) ** 2),
            "a pair of attention has C products: C is missing": _level_with(attention=lambda c, n, L: 4 * n * (n + L)),
            "a 3×3 convolution looks at 9 pixels: 9 is missing": _level_with(lambda c, n, L: 2 * c * c * n),
            "the convolution is that of one pixel: there are side² of them": _level_with(lambda c, n, L: 18 * c * c),
            "attention is that of one pixel: side² of them ask": _level_with(attention=lambda c, n, L: 4 * c * (n + L)),
            "side is a length: the pixels are side²": lambda s, c, n: (18 * c * c * s, 4 * c * s * (s + n)),
            "the convolution has C inputs for each of C outputs: C²": _level_with(lambda c, n, L: 18 * c * n),
            "a 3×3 convolution looks at 9 pixels, not at 3": _level_with(lambda c, n, L: 6 * c * c * n),
            "a pair has C products, not C²": _level_with(
                attention=lambda c, n, L: 4 * c * c * n * (n + L)),
        },
        in_file=False,
    ),
)  # fmt: skip
