"""The order in which pictures are trained on."""

from __future__ import annotations

import math


def _kth_picture(k: int, n: int, seed: int) -> int:
    """Which of n pictures comes k-th: every one once an epoch, in mixed order, another one each epoch.

    A stride that shares no factor with n visits each picture once; the odd constants only mix.
    """
    epoch, place = divmod(k, n)
    stride = n // 3 + 7 * epoch + seed % 97 + 1
    while math.gcd(stride, n) > 1:
        stride += 1
    return (place * stride + epoch + seed * 7_919) % n
