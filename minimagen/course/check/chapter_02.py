"""Exercises of chapter 02: denoising."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from ...diffusion import Schedule, alpha_sigma, append_dims, training_target

__all__ = ["copies", "which_target", "strange_loss", "what_is_strange"]


def copies(shares: dict[int, float | None]) -> None:
    """Exercise 02.1: training pictures → share of drawings that are nearer to those than to others."""
    title = "copies"
    if missing := [str(n) for n, share in shares.items() if share is None]:
        raise AssertionError(f"{title}: no share yet for {', '.join(missing)} pictures")
    known = {n: float(share) for n, share in shares.items() if share is not None}
    if len(known) < 3:
        raise AssertionError(f"{title}: three numbers of pictures are asked for")
    if any(not 0 <= share <= 1 for share in known.values()):
        raise AssertionError(f"{title}: a share lies between 0 and 1")
    few, many = min(known), max(known)
    if known[few] < 0.9:
        raise AssertionError(
            f"{title}: with {few} pictures nearly every drawing is a copy; was the network trained on those alone, "
            "and are the others as many?"
        )
    if known[many] >= known[few]:
        raise AssertionError(
            f"{title}: with {many} pictures there should be fewer; did each number get a new network?"
        )
    print(f"✓ {title}: the fewer pictures, the more copies")


def which_target(errors: dict[str, float | None]) -> None:
    """Exercise 02.2: the error of the picture at t = 0.5 of a small network asked for x_0, eps and v."""
    title = "which target a small network can say"
    if missing := [k for k in ("x_0", "eps", "v") if errors.get(k) is None]:
        raise AssertionError(f"{title}: no error yet for {', '.join(missing)}")
    values = {k: float(v) for k, v in errors.items() if v is not None}
    if not all(math.isfinite(v) and v > 0 for v in values.values()):
        raise AssertionError(f"{title}: an error is a positive number")
    if max(values.values()) > 5:
        raise AssertionError(f"{title}: so large an error comes from forgetting to_x_0")
    if min(values, key=lambda k: values[k]) != "x_0":
        raise AssertionError(
            f"{title}: x_0 should do best; did each network get as many steps, and its own target?"
        )
    print(f"✓ {title}")


def strange_loss(
    network: Callable[[Tensor, Tensor], Tensor],
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    schedule: Schedule,
    target: str = "x_0",
) -> Tensor:
    """Exercise 02.3: called like diffusion_loss; there is one mistake in it."""
    log_snr = schedule(t)  # (B,)
    alpha, sigma = alpha_sigma(append_dims(log_snr, x_0))
    x_t = alpha * x_0 + sigma**2 * eps
    return (network(x_t, log_snr) - training_target(x_0, eps, log_snr, target)).square().mean()


_STRANGE = {  # what one could think, and what speaks against it
    "alpha and sigma swapped": "the picture is multiplied by α, as it should be: try eps = 0",
    "no sigma": "the noise is not left as it is: try x_0 = 0 at two times",
    "the network is told t": "the second thing that the spy is given is the log-SNR, as it should be",
    "the target is the noise": "a network that answers x_0 itself pays nothing: try one",
}


def what_is_strange(answer: str | None) -> None:
    """Exercise 02.3: the mistake in strange_loss."""
    title = "the strange loss"
    if answer is None:
        raise AssertionError(f"{title}: name the mistake first")
    if answer in _STRANGE:
        raise AssertionError(f"{title}: {_STRANGE[answer]}")
    if answer != "sigma squared":
        known = ", ".join(sorted((*_STRANGE, "sigma squared")))
        raise AssertionError(f"{title}: {answer!r} is none of {known}")
    print(f"✓ {title}")
