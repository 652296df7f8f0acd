"""Chapter 15: why do I only get noise. These stay in their notebook."""

from __future__ import annotations

import torch

from .base import Core
from .chapter_01 import q_sample
from .given import alpha_sigma


def vital_signs(pictures):
    """What numbers say of pictures (B, C, H, W) before anyone looks: a dict of four numbers ().

    "mean" and "spread": the mean of all values, and their standard deviation (with n, not n − 1).
    "grain": the root mean square of the difference between neighbours in a row.
    "variety": the root mean square, one over all pictures and pixels, of the difference from the mean picture.
    """
    return {
        "mean": pictures.mean(),
        "spread": pictures.std(correction=0),
        "grain": (pictures[..., 1:] - pictures[..., :-1]).square().mean().sqrt(),
        "variety": (pictures - pictures.mean(dim=0)).square().mean().sqrt(),
    }


def loss_of_a_constant(variance, log_snr, target):
    """The least loss of a network that always gives the same answer: the variance of its target.

    Pictures have mean 0 and this variance (), ε has variance 1, and the two are
    independent: Var(a x_0 + b ε) = a² Var(x_0) + b² Var(ε).
    log_snr (N,); target "eps", "x_0" or "v", where v = α ε − σ x_0. Returns (N,), one loss for each log-SNR.
    """
    alpha, sigma = alpha_sigma(log_snr)
    shares = {"eps": (1, 0), "x_0": (0, 1), "v": (alpha**2, sigma**2)}
    of_noise, of_picture = shares[target]
    return of_noise + of_picture * variance + 0 * log_snr


def error_by_level(denoise, x_0, eps, log_snrs):
    """How well one call of denoise cleans pictures, at many noise levels: the mean square error of x̂_0.

    denoise(x_t, log_snr) → x̂_0, with log_snr (B,). x_0, eps, x_t, x̂_0 (B, C, H, W). For each number of log_snrs
    (N,) all pictures get that much noise (q_sample). Returns (N,), each the mean over all pixels and pictures.
    """
    errors = []
    for level in log_snrs:
        log_snr = level.expand(len(x_0))
        x_hat = denoise(q_sample(x_0, log_snr, eps), log_snr)
        errors.append((x_hat - x_0).square().mean())
    return torch.stack(errors)


def effect_of_words(denoise, x_t, log_snr, text, mask):
    """By how much x̂_0 changes, as a root mean square (), when each picture gets the words of the one before it.

    denoise(x_t, log_snr, text, mask) → x̂_0. x_t and x̂_0 (B, C, H, W), log_snr (B,), text (B, L, D), mask (B, L).
    The words move on by one along the batch (axis 0), the last to the first, with their mask; x_t stays.
    """
    own = denoise(x_t, log_snr, text, mask)
    other = denoise(x_t, log_snr, text.roll(1, 0), mask.roll(1, 0))
    return (own - other).square().mean().sqrt()


def best_captions(denoise, x_0, x_t, log_snr, text, mask):
    """Which caption fits each picture best? A model that draws can also read (Li et al. 2023).

    For each caption j, all pictures are denoised under it: denoise(x_t, log_snr, text, mask) → x̂_0. The caption
    whose x̂_0 is nearest to a picture (least mean square error) is the one that it is read as. x_0, x_t, x̂_0
    (B, C, H, W), log_snr (B,), text (B, L, D), mask (B, L). Returns (B,), the number of a caption for each picture.
    """
    errors = []
    for j in range(len(text)):
        words, tokens = text[j].expand_as(text), mask[j].expand_as(mask)
        x_hat = denoise(x_t, log_snr, words, tokens)
        errors.append((x_hat - x_0).square().mean(dim=(1, 2, 3)))
    return torch.stack(errors).argmin(dim=0)


