"""Real pictures of scenes, spoiled: what a strict judge learns to call unknown. No generated picture is used.

A weak cascade gets the palette and the outline of a 16×16 picture right and tears, smears and mixes what is finer.
So an object is taken as a layer of its own and torn by a flow, mixed with another of like colours, given another's
detail or none, melted, cut, recoloured; the place behind stays as it is. How far it went is a score: below MILD the
picture keeps its truth, above GONE the object is unknown, and between the two its key is not trained.

parts() runs in workers, with numpy; spoil() on whole batches, with torch, on any device.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from minimagen.scenes import Scene
from minimagen.scenes.artwork import _place, _sprite, layout

SIDE = 64
MILD, GONE = 0.15, 0.45  # scores


# --- in workers ---------------------------------------------------------------------------------


def _lay(canvas: np.ndarray, rgba: np.ndarray, x: float, y: float) -> None:
    """artwork.paste for a canvas that may have an alpha channel of its own: (64, 64, 3 or 4)."""
    px = rgba.shape[0]
    left, top = round(x * SIDE - px / 2), round(y * SIDE - px / 2)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + px, SIDE), min(top + px, SIDE)
    part = rgba[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32)
    under = canvas[y0:y1, x0:x1]
    under *= 1 - part[..., 3:] / 255
    under += part[..., : canvas.shape[-1]]


def parts(scene: Scene, rng: random.Random) -> tuple[np.ndarray, np.ndarray, list[bool]]:
    """A scene as what stands behind, uint8 (64, 64, 3), a layer of things to be spoiled, premultiplied uint8
    (64, 64, 4), and which of three slots are in the layer: one thing, or all of them."""
    place = _place(scene.place or "grass", scene.time or "day", int(rng.random() * 16), SIDE)
    behind, layer = place.copy(), np.zeros((SIDE, SIDE, 4), dtype=np.float32)
    placed = layout(scene, rng)  # far things first; slots go by x or by y
    axis, n = int(scene.arrangement == "column"), len(placed)
    order = sorted(range(n), key=lambda k: placed[k][1][axis])
    chosen = int(rng.random() * n) if rng.random() < 0.6 else None
    for k, (thing, (x, y, scale)) in enumerate(placed):
        spoiled = chosen is None or order[chosen] == k
        rgba = _sprite(thing.key, scene.style or "3d", thing.colour, scale, SIDE)
        _lay(layer if spoiled else behind, rgba, x, y)
    which = [slot < n and (chosen is None or slot == chosen) for slot in range(3)]
    return (behind + 0.5).astype(np.uint8), (layer + 0.5).astype(np.uint8), which


# --- in batches ---------------------------------------------------------------------------------


def blur(x: Tensor, sigma: Tensor | float) -> Tensor:
    """Gaussian blur of (B, C, 64, 64) with a σ of its own, in pixels, for each picture."""
    f = torch.fft.fftfreq(x.shape[-1], device=x.device)
    g = torch.fft.rfftfreq(x.shape[-1], device=x.device)
    squared = f[:, None] ** 2 + g[None] ** 2
    sigma = torch.as_tensor(sigma, device=x.device).reshape(-1, 1, 1, 1)
    response = torch.exp(-2 * math.pi**2 * sigma**2 * squared)
    return torch.fft.irfft2(torch.fft.rfft2(x) * response, s=x.shape[-2:])


def sample(x: Tensor, flow: Tensor) -> Tensor:
    """x (B, C, 64, 64) read at each pixel + flow (B, 2, 64, 64), in pixels; outside is its border."""
    at = (torch.arange(SIDE, device=x.device) * 2 + 1) / SIDE - 1
    grid = torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1)  # (64, 64, 2): x, y
    moved = grid + flow.permute(0, 2, 3, 1) * (2 / SIDE)
    return F.grid_sample(x, moved, align_corners=False, padding_mode="border")


def uniform(like: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(len(like), 1, 1, 1, device=like.device)


def smooth(like: Tensor, channels: int, cells: int) -> Tensor:
    """Smooth noise of unit variance, (B, channels, 64, 64), with `cells` values to a side."""
    z = torch.randn(len(like), channels, cells, cells, device=like.device)
    z = F.interpolate(z, size=(SIDE, SIDE), mode="bicubic", align_corners=False)
    return z / z.std(dim=(1, 2, 3), keepdim=True).clamp(min=0.1)


class Layer:
    """Layers (B, 4, 64, 64) of things, premultiplied, in [0, 1], with a layer of another thing for each, laid
    over the same box; `every` (B,): all of the scene's things are in it, and no part may stay as it is."""

    def __init__(self, x: Tensor, other: Tensor, box: Tensor, every: Tensor) -> None:
        self.x, self.other, self.box, self.every = x, other, box, every
        self.px = box[:, 2].reshape(-1, 1, 1, 1)  # the box's longer side, in pixels
        self.score = x.new_zeros(len(x))  # of what the finished picture can't tell

    def part(self, index: slice) -> Layer:
        some = Layer(self.x[index], self.other[index], self.box[index], self.every[index])
        some.score = self.score[index]
        return some

    def mask(self, cells: int = 3) -> Tensor:
        """Soft and about half of the picture, (B, 1, 64, 64); of no shape where every thing is meant."""
        soft = torch.sigmoid(smooth(self.x, 1, cells) * uniform(self.x, 2, 12))
        return torch.where(self.every[:, None, None, None], uniform(self.x, 0.4, 0.8), soft)


