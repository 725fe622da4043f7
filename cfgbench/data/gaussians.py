"""A mixture of Gaussians, one a class: the data set of which everything is known in closed form (paper, figure 2)."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cfgbench.data.images import Images, share
from cfgbench.errors import UserError, brief
from cfgbench.spec import Dataset

MEANS = ((0.0, 0.25), (-0.2165, -0.125), (0.2165, -0.125))
COVARIANCE = 0.14**2
"""What is taken where the file names none: three isotropic Gaussians on a circle, 3.1 deviations from each other."""
LIMIT = 3000
ROOM = 5
"""Standard deviations of each coordinate that [-1, 1] has to hold: what lies outside cannot be written in bytes."""
STEP = 2 / 255
"""Of a coordinate in bytes: what varies by less is not a Gaussian any more once it is written."""
MOST_CLASSES, MOST_DIMENSIONS = 1000, 256
MOST_NUMBERS, MOST_COORDINATES = 1 << 22, 1 << 24
"""Of all covariances together, and of all points that are drawn: 32 and 128 MB."""


@dataclass(frozen=True)
class Mixture:
    """Class c is N(means[c], covariances[c]) and has as large a share as any other: [K, d] and [K, d, d], float64.

    Raises UserError for what is no covariance, where [-1, 1] has no room for five standard deviations, and where one
    is smaller than the step of a byte.
    """

    means: np.ndarray
    covariances: np.ndarray

    def __post_init__(self) -> None:
        assert self.means.dtype == self.covariances.dtype == np.float64
        assert self.covariances.shape == (*self.means.shape, self.means.shape[-1])
        for c, (mean, covariance) in enumerate(zip(self.means, self.covariances, strict=True)):
            _check_covariance(covariance, c)
            _check_room(mean, covariance, c)

    @property
    def num_classes(self) -> int:
        return len(self.means)

    @property
    def dimensions(self) -> int:
        return self.means.shape[1]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all parameters, 64 hex digits."""
        whole = hashlib.sha256(repr(self.means.shape).encode())
        whole.update(np.ascontiguousarray(self.means).data)
        whole.update(np.ascontiguousarray(self.covariances).data)
        return whole.hexdigest()

    @property
    def mean(self) -> np.ndarray:
        """Of the whole mixture, [d]."""
        return self.means.mean(axis=0)

    @property
    def covariance(self) -> np.ndarray:
        """Of the whole mixture, [d, d]: the mean covariance inside the classes, and that of their means."""
        between = self.means - self.mean
        return self.covariances.mean(axis=0) + between.T @ between / self.num_classes


def load_gaussians(dataset: Dataset) -> Images:
    """Exact draws of the mixture that `means` and `covariance` describe, as images [1, 1, d], and the mixture.

    They are `limit` in all, evenly of each class, the same on every machine. Raises UserError.
    """
    mixture = mixture_of(dataset.means, dataset.covariance)
    limit = LIMIT if dataset.limit is None else dataset.limit
    if limit * mixture.dimensions > MOST_COORDINATES:
        most = MOST_COORDINATES // mixture.dimensions
        raise UserError(f"dataset.limit = {limit}: at most {most:,} points of {mixture.dimensions} dimensions")
    counts = share(limit, [limit] * mixture.num_classes)
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


def _check_covariance(covariance: np.ndarray, c: int) -> None:
    where, largest = f"dataset.covariance of class {c}", np.abs(covariance).max()
    scaled = covariance / largest if largest > 0 else covariance  # what may be too large to be squared is 1 at most
    if np.abs(scaled - scaled.T).max() > 1e-12:
        raise UserError(f"{where}: not symmetric; write the same number at [i][j] and [j][i]")
    smallest = np.linalg.eigvalsh(scaled)[0]
    if not smallest > len(scaled) * np.finfo(float).eps:
        raise UserError(f"{where}: not positive definite; take larger variances, or smaller numbers beside them")
    if smallest * largest < STEP**2:
        deviation = np.sqrt(smallest * largest)
        raise UserError(
            f"{where}: its standard deviation along one direction is {deviation:.2g}, where points are written in "
            f"steps of {STEP:.2g}; make means and deviations larger"
        )


def _check_room(mean: np.ndarray, covariance: np.ndarray, c: int) -> None:
    reach = (np.abs(mean) + ROOM * np.sqrt(covariance.diagonal())).max()
    if not reach <= 1:
        raise UserError(
            f"dataset.means[{c}]: with {ROOM} standard deviations (dataset.covariance) it reaches {reach:.3g}, where "
            "points live in [-1, 1]; make means and deviations smaller"
        )


def _draws(mixture: Mixture, labels: np.ndarray) -> np.ndarray:
    """A point [n, d] of each label's class."""
    generator = np.random.Generator(np.random.Philox(0))
    normals = generator.standard_normal((len(labels), mixture.dimensions))
    factors = np.linalg.cholesky(mixture.covariances)  # unlike eigenvectors the same with every library
    points = np.empty_like(normals)
    for c, (mean, factor) in enumerate(zip(mixture.means, factors, strict=True)):
        points[labels == c] = mean + normals[labels == c] @ factor.T
    return points
