"""Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 grey images of 28x28, ten classes, from its four IDX files."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from cfgbench.data.images import Images, chosen_of
from cfgbench.errors import UserError, reason
from cfgbench.files import open_regular
from cfgbench.spec import Dataset

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FILES = {"train": "train", "test": "t10k"}
NAMES = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
SIDE, PADDED = 28, 32
MOST = 1_000_000
"""Images in a file; the data set's own have 60,000."""


def load_fashion_mnist(dataset: Dataset) -> Images:
    """Side 28, or 32 with a black border. Never flipped unless asked: every shoe points to the left."""
    split = dataset.split or "train"
    if split not in FILES:
        raise UserError(f"dataset.split = {split}: should be one of {', '.join(FILES)}")
    side = dataset.resolution or SIDE
    if side not in (SIDE, PADDED):
        raise UserError(f"dataset.resolution = {side}: Fashion-MNIST has {SIDE}, or {PADDED} with a border")
    pixels = _read_idx(dataset, f"{FILES[split]}-images-idx3-ubyte.gz", 3)
    labels = _read_idx(dataset, f"{FILES[split]}-labels-idx1-ubyte.gz", 1).astype(np.int64)
    if pixels.shape[1:] != (SIDE, SIDE) or len(pixels) != len(labels) or labels.max(initial=0) >= len(NAMES):
        raise UserError(f"dataset.path: images {pixels.shape} and labels {labels.shape} are not Fashion-MNIST's")
    border = (side - SIDE) // 2
    pixels = np.pad(pixels[:, None], ((0, 0), (0, 0), (border, border), (border, border)))
    return chosen_of(dataset, pixels, labels, NAMES)


def _read_idx(dataset: Dataset, name: str, dimensions: int) -> np.ndarray:
    path = (dataset.path or DEBIAN) / name
    try:
        with open_regular(path) as packed, gzip.open(packed) as file:
            magic, *shape = struct.unpack(f">{1 + dimensions}i", file.read(4 + 4 * dimensions))
            if magic != 0x800 + dimensions or min(shape) < 1 or shape[0] > MOST or shape[1:] not in ([], [SIDE, SIDE]):
                raise ValueError(f"header {magic:#x} {shape}")  # before what it announces is inflated
            content = file.read(math.prod(shape) + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{path}: no such file; install Debian's package dataset-fashion-mnist (apt-get install "
            "dataset-fashion-mnist), or put the four files *-ubyte.gz in a folder and name it in dataset.path"
        ) from None
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({reason(error)}); make it readable") from None
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise UserError(f"{path}: not a whole IDX file ({reason(error)}); fetch it again") from None
    if len(content) != math.prod(shape):
        raise UserError(f"{path}: {len(content)} bytes where {math.prod(shape)} are announced; fetch it again")
    return np.frombuffer(content, np.uint8).reshape(shape)
