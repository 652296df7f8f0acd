"""Less to train, fewer steps to take: low-rank adapters and distillation (chapters 12, 13)."""

from __future__ import annotations

from collections.abc import Callable

import facts
from cascade import unet
from kit import Canvas


def lora() -> Canvas:
    """A frozen matrix, and beside it two narrow ones that learn."""
    width, rank = facts.stage("base").config.unet.channels[-1], 4
    full, light = width * width, 2 * width * rank
    c = Canvas(
        336,
        "A low-rank adapter (LoRA)",
        f"The input x goes two ways. Above, through the frozen matrix W of {width} × {width} "
        f"numbers. Below, through A, which makes {rank} numbers of {width}, and B, which makes "
        f"{width} of {rank} again; only these two learn, {light:,} numbers in place of {full:,}. "
        "B starts at zero, so that at first nothing changes. Both ways are added.",
    )
    c.text(36, 157, "$x$", 20)
    c.line([(48, 150), (80, 150)], "pixels")
    c.arrow([(80, 150), (80, 84), (180, 84)], "pixels")
    c.arrow([(80, 150), (80, 226), (180, 226)], "pixels")
    # W, as large as it is beside A and B
    c.box(180, 32, 190, 104, "soft", style="square")
    c.text(275, 80, "$W$", 22)
    c.text(275, 106, f"frozen, {width} × {width}", 13.5, role="soft")
    c.box(180, 182, 26, 88, "look", style="square")
    c.text(193, 232, "$A$", 19)
    c.arrow([(206, 226), (332, 226)], "look")
    c.text(269, 216, f"{rank} numbers", 13.5)
    c.box(332, 182, 26, 88, "look", style="square")
    c.text(345, 232, "$B$", 19)
    c.text(193, 292, f"{width} → {rank}", 13, role="soft")
    c.text(345, 292, f"{rank} → {width}", 13, role="soft")
    c.text(345, 312, "starts at zero", 13, role="soft")
    c.arrow([(370, 84), (433, 84), (433, 136)], "pixels")
    c.arrow([(358, 226), (433, 226), (433, 164)], "look", bend=5)
    c.circle(433, 150, 13, "ink", "line", "+")
    c.arrow([(447, 150), (486, 150)], "pixels")
    c.text(496, 157, "$W x + B A x$", 19, "start")
    c.text(496, 214, "it learns", 14, "start", "look", bold=True)
    c.text(496, 235, f"{light:,} numbers", 14, "start")
    c.text(496, 256, f"in place of {full:,}", 14, "start", "soft")
    return c


def distillation() -> Canvas:
    """A student learns to land in one step where its teacher lands in many."""
    steps = facts.stage("base").config.steps
    many, few = steps // 2, 2
    c = Canvas(
        330,
        "Distillation",
        "Two ways from a noisy picture x_t to a cleaner one x_s. The teacher, frozen, takes "
        f"{many} small steps. The student takes one. The squared error between the two ends "
        f"teaches the student alone, dashed. A student of {few} steps does what its teacher does "
        f"in {steps}.",
    )
    x_0 = facts.scene(64)
    c.picture(24, 120, 64, facts.webp(facts.noised(x_0, 0.62), 45), "x_t", True, "noise")
    c.text(56, 206, "$x_t$", 17)
    c.line([(88, 140), (104, 140), (104, 76), (124, 76)], "soft")
    c.text(124, 40, "teacher", 15, "start", bold=True)
    c.text(198, 40, f"frozen, {many} steps", 13.5, "start", "soft")
    x = 124.0
    for k in range(6):
        if k == 3:  # and so on
            for dot in (10, 20, 30):
                c.circle(x + dot, 76, 2, "soft", "full")
        else:
            c.box(x, 58, 40, 36, "soft", style="square")
            unet(c, x + 6, 66, 28, 20, "soft")
        c.arrow([(x + 40, 76), (x + 58, 76)], "soft")
        x += 58
    c.picture(x, 44, 64, facts.webp(facts.noised(x_0, 0.25), 55), "where the teacher lands", True)
    c.text(x + 32, 34, "lands here", 13)
    c.line([(88, 168), (104, 168), (104, 240), (124, 240)], "pixels")
    c.text(124, 212, "student", 15, "start", "look", bold=True)
    c.text(200, 212, "one step", 13.5, "start", "soft")
    c.box(124, 222, 150, 44, "look")
    unet(c, 164, 230, 70, 28, "look")
    c.arrow([(274, 244), (x - 4, 244)], "look")
    c.picture(
        x,
        212,
        64,
        facts.webp(facts.noised(x_0, 0.3, 4), 55),
        "where the student lands",
        True,
        "look",
    )
    c.text(x + 32, 296, "and here", 13)
    middle = x + 32
    c.arrow([(middle, 110), (middle, 138)], "soft")
    c.arrow([(middle, 210), (middle, 182)], "look")
    c.box(middle - 62, 140, 150, 40, "wrong", "squared error", 14)
    c.line([(middle - 62, 160), (199, 160), (199, 186)], "wrong", "dash")
    c.arrow([(199, 186), (199, 192)], "wrong")
    c.text(330, 151, "teaches the student alone", 13.5, role="wrong")
    c.text(586, 250, f"{steps} → {few} steps", 15, "start", bold=True)
    return c


FIGURES: dict[str, Callable[[], Canvas]] = {"lora": lora, "distillation": distillation}
