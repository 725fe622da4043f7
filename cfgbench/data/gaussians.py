"""A mixture of Gaussians, one a class: the data set of which everything is known in closed form (paper, figure 2)."""

from typing import Any

import numpy as np

from cfgbench.data.images import Images, counts_per_class
from cfgbench.data.mixture import Mixture
from cfgbench.errors import UserError, brief
from cfgbench.spec import Dataset

MEANS = ((0.0, 0.25), (-0.2165, -0.125), (0.2165, -0.125))
COVARIANCE = 0.14**2
"""What is taken where the file names none: three isotropic Gaussians on a circle, 3.1 deviations from each other."""
LIMIT = 3000
MOST_CLASSES, MOST_DIMENSIONS = 1000, 256
MOST_NUMBERS, MOST_COORDINATES = 1 << 22, 1 << 24
"""Of all covariances together, and of all points that are drawn: 32 and 128 MB."""


def load_gaussians(dataset: Dataset) -> Images:
    """Exact draws of the mixture that `means` and `covariance` describe, as images [1, 1, d], and the mixture.

    They are `limit` in all, evenly of each class, the same on every machine. Raises UserError.
    """
    mixture = mixture_of(dataset.means, dataset.covariance)
    limit = LIMIT if dataset.limit is None else dataset.limit
    if limit * mixture.dimensions > MOST_COORDINATES:
        most = MOST_COORDINATES // mixture.dimensions
        raise UserError(f"dataset.limit = {limit}: at most {most:,} points of {mixture.dimensions} dimensions")
    counts = counts_per_class(limit, [limit] * mixture.num_classes)
    labels = np.repeat(np.arange(mixture.num_classes), counts)
    pixels = np.rint((_draws(mixture, labels) + 1) * 127.5).clip(0, 255).astype(np.uint8)
    names = tuple(str(c) for c in range(mixture.num_classes))
    return Images("gaussians", pixels[:, None, None], labels, names, flips=False, mixture=mixture)


def mixture_of(means: list[list[float]] | None = None, covariance: Any = None) -> Mixture:
    """The mixture of a sweep file: `covariance` is a number, a matrix or a matrix a class. Raises UserError."""
    centres = _array("means", MEANS if means is None else means)
    if centres.ndim != 2:
        raise UserError("dataset.means: rows of unequal lengths; write a row of d coordinates for each class")
    classes, d = centres.shape
    if classes > MOST_CLASSES or d > MOST_DIMENSIONS or classes * d * d > MOST_NUMBERS:
        most = f"{MOST_CLASSES:,} classes, {MOST_DIMENSIONS} dimensions and {MOST_NUMBERS:,} numbers of covariances"
        raise UserError(f"dataset.means: {classes:,} classes in {d:,} dimensions; at most {most} are possible")
    given = _array("covariance", COVARIANCE if covariance is None else covariance)
    if given.shape not in ((), (d, d), (classes, d, d)):
        raise UserError(
            f"dataset.covariance: {_shape(given)}; write a number, a matrix of {d} x {d}, or {classes} such matrices"
        )
    matrices = given * np.eye(d) if given.ndim == 0 else given
    return Mixture(centres, np.array(np.broadcast_to(matrices, (classes, d, d))))


def _array(key: str, content: Any) -> np.ndarray:
    try:
        return np.array(content, dtype=np.float64)
    except (ValueError, OverflowError):  # rows of unequal lengths, or more levels than an array can have
        raise UserError(f"dataset.{key} = {brief(content)}: no array; its rows are of unequal lengths") from None


def _shape(array: np.ndarray) -> str:
    return " x ".join(map(str, array.shape[:6])) + " numbers"


def _draws(mixture: Mixture, labels: np.ndarray) -> np.ndarray:
    """A point [n, d] of each label's class."""
    generator = np.random.Generator(np.random.Philox(0))
    normals = generator.standard_normal((len(labels), mixture.dimensions))
    factors = np.linalg.cholesky(mixture.covariances)  # unlike eigenvectors the same with every library
    points = np.empty_like(normals)
    for c, (mean, factor) in enumerate(zip(mixture.means, factors, strict=True)):
        points[labels == c] = mean + normals[labels == c] @ factor.T
    return points