def valid(x: Tensor) -> Tensor:
    """Alpha in [0, 1], and no colour above it."""
    alpha = x[:, 3:].clamp(0, 1)
    return torch.cat([torch.minimum(x[:, :3].clamp(min=0), alpha), alpha], dim=1)


def opaque(x: Tensor) -> Tensor:
    """Colours that go on outside of the outline, (B, 3, 64, 64)."""
    wide = blur(x, 2.5)
    wide = wide[:, :3] / wide[:, 3:].clamp(min=0.02)
    return x[:, :3] + (1 - x[:, 3:]) * wide.clamp(0, 1)


def flow(layer: Layer, coarse: float, high: float, steps: bool = False) -> Tensor:
    """A flow of several octaves, with a root mean square of up to `high` per cent of the box's side.

    It is scored by its size: warps move edges by a pixel that no one misses.
    """
    x, total = layer.x, 0.0
    for k, cells in enumerate((5, 9, 18, 32)):
        weight = torch.rand(len(x), 1, 1, 1, device=x.device) ** 2 * coarse**k
        if steps:
            z = torch.randn(len(x), 2, cells, cells, device=x.device)
            total = total + weight * F.interpolate(z, size=(SIDE, SIDE))
        else:
            total = total + weight * smooth(x, 2, cells)
    total = total / total.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-3)
    dose = torch.rand(len(x), 1, 1, 1, device=x.device)
    rms = dose * high / 100 * layer.px  # in pixels
    total = total * rms
    strain = (total.diff(dim=-1).square().mean(dim=(1, 2, 3)) * 2).sqrt()
    share = rms.flatten() / layer.px.flatten()
    layer.score = torch.maximum(layer.score, 12 * share * (strain / 0.5).clamp(max=1.5).sqrt())
    return total


def torn(layer: Layer) -> Tensor:
    return sample(layer.x, flow(layer, 1.0, 7))


def bent(layer: Layer) -> Tensor:
    return sample(layer.x, flow(layer, 0.3, 14))


def shuffled(layer: Layer) -> Tensor:
    return sample(layer.x, flow(layer, 0.7, 10, steps=True))


def smeared(layer: Layer) -> Tensor:
    return blur(layer.x, uniform(layer.x, 0.4, 4.5) * layer.px / 45)


def pixelled(layer: Layer) -> Tensor:
    """The information of k×k pixels, enlarged again."""
    parts = []
    for k, x in zip((8, 10, 12, 14, 16, 20, 26, 40), layer.x.chunk(8), strict=False):
        mode = "bilinear" if torch.rand(()) < 0.6 else "bicubic"
        small = F.interpolate(x, size=(k, k), mode="area")
        parts.append(F.interpolate(small, size=(SIDE, SIDE), mode=mode, align_corners=False))
    return torch.cat(parts)


def melted(layer: Layer) -> Tensor:
    """Medians of medians: lumps with hard edges."""
    parts = []
    for times, x in zip((1, 2, 4, 7), layer.x.chunk(4), strict=False):
        for _ in range(times):
            near = F.unfold(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5)
            x = near.view(len(x), 4, 25, SIDE * SIDE).median(dim=2).values.view(x.shape)
        parts.append(x)
    return torch.cat(parts)


