"""Real images and the published network's weights, where this machine has them; and what takes their place."""

import os
import tempfile
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image

PHOTOS_VARIABLE = "CFGBENCH_BENCH_PHOTOS"
"""A folder or a zip of JPEG or PNG, a sub-folder a class."""
WEIGHTS_VARIABLE = "CFGBENCH_INCEPTION_WEIGHTS"


@lru_cache(maxsize=2)
def photographs(count: int, side: int) -> tuple[np.ndarray, str]:
    """Images [count, 3, side, side] uint8, evenly from the whole collection, and a sentence on what they are."""
    named = os.environ.get(PHOTOS_VARIABLE)
    if not named:
        return _smooth(count, side), f"Random smooth images: {PHOTOS_VARIABLE} names no photographs."
    source = Path(named)
    with _opened(source) as files:
        names = sorted(name for name in files.namelist() if name.lower().endswith((".jpeg", ".jpg", ".png")))
        chosen = [names[i * len(names) // count] for i in range(count)]
        images = np.stack([_read(files.read(name), side) for name in chosen])
    return images, f"{count:,} photographs of the {len(names):,} in {source.name}, at {side} x {side}."


class _Folder:
    """A folder, with the three methods of a zip that are needed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> "_Folder":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def namelist(self) -> list[str]:
        return [str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file()]

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()


def _opened(source: Path) -> "zipfile.ZipFile | _Folder":
    return _Folder(source) if source.is_dir() else zipfile.ZipFile(source)


def _read(content: bytes, side: int) -> np.ndarray:
    with Image.open(BytesIO(content)) as image:
        image = image.convert("RGB")
        return np.asarray(image.resize((side, side), Image.Resampling.BOX)).transpose(2, 0, 1)


def _smooth(count: int, side: int) -> np.ndarray:
    coarse = np.random.default_rng(0).uniform(0, 255, (count, 3, 4, 4)).astype(np.float32)
    fine = torch.nn.functional.interpolate(torch.from_numpy(coarse), size=(side, side), mode="bicubic")
    return fine.clamp(0, 255).byte().numpy()


def write_folder(folder: Path, images: np.ndarray, classes: int) -> None:
    """Image i as PNG in the sub-folder of class i % classes."""
    for i, pixels in enumerate(images):
        path = folder / f"class-{i % classes:02}" / f"{i:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(path)


def weights() -> tuple[Path, str]:
    """The network's weights, and a sentence on what they are; untrained ones where there are no others."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    if named:
        return Path(named), f"Weights: {Path(named).name}."
    return _untrained(), f"Untrained weights, whose FID means nothing: {WEIGHTS_VARIABLE} names no others."


def has_logits(path: Path) -> bool:
    """Whether these weights go to the end; some stop at layer 768, and the rest is no numbers."""
    return bool(torch.load(path, weights_only=True)["fc.weight"].isfinite().all())


@lru_cache
def _untrained() -> Path:
    from torch_fidelity import feature_extractor_inceptionv3 as module

    class Untrained(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: object, **__: object) -> None:
            """Keeps what it was built with."""

    with mock.patch.object(module, "load_state_dict_from_url", return_value={}):
        network = Untrained("untrained", ["768"])
    for parameter in network.parameters():
        if parameter.dim() == 4:  # with torch's own initial weights the signal fades within a few layers
            torch.nn.init.kaiming_normal_(parameter, generator=torch.Generator().manual_seed(0))
    path = Path(tempfile.mkdtemp(prefix="cfgbench-bench-")) / "untrained.pth"
    torch.save(network.state_dict(), path)
    return path


def batches(images: np.ndarray, size: int) -> Iterator[torch.Tensor]:
    """The images in order, so many at a time."""
    for first in range(0, len(images), size):
        yield torch.from_numpy(images[first : first + size])
