"""Images: their sizes, ranges and rounding are held to formulas."""

import numpy as np
import pytest
import torch
from PIL import Image

from minimagen.images import downsample, grid, read_mask, to_pil, to_tensor, upsample


def bilinear(image, factor):
    """(H, W) → (factor H, factor W): pixel centres at (i + ½) / factor − ½, weights 1 − |distance|, edges kept."""

    def along(n):
        weights = np.zeros((n * factor, n))
        for i in range(n * factor):
            at = min(max((i + 0.5) / factor - 0.5, 0), n - 1)
            for j in range(n):
                weights[i, j] = max(0.0, 1 - abs(at - j))
        return weights

    return along(image.shape[0]) @ image @ along(image.shape[1]).T


@pytest.mark.parametrize("factor", (2, 4))
def test_upsampling_is_bilinear_about_pixel_centres(factor):
    x = torch.rand(2, 3, 5, 7, dtype=torch.float64) * 2 - 1
    expected = torch.stack(
        [torch.stack([torch.tensor(bilinear(c.numpy(), factor)) for c in image]) for image in x]
    )
    torch.testing.assert_close(upsample(x, factor), expected)


def test_upsampling_is_by_four_unless_told():
    assert upsample(torch.zeros(1, 3, 4, 4)).shape == (1, 3, 16, 16)


def test_downsampling_is_the_mean_of_each_square():
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    expected = x.reshape(2, 3, 2, 4, 2, 4).mean(dim=(3, 5))
    torch.testing.assert_close(downsample(x, 2), expected)


def test_to_pil_rounds_to_the_nearest_byte_and_clips():
    values = torch.tensor([-2.0, -1.0, -1 + 0.6 / 127.5, -0.002, 0.0, 1 - 0.6 / 127.5, 1.0, 3.0])
    image = values.reshape(1, 1, 1, 8).expand(1, 3, 1, 8)
    row = np.asarray(to_pil(image)[0])[0, :, 0].tolist()
    # 0.6 → 1, 127.245 → 127, 127.5 → 128 (to even), 254.4 → 254
    assert row == [0, 0, 1, 127, 128, 254, 255, 255]


def test_bytes_to_tensor_and_back_are_the_same_bytes():
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    picture[..., 1] = picture[..., 1].T
    x = to_tensor(picture)
    assert x.shape == (3, 16, 16) and x.min() == -1 and x.max() == 1
    assert np.array_equal(np.asarray(to_pil(x[None])[0]), picture)


def test_of_a_mask_what_is_nearer_to_white_is_white(tmp_path):
    for grey, white in ((255, True), (128, True), (126, False)):
        pair = Image.new("L", (2, 2), grey)
        pair.putpixel((0, 0), 255)
        pair.save(tmp_path / "mask.png")
        mask = read_mask(tmp_path / "mask.png", 2)
        assert mask[0, 0] and mask[1, 1] == white, grey


def test_a_grid_goes_row_by_row_with_four_white_pixels_between():
    colours = ["#000000", "#ff0000", "#00ff00", "#0000ff", "#888888"]
    sheet = grid([Image.new("RGB", (8, 8), c) for c in colours], None)
    assert sheet.size == (3 * 12 - 4, 2 * 12 - 4)
    assert sheet.getpixel((13, 1)) == (255, 0, 0) and sheet.getpixel((1, 13)) == (0, 0, 255)
    assert sheet.getpixel((9, 1)) == sheet.getpixel((30, 18)) == (255, 255, 255)
