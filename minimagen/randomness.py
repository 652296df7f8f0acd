"""Randomness: every random number of sampling and of training comes from a seed, by the streams named here.

A generator on the CPU (mt19937) uses only 32 bits of its seed, one on CUDA (Philox) 64. Sampling, on the CPU,
uses all 2³² of them; training numbers its own streams from 0 on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .errors import UserError

# Sampling: an image has eight streams. Stage k of the cascade starts from stream 2k, the noise in its
# low-resolution image is stream 2k + 1, and the noise of all steps of ddpm is stream 6.
STREAMS = 8
ANCESTRAL = 6
MAX_SEED = 2**32 // STREAMS - 1


def seeded_noise(seeds: Sequence[int], shape: Sequence[int], stream: int = 0) -> Tensor:
    """Standard normal noise (B, *shape) for sampling: row i depends on seeds[i] and the stream (0 to 7) alone.

    It is drawn on the CPU, so it is the same on every device. Raises UserError for a seed outside
    [0, MAX_SEED], where seeds would repeat one another.
    """
    rows = [torch.randn(*shape, generator=_generator_of(seed, stream)) for seed in seeds]
    return torch.stack(rows)


def ancestral_noise(seeds: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """A noise sampler for ddpm: x (B, …) → new noise of its shape at each call, row i by seeds[i] alone."""
    generators = [_generator_of(seed, ANCESTRAL) for seed in seeds]

    def sample(like: Tensor) -> Tensor:
        rows = [torch.randn(like.shape[1:], generator=g) for g in generators]
        return torch.stack(rows).to(like)

    return sample


def _generator_of(seed: int, stream: int) -> torch.Generator:
    if not 0 <= seed <= MAX_SEED:
        raise UserError(f"a seed is a whole number from 0 to {MAX_SEED}, not {seed}")
    return torch.Generator().manual_seed(int(seed) * STREAMS + stream)


def step_seed(seed: int, step: int, stream: int = 0) -> int:
    """The seed of a training step's generator, by (seed, step, stream); stream 0: the diffusion, 1: the text."""
    return ((seed * 1_000_003 + step) * 2 + stream) % 2**63


def pool_generator(seed: int, step: int) -> torch.Generator:
    """The generator, on the CPU, that chooses a training step's images from a pool: none of the streams above.

    It is that of a step a billion steps on: of the seed's 32 bits that are read, the highest is another.
    """
    return torch.Generator().manual_seed((step_seed(seed, step) + 2**31) % 2**63)


@dataclass(frozen=True)
class TrainingNoise:
    """All random numbers that a stage's loss takes, for B images; uniform in [0, 1) or standard normal.

    None where the stage has no use for them.
    """

    drop: Tensor  # (B,) uniform: is the caption dropped?
    t: Tensor  # (B,) uniform: the diffusion time
    eps: Tensor  # (B, 3, H, W) normal: the noise in x_t
    crop: Tensor | None = None  # (B, 2) uniform: the corner of the crop
    aug_level: Tensor | None = None  # (B,) uniform: the level of noise-conditioning augmentation
    aug_eps: Tensor | None = None  # (B, 3, H/4, W/4) normal: the noise in the low-resolution image

    @classmethod
    def draw(
        cls,
        batch: int,
        resolution: int,
        generator: torch.Generator | None = None,
        *,
        crop: bool = False,
        low_res: bool = False,
    ) -> TrainingNoise:
        """For a batch of images of resolution × resolution (after cropping), on the generator's device."""
        device = generator.device if generator is not None else torch.device("cpu")

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        def normal(side: int) -> Tensor:
            return torch.randn(batch, 3, side, side, generator=generator, device=device)

        drop = uniform(batch)
        corner = uniform(batch, 2) if crop else None
        aug_level = uniform(batch) if low_res else None
        aug_eps = normal(resolution // 4) if low_res else None
        return cls(drop, uniform(batch), normal(resolution), corner, aug_level, aug_eps)

    def _map(self, change: Callable[[Tensor], Tensor]) -> TrainingNoise:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: change(v) for k, v in values.items() if v is not None})

    def __getitem__(self, part: slice) -> TrainingNoise:
        """The numbers of some of the images."""
        return self._map(lambda z: z[part])

    def to(self, like: Tensor) -> TrainingNoise:
        """On the device and in the dtype of another tensor."""
        return self._map(lambda z: z.to(like))