class _Cleaner:
    """A denoiser by formula. What it is told of noise level and words it takes into account."""

    def __init__(self, a, b):
        self.a, self.b = a, b

    def __deepcopy__(self, memo):
        return self

    def __call__(self, x_t, log_snr, text=None, mask=None):
        if log_snr.shape != (len(x_t),):
            raise ValueError(f"log_snr has the shape {tuple(log_snr.shape)}, not {(len(x_t),)}")
        out = torch.tanh(self.a * x_t) + self.b * log_snr.reshape(-1, 1, 1, 1)
        if text is None:
            return out
        if len(text) != len(x_t) or len(mask) != len(x_t):
            raise ValueError(f"{len(x_t)} pictures with {len(text)} texts and {len(mask)} masks")
        said = (text.sum(-1) * mask).sum(1) + 0.3 * mask.sum(1)
        return out + said.reshape(-1, 1, 1, 1) * (1 + x_t.abs())


class _Reader:
    """Cleans a picture best under the caption whose first number is the picture's mean."""

    def __deepcopy__(self, memo):
        return self

    def __call__(self, x_t, log_snr, text, mask):
        if not len(log_snr) == len(text) == len(mask) == len(x_t):
            raise ValueError(f"{len(x_t)} pictures with {len(text)} texts and {len(mask)} masks")
        said = (text[..., 0] * mask).sum(1).reshape(-1, 1, 1, 1)
        return x_t - x_t.mean(dim=(1, 2, 3), keepdim=True) + said


def _signs_by_hand(pictures):
    x = pictures.double()
    flat = x.flatten()
    middle = flat.sum() / flat.numel()
    right, left = x.narrow(-1, 1, x.shape[-1] - 1), x.narrow(-1, 0, x.shape[-1] - 1)
    return {
        "mean": middle,
        "spread": ((flat - middle) ** 2).mean() ** 0.5,
        "grain": ((right - left) ** 2).mean() ** 0.5,
        "variety": x.var(dim=0, correction=0).mean() ** 0.5,
    }


def _signs_with(**changed):
    def wrong(pictures):
        return {**vital_signs(pictures), **{k: f(pictures) for k, f in changed.items()}}

    return wrong


def _constant_by_sampling_nothing(variance, log_snr, target):
    """The variance of a sum of independent things, by the shares of each."""
    alpha, sigma = torch.sigmoid(log_snr.double()) ** 0.5, torch.sigmoid(-log_snr.double()) ** 0.5
    one = torch.ones_like(alpha)
    noise, picture = {"eps": (one, 0 * one), "x_0": (0 * one, one), "v": (alpha, -sigma)}[target]
    return noise.square() + picture.square() * variance


def _constant_with(v):
    def wrong(variance, log_snr, target):
        if target != "v":
            return loss_of_a_constant(variance, log_snr, target)
        return v(variance, *alpha_sigma(log_snr))

    return wrong


def _errors_by_hand(denoise, x_0, eps, log_snrs):
    rows = []
    for level in log_snrs.tolist():
        at = torch.tensor(level)
        x_t = at.sigmoid().sqrt() * x_0 + (-at).sigmoid().sqrt() * eps
        rows.append(((denoise(x_t, at.repeat(len(x_0))) - x_0) ** 2).mean())
    return torch.stack(rows)


def _errors_with(
    of=lambda x_hat, x_0, eps: (x_hat - x_0).square().mean(), noisy=q_sample, join=torch.stack
):
    def wrong(denoise, x_0, eps, log_snrs):
        rows = []
        for level in log_snrs:
            log_snr = level.expand(len(x_0))
            rows.append(of(denoise(noisy(x_0, log_snr, eps), log_snr), x_0, eps))
        return join(rows)

    return wrong


def _effect_by_hand(denoise, x_t, log_snr, text, mask):
    order = [len(text) - 1, *range(len(text) - 1)]
    changed = denoise(x_t, log_snr, text[order], mask[order]) - denoise(x_t, log_snr, text, mask)
    return changed.double().pow(2).mean().pow(0.5)


