"""What chapter 05 measures with."""

import torch
from torch import nn

from minimagen.course.race import (
    CENTRES,
    MODES,
    SPREAD,
    Watch,
    by_kind,
    on_ring,
    pictures,
    plane,
    ring,
)


def test_the_ring_has_eight_equal_clouds():
    torch.manual_seed(0)
    points = ring(8000)
    distance, mode = torch.cdist(points, CENTRES).min(dim=1)
    assert torch.allclose(CENTRES.norm(dim=1), torch.ones(8))
    assert (mode.bincount(minlength=8) - 1000).abs().max() < 150  # five standard deviations
    assert abs(distance.square().mean() / (2 * SPREAD**2) - 1) < 0.1
    clouds, share = on_ring(points)
    assert clouds == 8 and share > 0.998  # four standard deviations away: exp(−8)


def test_a_visit_is_a_tenth_of_the_fair_share():
    crowd, few = CENTRES[0].expand(900, 2), torch.cat([CENTRES[1:2]] * 12 + [CENTRES[2:3]] * 13)
    between = torch.zeros(75, 2)  # 1,000 points: a fair share is 125, a tenth of it 12.5
    clouds, share = on_ring(torch.cat([crowd, few, between]))
    assert clouds == 2 and abs(share - 0.925) < 1e-6
    assert on_ring(CENTRES + 0.25) == (0, 0.0)


def test_the_plane_shows_both_players():
    class Right(nn.Module):
        """Says "real" where the second coordinate, which runs to the right, is positive."""

        def forward(self, x):
            return 100 * x[:, 1:]

    class Far(nn.Module):
        def forward(self, z):
            return torch.full_like(z, 9.0)  # beyond the edge: the last pixel

    image = plane(Far(), Right(), n=40)
    assert image.shape == (3, 40, 40)
    assert (image[:, 39, 39] == -1).all() and (image == 1).all(0).sum() == 8 * 4
    left, right = image[:, 0, 0], image[:, 0, -1]
    assert left[0] > left[2] and right[2] > right[0]  # orange, blue


def test_the_pictures_are_the_twenty_kinds_in_turn():
    x, which = pictures(44, seed=0)
    assert len(set(MODES)) == 20 and which.tolist() == [*range(20), *range(20), *range(4)]
    assert x.shape == (44, 3, 16, 16) and x.min() >= -1 and x.max() <= 1
    assert [MODES[k][1] for k in range(8)] == ["grass", "beach", "snow", "space"] * 2
    again, other = pictures(44, seed=0)[0], pictures(44, seed=1)[0]
    assert torch.equal(again, x) and not torch.equal(other, x)
    darkness = x[:40].mean((1, 2, 3)).view(10, 4).mean(0)
    assert darkness[3] == darkness.min() and darkness[2] == darkness.max()  # space, snow


def test_watch_keeps_a_running_mean_losses_and_ten_looks():
    net = nn.Linear(1, 1, bias=False)
    watch = Watch(net, lambda mean, n: mean.module.weight.detach().expand(n, 1).clone(), steps=30)
    expected = None
    for step in range(30):
        nn.init.constant_(net.weight, step)
        watch(step, step, 2.0)
        expected = step if expected is None else 0.99 * expected + 0.01 * step
    assert watch.losses == [(step, 2.0) for step in range(30)]
    assert len(watch.looks) == 10 and watch.looks[-1].shape == (100, 1)
    assert abs(watch.looks[-1][0].item() - expected) < 1e-5
    assert net.weight.item() == 29


def test_bars_by_kind_show_the_mean_and_the_spread(monkeypatch):
    shown = []
    monkeypatch.setattr(
        "minimagen.course.race.figure", lambda drawn, alt, sharp: shown.append((drawn, alt))
    )
    counts = {
        "GAN": torch.stack([torch.arange(20), torch.arange(20) + 4]),
        "diffusion": torch.full((2, 20), 7),
    }
    by_kind(counts, "told")
    ((drawn, alt),) = shown
    first, second = drawn.axes
    assert alt == "told" and [axis.get_title() for axis in drawn.axes] == ["GAN", "diffusion"]
    places = [name for _, name in MODES[:4]]
    for k, (bars, place) in enumerate(zip(first.containers, places, strict=True)):
        assert bars.get_label() == place
        assert [bar.get_height() for bar in bars] == [k + 4 * thing + 2 for thing in range(5)]
        assert first.collections[k].get_segments()[0][:, 1].tolist() == [k, k + 4]
        assert [round(bar.get_center()[0]) for bar in bars] == list(range(5))
    assert [label.get_text() for label in second.get_xticklabels()] == [t for t, _ in MODES[::4]]
    assert len({bars.patches[0].get_facecolor() for bars in first.containers}) == 4
