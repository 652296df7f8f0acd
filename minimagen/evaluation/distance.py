"""Fréchet distance between two sets of features."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Between Gaussians fitted to two sets of features, (N, D) and (M, D) (Heusel et al. 2017).

    |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½). It is 0 for equal sets, and grows as N falls: compare
    equal numbers only, and name the features.
    """
    a, b = a.double(), b.double()
    covariance_a, covariance_b = (torch.cov(z.T).reshape(z.shape[1], -1) for z in (a, b))  # (D, D)
    # (Σ_a Σ_b)^½ has the roots of its eigenvalues, which are real and ≥ 0 but for rounding
    roots = torch.linalg.eigvals(covariance_a @ covariance_b).real.clamp(min=0).sqrt()
    distance = (a.mean(0) - b.mean(0)).square().sum() - 2 * roots.sum()
    return float(distance + covariance_a.trace() + covariance_b.trace())