def _effect_with(words=lambda t: t.roll(1, 0), tokens=lambda m: m.roll(1, 0),
                 of=lambda a, b: (a - b).square().mean().sqrt(), picture=lambda x: x):  # fmt: skip
    def wrong(denoise, x_t, log_snr, text, mask):
        own = denoise(x_t, log_snr, text, mask)
        return of(own, denoise(picture(x_t), log_snr, words(text), tokens(mask)))

    return wrong


def _ends_as(targets, change):
    """Wrong for some targets alone."""

    def wrong(variance, log_snr, target):
        right = loss_of_a_constant(variance, log_snr, target)
        return change(right, variance, log_snr) if target in targets else right

    return wrong


def _captions_by_hand(denoise, x_0, x_t, log_snr, text, mask):
    best = []
    for i in range(len(x_0)):
        errors = []
        for j in range(len(text)):
            x_hat = denoise(x_t[i : i + 1], log_snr[i : i + 1], text[j : j + 1], mask[j : j + 1])
            errors.append((x_hat - x_0[i : i + 1]).pow(2).mean().item())
        best.append(errors.index(min(errors)))
    return torch.tensor(best)


def _captions_with(of=lambda x_hat, x_0: (x_hat - x_0).square().mean(dim=(1, 2, 3)), tokens=True,
                   choose=lambda e: e.argmin(dim=0)):  # fmt: skip
    def wrong(denoise, x_0, x_t, log_snr, text, mask):
        rows = []
        for j in range(len(text)):
            mine = mask[j].expand_as(mask) if tokens else mask
            rows.append(of(denoise(x_t, log_snr, text[j].expand_as(text), mine), x_0))
        return choose(torch.stack(rows))

    return wrong


def _captions_by_masks(denoise, x_0, x_t, log_snr, text, mask):
    rows = [denoise(x_t, log_snr, text, mask[j].expand_as(mask)) - x_0 for j in range(len(text))]
    return torch.stack([z.square().mean(dim=(1, 2, 3)) for z in rows]).argmin(dim=0)


def _captions_unchanged(denoise, x_0, x_t, log_snr, text, mask):
    x_hat = denoise(x_t, log_snr, text, mask)
    return torch.stack([(x_hat - x_0).square().mean(dim=(1, 2, 3)) for _ in text]).argmin(dim=0)


def _captions_near_x_t(denoise, x_0, x_t, log_snr, text, mask):
    return best_captions(denoise, x_t, x_t, log_snr, text, mask)


def _album(d):
    """Pictures whose captions, in another order, name their means."""
    B, L, D = d.sizes(4, 9, 3)
    n = d.size(3, 6)
    x_0 = d.picture(B, 3, n, n + 1) * 0.2 + torch.linspace(-2, 2, B).reshape(-1, 1, 1, 1)
    mask, order = d.mask(B, L), torch.randperm(B, generator=d.values)
    text = d.normal(B, L, D)
    text[..., 0] = (x_0.mean((1, 2, 3)) / mask[torch.argsort(order)].sum(1))[order][:, None]
    # x_t is another picture, so that an error from x_t in place of x_0 is seen
    return _Reader(), x_0, x_0.flip(0) + 0.05 * d.normal(*x_0.shape), d.normal(B), text, mask


