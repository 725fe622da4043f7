"""scikit-learn's 1,797 scans of handwritten digits, 8x8, values 0..16: part of the library, no download."""

import functools
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from cfgbench.data.images import Images, chosen_of
from cfgbench.spec import Dataset

FILE = "datasets/data/digits.csv.gz"
"""Of scikit-learn's folder: what its load_digits reads."""


def load_digits(dataset: Dataset) -> Images:
    """8x8, grey, with 0..16 stretched to 0..255. Never flipped unless asked: a mirrored digit is none. Raises UserError
    for classes that there are not."""
    scans, digits = _scans()
    pixels = np.rint(scans * (255 / 16)).astype(np.uint8)[:, None]
    return chosen_of(dataset, pixels, digits, [str(digit) for digit in range(10)])


@functools.cache
def _scans() -> tuple[np.ndarray, np.ndarray]:
    """Scans [n, 8, 8] in 0..16, and the digit of each [n]. The library, which takes over a second to import, is asked
    only where it keeps them in another place than we know."""
    library = find_spec("sklearn")
    if library and library.origin and (file := Path(library.origin).parent / FILE).is_file():
        numbers = np.loadtxt(file, delimiter=",", dtype=np.uint8)
        return numbers[:, :-1].reshape(-1, 8, 8), numbers[:, -1]
    from sklearn import datasets

    found = datasets.load_digits()
    return found.images, found.target
