"""A mixture of Gaussians, one a class: its parameters, which may be any that bytes can hold."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cfgbench.errors import UserError

ROOM = 5
"""Standard deviations of each coordinate that [-1, 1] has to hold: what lies outside cannot be written in bytes."""
STEP = 2 / 255
"""Of a coordinate in bytes: what varies by less is not a Gaussian any more once it is written."""


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