def lumps(layer: Layer) -> Tensor:
    """Blurred, then hardened: alpha and light cut into few steps with soft borders."""
    soft = blur(layer.x, uniform(layer.x, 1, 4) * layer.px / 45)
    soft = soft + 0.12 * uniform(soft, 0, 1) * smooth(soft, 1, 24) * soft[:, 3:]
    levels = torch.randint(2, 6, (len(soft), 1, 1, 1), device=soft.device)
    colour = soft[:, :3] / soft[:, 3:].clamp(min=0.02)
    scaled = colour.clamp(0, 1) * levels
    whole = scaled.floor()
    hard = (whole + torch.sigmoid((scaled - whole - 0.5) * 10)) / levels
    alpha = torch.sigmoid((soft[:, 3:] - 0.5) * 10)
    share = uniform(soft, 0.3, 1)
    return torch.cat([(share * hard + (1 - share) * colour) * alpha, alpha], dim=1)


def morphed(layer: Layer) -> Tensor:
    m = layer.mask()
    return m * layer.x + (1 - m) * layer.other


def blended(layer: Layer) -> Tensor:
    a = uniform(layer.x, 0, 0.6)
    return (1 - a) * layer.x + a * layer.other


def hybrid(layer: Layer) -> Tensor:
    """What is coarse is right, what is fine is another's."""
    sigma = uniform(layer.x, 0.6, 3.2) * layer.px / 45
    fine = layer.other - blur(layer.other, sigma)
    inside = layer.x[:, 3:] * (1 - uniform(layer.x, 0, 1)) + uniform(layer.x, 0, 1)
    return blur(layer.x, sigma) + fine * inside.clamp(max=1) * uniform(layer.x, 0.6, 1.3)


def scattered(layer: Layer) -> Tensor:
    """As much of what is fine as before, but its phases are noise's."""
    spectrum = torch.fft.rfft2(layer.x)
    noise = torch.fft.rfft2(torch.randn_like(layer.x[:, :1]))
    sigma = uniform(layer.x, 0.5, 3.5) * layer.px / 45
    coarse = blur(layer.x, sigma)
    other = torch.fft.irfft2(spectrum.abs() * torch.exp(1j * noise.angle()), s=layer.x.shape[-2:])
    fine = (other - blur(other, sigma)) * blur(layer.x[:, 3:], 1.5).clamp(0, 1)
    return coarse + fine * uniform(layer.x, 0.5, 2.5)


def blotched(layer: Layer) -> Tensor:
    """Strokes and blotches of the object's own colours over its inside."""
    strokes = sample(layer.x, smooth(layer.x, 2, 9) * layer.px / 5)
    m = torch.sigmoid((smooth(layer.x, 1, 18) + uniform(layer.x, -1.5, 1)) * 8)
    m = m * blur(layer.x[:, 3:], 1).clamp(0, 1)
    return (1 - m) * layer.x + m * strokes


def noisy(layer: Layer) -> Tensor:
    noise = blur(torch.randn_like(layer.x[:, :3]), uniform(layer.x, 0.5, 2.2))
    noise = noise / noise.std(dim=(1, 2, 3), keepdim=True)
    colour = opaque(layer.x) + noise * uniform(layer.x, 0, 0.35)
    edge = blur(torch.randn_like(layer.x[:, 3:]), 1.2) * uniform(layer.x, 0, 4)
    alpha = torch.sigmoid((blur(layer.x[:, 3:], 0.7) - 0.5 + edge * 0.3) * 9)
    alpha = torch.where(torch.rand_like(alpha[:, :, :1, :1]) < 0.5, alpha, layer.x[:, 3:])
    return torch.cat([colour.clamp(0, 1) * alpha, alpha], dim=1)


def recoloured(layer: Layer) -> Tensor:
    """Its channels mixed anew in some of its parts."""
    turn = torch.eye(3, device=layer.x.device) + 0.6 * torch.randn(
        len(layer.x), 3, 3, device=layer.x.device
    )
    turn = turn / turn.sum(dim=2, keepdim=True).clamp(min=0.5)
    mixed = torch.einsum("bij,bjhw->bihw", turn, layer.x[:, :3])
    m = layer.mask(5)
    colour = (1 - m) * layer.x[:, :3] + m * mixed
    return torch.cat([colour, layer.x[:, 3:]], dim=1)


