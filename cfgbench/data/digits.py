"""scikit-learn's 1,797 scans of handwritten digits, 8x8, values 0..16: part of the library, no download."""

import numpy as np

from cfgbench.data.images import Images, choose_classes, select
from cfgbench.spec import Dataset


def load_digits(dataset: Dataset) -> Images:
    from sklearn import datasets

    scans = datasets.load_digits()
    pixels = np.rint(scans.images * (255 / 16)).astype(np.uint8)[:, None]
    names = [str(digit) for digit in range(10)]
    chosen = choose_classes(dataset.classes, names)
    images, labels = select(pixels, scans.target.astype(np.int64), chosen, dataset.limit)
    return Images("digits", images, labels, tuple(names[i] for i in chosen), flips=bool(dataset.flip))