CORE = (
    Core(
        15,
        vital_signs,
        in_file=False,
        hints=(
            "Neighbours in a row differ in the last axis: shift the pictures against themselves by one pixel.",
            "<code>pictures[..., 1:] - pictures[..., :-1]</code> are the differences; a root mean square is "
            "<code>.square().mean().sqrt()</code>. The mean picture is <code>pictures.mean(dim=0)</code>.",
        ),
        cases=lambda d: [
            (d.normal(d.size(3, 6), 3, d.size(4, 8), d.size(4, 8)) * 0.4 + d.uniform(-0.4, 0.4, 1),)
            for _ in range(3)
        ],
        oracle=_signs_by_hand,
        mistakes={
            "spread divides by one less than their number: std has an argument correction": _signs_with(
                spread=lambda x: x.std()),
            "spread is without its root": (
                _signs_with(spread=lambda x: x.var(correction=0)), _signs_with(spread=lambda x: x.var())),
            "spread is measured from 0: it is measured from the mean": _signs_with(
                spread=lambda x: x.square().mean().sqrt()),
            "grain looks down the columns: neighbours in a row differ in the last axis": _signs_with(
                grain=lambda x: (x[..., 1:, :] - x[..., :-1, :]).square().mean().sqrt()),
            "grain is a mean of differences, which cancel: take their root mean square": _signs_with(
                grain=lambda x: (x[..., 1:] - x[..., :-1]).mean()),
            "grain is a mean of absolute differences: square, mean, root": _signs_with(
                grain=lambda x: (x[..., 1:] - x[..., :-1]).abs().mean()),
            "grain compares each picture with the next: neighbours are pixels, in the last axis": _signs_with(
                grain=lambda x: (x[1:] - x[:-1]).square().mean().sqrt()),
            "grain joins the ends of a row: pixels 1 to W and 0 to W − 1 are neighbours, the last has none": _signs_with(
                grain=lambda x: (x - x.roll(1, -1)).square().mean().sqrt()),
            "grain is without its root": _signs_with(grain=lambda x: (x[..., 1:] - x[..., :-1]).square().mean()),
            "variety measures from the mean of all values: the mean picture is the mean over the batch": _signs_with(
                variety=lambda x: (x - x.mean()).square().mean().sqrt()),
            "variety measures from each picture's own mean: the mean picture is the mean over the batch": _signs_with(
                variety=lambda x: (x - x.mean((1, 2, 3), keepdim=True)).square().mean().sqrt()),
            "variety takes a root for each pixel or picture: one mean of all squares, then one root": (
                _signs_with(variety=lambda x: x.std(0, correction=0).mean()),
                _signs_with(variety=lambda x: (x - x.mean(0)).square().mean((1, 2, 3)).sqrt().mean())),
            "variety divides by one less than the number of pictures: std has an argument correction": (
                _signs_with(variety=lambda x: x.std(0).mean()),
                _signs_with(variety=lambda x: x.var(0).mean().sqrt())),
            "variety is a mean of absolute differences: square, mean, root": _signs_with(
                variety=lambda x: (x - x.mean(0)).abs().mean()),
            "variety is without its root": _signs_with(variety=lambda x: (x - x.mean(0)).square().mean()),
        },
        errors={"KeyError": 'the four keys are "mean", "spread", "grain" and "variety"'},
    ),
    Core(
        15,
        loss_of_a_constant,
        in_file=False,
        hints=(
            "The best constant is the mean of the target; what is lost is the target's variance. Variances of "
            "independent things add up, each multiplied by the square of its factor.",
            "For v: <code>alpha**2 * 1 + sigma**2 * variance</code>. ε and x_0 do not depend on the noise level, and "
            "still one number for each log-SNR is asked for.",
        ),
        cases=lambda d: [
            (d.uniform(0.1, 0.7, 1)[0], d.uniform(-6, 6, d.size(4, 9)), target)
            for target in ("v", "eps", "x_0", "v")
        ],
        oracle=_constant_by_sampling_nothing,
        mistakes={
            "for v, α and σ must be squared: variances are multiplied by the square of a factor": _constant_with(
                lambda s, a, b: a + b * s),
            "for v, α² belongs to the noise and σ² to the picture": _constant_with(
                lambda s, a, b: b**2 + a**2 * s),
            "for v, the minus is squared too: variances add up": _constant_with(lambda s, a, b: a**2 - b**2 * s),
            "for v, the picture has its variance, not 1": _constant_with(lambda s, a, b: a**2 + b**2),
            "ε and x_0 are swapped: ε has variance 1, the picture has its own": _ends_as(
                ("eps", "x_0"), lambda right, variance, snr: 1 + variance - right),
            "one number for each log-SNR is asked for, of ε and x_0, too": (
                _ends_as(("eps", "x_0"), lambda right, variance, snr: right[0]),
                _ends_as(("eps",), lambda right, variance, snr: right[0]),
                _ends_as(("x_0",), lambda right, variance, snr: right[0])),
            "this is the mean over all levels: one number for each log-SNR is asked for": lambda s, snr, target: (
                loss_of_a_constant(s, snr, target).mean()),
            "for v, the variance is a variance already: it is not squared": _constant_with(
                lambda s, a, b: a**2 + b**2 * s**2),
        },
    ),
    Core(
        15,
        error_by_level,
        in_file=False,
        uses=("q_sample",),
        hints=(
            "A loop over the levels. The network wants one log-SNR for each picture: the same number, B times.",
            "<code>log_snr = level.expand(len(x_0))</code>, then <code>denoise(q_sample(x_0, log_snr, eps), "
            "log_snr)</code>. <code>torch.stack</code> makes one tensor of many numbers.",
        ),
        cases=lambda d: [
            (
                _Cleaner(d.uniform(0.4, 0.9, 1), d.uniform(0.05, 0.2, 1)),
                d.picture(B := d.size(2, 5), 3, n := d.size(3, 6), n + 1),
                d.normal(B, 3, n, n + 1),
                d.uniform(-6, 4, d.size(6, 9)),
            )
            for _ in range(3)
        ],
        oracle=_errors_by_hand,
        mistakes={
            "this is the error of the noise: compare x̂_0 with x_0": _errors_with(
                of=lambda x_hat, x_0, eps: (x_hat - eps).square().mean()),
            "the network got the clean picture: add noise first, with q_sample": _errors_with(
                noisy=lambda x_0, snr, eps: x_0),
            "the errors have signs and cancel: square them before the mean": _errors_with(
                of=lambda x_hat, x_0, eps: (x_hat - x_0).mean()),
            "this is the root of the error: the mean square is asked for": _errors_with(
                of=lambda x_hat, x_0, eps: (x_hat - x_0).square().mean().sqrt()),
            "the errors are added up: their mean is asked for": (
                _errors_with(of=lambda x_hat, x_0, eps: (x_hat - x_0).square().sum()),
                _errors_with(of=lambda x_hat, x_0, eps: (x_hat - x_0).square().sum() / len(x_0))),
            "this is a mean of absolute errors: square them": _errors_with(
                of=lambda x_hat, x_0, eps: (x_hat - x_0).abs().mean()),
            "this is the error of x_t: let denoise clean it, and compare what it gives": lambda denoise, x_0, eps, log_snrs: (
                torch.stack([(q_sample(x_0, z.expand(len(x_0)), eps) - x_0).square().mean() for z in log_snrs])),
            "this compares x̂_0 with x_t: compare it with x_0, the clean picture": lambda denoise, x_0, eps, log_snrs: (
                torch.stack([
                    (denoise(x_t := q_sample(x_0, z.expand(len(x_0)), eps), z.expand(len(x_0))) - x_t).square().mean()
                    for z in log_snrs])),
            "this is one number for all levels: one for each is asked for": _errors_with(
                join=lambda rows: torch.stack(rows).mean()),
        },
        errors={"log_snr has the shape": "the network wants log_snr (B,): the level, once for each picture"},
    ),
    Core(
        15,
        best_captions,
        in_file=False,
        hints=(
            "A loop over the captions: one call for each, with all pictures. Keep the error of each picture apart.",
            "<code>text[j].expand_as(text)</code> is caption j, once for each picture; the mask alike. "
            "<code>.square().mean(dim=(1, 2, 3))</code> leaves (B,). Stack them: (captions, pictures), then argmin.",
        ),
        cases=lambda d: [_album(d) for _ in range(3)],
        oracle=_captions_by_hand,
        mistakes={
            "this is the worst caption: the least error is asked for": _captions_with(
                choose=lambda e: e.argmax(dim=0)),
            "this is the best picture for each caption: you chose along the wrong axis": _captions_with(
                choose=lambda e: e.argmin(dim=1)),
            "these are the errors themselves: say which caption has the least": _captions_with(
                choose=lambda e: e.min(dim=0).values),
            "the mask stayed behind: each caption comes with its own": _captions_with(tokens=False),
            "the words stayed behind: only their mask was exchanged": _captions_by_masks,
            "every call had the pictures' own captions: give all pictures caption j": _captions_unchanged,
            "this compares x̂_0 with x_t: compare it with x_0, the clean picture": _captions_near_x_t,
            "the errors of all pictures were mixed: each picture has its own": _captions_with(
                of=lambda x_hat, x_0: (x_hat - x_0).square().mean().expand(len(x_0))),
        },
        errors={"pictures with": "pictures, texts and masks must be equally many: caption j, once for each picture"},
    ),
    Core(
        15,
        effect_of_words,
        in_file=False,
        hints=(
            "Two calls that differ in the words alone. torch can move a tensor on along an axis.",
            "<code>text.roll(1, 0)</code> moves the captions on by one. Do the same with the mask; then the root mean "
            "square of the difference.",
        ),
        cases=lambda d: [
            (
                _Cleaner(d.uniform(0.4, 0.9, 1), d.uniform(0.05, 0.2, 1)),
                # pictures of different strength: the differences must not have the mean 0
                d.normal(B, 3, n, n + 1) * torch.linspace(0.3, 3, B).reshape(-1, 1, 1, 1),
                d.normal(B), d.normal(B, L, D), d.mask(B, L),
            )
            for B, L, D, n in ((*d.sizes(3, 7, 3), d.size(3, 6)) for _ in range(3))
        ],
        oracle=_effect_by_hand,
        mistakes={
            "the mask stayed behind: it belongs to its words": _effect_with(tokens=lambda m: m),
            "the words stayed behind: only their mask moved": _effect_with(words=lambda t: t),
            "roll without an axis moves single numbers: roll(1, 0) moves whole captions": (
                _effect_with(lambda t: t.roll(1), lambda m: m.roll(1)), _effect_with(lambda t: t.roll(1))),
            "the captions are turned round: each picture gets the words of the one before it": _effect_with(
                lambda t: t.flip(0), lambda m: m.flip(0)),
            "the words went the other way: the last goes to the first": _effect_with(
                lambda t: t.roll(-1, 0), lambda m: m.roll(-1, 0)),
            "the words moved along the tokens: the batch is the first axis": _effect_with(
                lambda t: t.roll(1, 1), lambda m: m.roll(1, 1)),
            "the noisy pictures moved with their words, so that nothing changed but the order": _effect_with(
                picture=lambda x: x.roll(1, 0)),
            "the differences cancel: take their root mean square": _effect_with(of=lambda a, b: (a - b).mean()),
            "this is without its root": _effect_with(of=lambda a, b: (a - b).square().mean()),
            "this is a mean of absolute differences: square, mean, root": _effect_with(of=lambda a, b: (a - b).abs().mean()),
            "this is the root of a sum: the mean is missing": _effect_with(of=lambda a, b: (a - b).norm()),
            "one number is asked for: the mean runs over pixels and pictures": _effect_with(
                of=lambda a, b: (a - b).square().mean((1, 2, 3)).sqrt()),
            "each picture has its own root: one mean of all squares, then one root": _effect_with(
                of=lambda a, b: (a - b).square().mean((1, 2, 3)).sqrt().mean()),
            "this is a standard deviation, measured from the mean difference: root mean square is measured from 0": (
                _effect_with(of=lambda a, b: (a - b).std()), _effect_with(of=lambda a, b: (a - b).std(correction=0))),
            "these are the new answers alone: subtract the ones with their own words": _effect_with(
                of=lambda a, b: b.square().mean().sqrt()),
            "this is the words taken away, not exchanged": _effect_with(torch.zeros_like, lambda m: m),
        },
        errors={"pictures with": "pictures, texts and masks must be equally many"},
    ),
)  # fmt: skip