def cut(layer: Layer) -> Tensor:
    return layer.x * layer.mask()


def outlined(layer: Layer) -> Tensor:
    """Its colours, smeared, in another's outline."""
    colour = opaque(blur(layer.x, uniform(layer.x, 0.5, 3)))
    return torch.cat([colour * layer.other[:, 3:], layer.other[:, 3:]], dim=1)


def doubled(layer: Layer) -> Tensor:
    """Seen twice, a little apart."""
    angle = uniform(layer.x, 0, 2 * math.pi)
    way = torch.cat([angle.cos(), angle.sin()], dim=1) * uniform(layer.x, 0.02, 0.25) * layer.px
    again, a = sample(layer.x, way.expand(-1, 2, SIDE, SIDE)), uniform(layer.x, 0.2, 0.5)
    return (1 - a) * layer.x + a * again


Kind = Callable[[Layer], Tensor]
KINDS: tuple[Kind, ...] = (
    torn,
    torn,
    torn,
    bent,
    shuffled,
    smeared,
    pixelled,
    melted,
    lumps,
    morphed,
    blended,
) + (hybrid, hybrid, scattered, blotched, blotched, noisy, recoloured, cut, outlined, doubled)
MOVES: tuple[Kind, ...] = (torn, bent, shuffled)


def _box(x: Tensor) -> Tensor:
    """Middle x, middle y and longer side of each layer's things, in pixels, (B, 3)."""
    at = torch.arange(SIDE, device=x.device, dtype=x.dtype) + 0.5
    middles, sides = [], []
    for dim in (1, 2):  # columns that hold something, then rows
        there = x[:, 3].amax(dim=dim) > 0.15
        low = torch.where(there, at, float(SIDE)).amin(dim=1)
        high = torch.where(there, at, 0.0).amax(dim=1)
        middles.append((low + high) / 2)
        sides.append(high - low)
    return torch.stack([*middles, torch.maximum(*sides).clamp(min=8) + 1], dim=1)


def _others(x: Tensor, box: Tensor, names: Tensor) -> Tensor:
    """For each layer that of another object of like colours, moved and scaled onto its box."""
    colour = x[:, :3].sum(dim=(2, 3)) / x[:, 3:].sum(dim=(2, 3)).clamp(min=1)
    far = torch.cdist(colour, colour) + 9.0 * (names[:, None] == names[None])
    near = far.topk(min(8, len(x)), largest=False).indices
    chosen = near[torch.arange(len(x)), torch.randint(near.shape[1], (len(x),))]
    theirs = box[chosen]
    scale = theirs[:, 2] / box[:, 2]
    theta = x.new_zeros(len(x), 2, 3)
    for axis in range(2):
        theta[:, axis, axis] = scale
        own, their = (b[:, axis] * 2 / SIDE - 1 for b in (box, theirs))
        theta[:, axis, 2] = their - own * scale
    grid = F.affine_grid(theta, [len(x), 4, SIDE, SIDE], align_corners=False)
    return F.grid_sample(x[chosen], grid, align_corners=False)


def score(clean: Tensor, spoiled: Tensor, where: Tensor) -> Tensor:
    """How much of the object is gone, (B,): the squared error of what is finer than 16×16, as a share of it;
    or that of everything, as a share of the object's contrast, where that is more."""
    where = F.max_pool2d(where, 5, stride=1, padding=2)
    fine, other = clean - blur(clean, 2.0), spoiled - blur(spoiled, 2.0)

    def total(z: Tensor) -> Tensor:
        return (z.square() * where).sum(dim=(1, 2, 3))

    middle = (clean * where).sum(dim=(2, 3), keepdim=True) / where.sum(dim=(2, 3), keepdim=True)
    high = total(fine - other) / total(fine).clamp(min=1e-3)
    return torch.maximum(high, total(clean - spoiled) / total(clean - middle).clamp(min=1e-3))


