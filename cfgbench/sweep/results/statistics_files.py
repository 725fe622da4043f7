"""Statistics as files: those that the results keep, and references, cfgbench's own, which name their extractor, and the
published ones, which do not."""

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from cfgbench import npz
from cfgbench.errors import UserError, brief, reason
from cfgbench.evaluation.statistics import LARGEST_DIMENSION, Moments
from cfgbench.files import identity, write_atomically

if TYPE_CHECKING:
    from cfgbench.sweep.results.store import Store

PUBLISHED = "inception-2048-"
"""What files with mu and sigma alone hold: pool features of the Inception network (ADM's, TTUR's, EDM's)."""
DIMENSIONS = 2048
FEATURES = "evaluation.features"
"""Where a sweep file names the extractor that its reference has to be of."""
LARGEST = 8 * LARGEST_DIMENSION**2 + 4096
"""Bytes of a covariance."""


def reference_id(content: str, features_id: str) -> str:
    """What names the statistics of images whose content has this hash, measured with that extractor."""
    return identity([content, features_id])


def is_statistics(path: Path) -> bool:
    """Whether there is an .npz with mu and sigma. Raises UserError for one that cannot be read."""
    return path.suffix.lower() == ".npz" and path.exists() and {"mu", "sigma"} <= npz.members(path).keys()


def maker_of(path: Path) -> str | None:
    """The id of the extractor that the file names, if it does. Raises UserError."""
    return str(npz.array(path, "features_id")) if "features_id" in npz.members(path) else None


class Source(NamedTuple):
    """Whose statistics they are: what names them, and in words."""

    id: str
    name: str


def save_statistics(path: Path, moments: Moments, features_id: str, source: Source | None = None) -> None:
    """Writes mu, sigma and n, as others read them, the extractor's id, and of a reference whose they are. Raises
    UserError."""
    whose = {} if source is None else {"reference_id": source.id, "reference": source.name}
    arrays = {"mu": moments.mean.numpy(), "sigma": moments.covariance.numpy(), "n": moments.n}
    _save(path, **arrays, features_id=features_id, **whose)


def _source_of(path: Path) -> Source | None:
    """What the file says of whose statistics it holds, if it does. Raises UserError."""
    if not {"reference_id", "reference"} <= npz.members(path).keys():
        return None
    source = Source(*(str(npz.array(path, key)) for key in ("reference_id", "reference")))
    if not re.fullmatch("[0-9a-f]{8,64}", source.id) or not source.name.isprintable() or len(source.name) > 200:
        raise UserError(f"{path}: reference_id or reference is none of cfgbench's; make it anew with --save-reference")
    return source


class Statistics(NamedTuple):
    """What a file holds, and of how many images, the id of the extractor that it names, and whose it says they are, if
    it does; `key` is where the one that measures is named: --features, or evaluation.features."""

    path: Path
    moments: Moments
    images: int | None
    maker: str | None
    source: Source | None
    key: str

    def made_with(self, features_id: str) -> Moments:
        """The moments, for samples measured with the extractor of this id. Raises UserError where they are of
        another."""
        if self.maker is None and not features_id.startswith(PUBLISHED):
            raise UserError(
                f"{self.path}: names no extractor, so its {DIMENSIONS} dimensions are taken for Inception's; "
                f"the samples' features are {features_id}; set {self.key} to inception"
            )
        if self.maker is not None and self.maker != features_id:
            wrong = f"made with the features {self.maker}, not with {features_id}; their FIDs do not compare"
            raise UserError(f"{self.path}: {wrong}")
        return self.moments


def load_statistics(path: Path, *, key: str) -> Statistics:
    """The statistics in a file; never unpickles. Raises UserError for a damaged file, and for one that no extractor can
    have made; `key` as `Statistics` has it."""
    names = npz.members(path)
    if not {"mu", "sigma"} <= names.keys():
        there = ", ".join(names)[:100] or "nothing"
        made = "cfgbench eval IMAGES --reference THOSE --features NAME --save-reference FILE.npz"
        raise UserError(f"{path}: no statistics mu and sigma, it has {there}; make them of images: {made}")
    try:
        mu, sigma = (torch.from_numpy(npz.array(path, name, LARGEST)) for name in ("mu", "sigma"))
        maker, n = maker_of(path), images_of(path)
        moments = Moments.from_covariance(mu, sigma)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: no statistics mu and sigma ({reason(error)})") from None
    if maker is None and len(mu) != DIMENSIONS:
        raise UserError(
            f"{path}: names no extractor, and its {len(mu)} dimensions are not Inception's {DIMENSIONS}: it was "
            f"measured with another network; make it anew with what {key} names: cfgbench eval IMAGES --reference REF "
            "--features NAME --save-stats FILE.npz"
        )
    moments = moments if n is None else Moments(n, moments.mean, moments.covariance * (n - 1))
    return Statistics(path, moments, n, maker, _source_of(path) if maker else None, key)


def images_of(path: Path) -> int | None:
    """Of how many images the statistics are, if the file says so: cfgbench's own does. Raises UserError, and ValueError
    for what is no such number."""
    if not {"n", "features_id"} <= npz.members(path).keys():
        return None
    n = npz.array(path, "n").item()
    if not (isinstance(n, int | float) and 2 <= n < 2**53 and n == int(n)):
        raise ValueError(f"n = {brief(n)}")
    return int(n)


def kept_elsewhere(store: "Store", key: str) -> Path | None:
    """The file of the statistics of this id that another sweep in the results folder has."""
    return store.elsewhere(store.reference(key), partial(load_moments, key=key))


def save_moments(path: Path, moments: Moments, key: str) -> None:
    """Writes an .npz with n, mean and scatter, and the key that names what they are of. Raises UserError."""
    _save(path, n=moments.n, mean=moments.mean.numpy(), scatter=moments.scatter.numpy(), key=key)


def _save(path: Path, **arrays: np.ndarray | int | str) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # to a name numpy would add .npz
            np.savez(file, **arrays)

    write_atomically(path, write)


def load_moments(path: Path, key: str) -> Moments:
    """Reads what `save_moments` wrote with this key; never unpickles. Raises UserError naming a file that is something
    else, or of something else; those of earlier versions have no key."""
    if "key" in npz.members(path) and str(npz.array(path, "key")) != key:
        raise UserError(f"{path}: statistics of something else")
    n, mean, scatter = (npz.array(path, name, LARGEST) for name in ("n", "mean", "scatter"))
    if n.shape != () or n.dtype.kind not in "iu" or n < 1 or mean.ndim != 1 or scatter.shape != (len(mean), len(mean)):
        raise UserError(f"{path}: statistics of unfitting shapes")
    if not (mean.dtype == scatter.dtype == np.float64 and np.isfinite(mean).all() and np.isfinite(scatter).all()):
        raise UserError(f"{path}: statistics that are not finite numbers in float64")
    return Moments(int(n), torch.from_numpy(mean), torch.from_numpy(scatter))