def _round(layer: Layer, under: Tensor, kinds: Sequence[Kind]) -> tuple[Tensor, Tensor]:
    """Each kind of harm, done to its share of the layers: what they become, and the scores."""
    n, became, weight, moved = len(layer.x), [], layer.x.new_ones(len(layer.x)), layer.score
    for k, kind in enumerate(kinds):
        index = slice(k * n // len(kinds), (k + 1) * n // len(kinds))
        some = layer.part(index)
        became.append(kind(some) if len(some.x) else some.x)
        weight[index] = 0.0 if kind in MOVES else 0.5 if kind is recoloured else 1.0
        moved[index] = some.score
    x = valid(torch.cat(became))
    local = (torch.rand(n, device=x.device) < 0.3) & ~layer.every & (weight > 0)
    m = torch.where(local[:, None, None, None], layer.mask(), 1.0)  # in a part of the object only
    x = m * x + (1 - m) * layer.x
    before, after, other = (over(under, z) for z in (layer.x, x, layer.other))
    measured = score(before, after, torch.maximum(layer.x[:, 3:], x[:, 3:]))
    theirs = score(other, after, torch.maximum(layer.other[:, 3:], x[:, 3:]))
    # what has become the other object is not unknown: it is not trained
    measured = torch.where(theirs < GONE, measured.clamp(max=(MILD + GONE) / 2), measured)
    return x, torch.maximum(moved, measured * weight)


def over(under: Tensor, x: Tensor) -> Tensor:
    return under * (1 - x[:, 3:]) + x[:, :3]


def harmless(images: Tensor) -> Tensor:
    """What a good picture may have, too, in [0, 1]: a little blur, noise, another gain, half a pixel's shift."""

    def some(share: float) -> Tensor:
        return (torch.rand(len(images), 1, 1, 1, device=images.device) < share).float()

    images = blur(images, (some(0.3) * uniform(images, 0.1, 0.55)).clamp(min=1e-3))
    shift = some(0.3) * (torch.rand(len(images), 2, 1, 1, device=images.device) * 2 - 1)
    images = sample(images, shift.expand(-1, 2, SIDE, SIDE))
    images = 0.5 + (images - 0.5) * (1 + some(0.3) * uniform(images, -0.08, 0.08))
    images = images + some(0.3) * 0.04 * torch.randn(len(images), 3, 1, 1, device=images.device)
    n = len(images) // 12
    for index in (
        slice(0, n),
        slice(len(images) - n, None),
    ):  # some of the real, some of the spoiled
        small = F.interpolate(images[index], size=(48, 48), mode="bilinear", antialias=True)
        images[index] = F.interpolate(small, size=(SIDE, SIDE), mode="bilinear")
    grain = blur(torch.randn_like(images), some(0.5) * 0.8 + 1e-3)
    return images + some(0.7) * uniform(images, 0, 0.025) * grain


def spoil(
    behind: Tensor, layer: Tensor, names: Tensor, every: Tensor, share: float = 0.55
) -> tuple[Tensor, Tensor]:
    """behind (B, 3, 64, 64), layer (B, 4, 64, 64) in [0, 1], names (B,) of what is in the layer, every (B,): is it
    all of the scene → pictures (B, 3, 64, 64) in [−1, 1] and scores (B,). The last `share` of them are spoiled."""
    first = round(len(layer) * (1 - share))
    box = _box(layer)
    worn = torch.rand(len(behind), device=behind.device) < 0.2  # a place may be as bad as it likes
    tired = blur(
        sample(behind, smooth(behind, 2, 18) * uniform(behind, 0, 2)), uniform(behind, 0.1, 1.5)
    )
    under = torch.where(worn[:, None, None, None], tired, behind)
    whole = Layer(layer, _others(layer, box, names), box, every)
    bad, beneath = whole.part(slice(first, None)), under[first:]
    bad.x, bad.score = _round(bad, beneath, KINDS)
    mixed = torch.randperm(len(bad.x), device=layer.device)
    twice = mixed[: int(0.4 * len(mixed))]
    again = Layer(bad.x[twice], bad.other[twice], bad.box[twice], bad.every[twice])
    again.score = bad.score[twice]
    bad.x[twice], bad.score[twice] = _round(again, beneath[twice], random.sample(KINDS, 7))
    crisp = uniform(bad.x, 0, 1.5) * (uniform(bad.x, 0, 1) < 0.35)
    bad.x = valid(bad.x + crisp * (bad.x - blur(bad.x, 0.9)))
    images = torch.cat([over(under, layer)[:first], over(beneath, bad.x)])
    return harmless(images) * 2 - 1, torch.cat([layer.new_zeros(first), bad.score])
