"""Reference statistics as files: cfgbench's own, which name their extractor, and the published ones, which do not."""

from pathlib import Path

import numpy as np
import torch

from cfgbench.errors import UserError, reason
from cfgbench.evaluation.statistics import Moments, open_arrays, read_array

PUBLISHED = "inception-2048-"
"""What files with mu and sigma alone hold: pool features of the Inception network (ADM's, TTUR's, EDM's)."""


def is_statistics(path: Path) -> bool:
    """Whether the file is an .npz with mu and sigma. Raises UserError for one that cannot be read."""
    try:
        with open_arrays(path) as archive:
            return {"mu.npy", "sigma.npy"} <= set(archive.namelist())
    except Exception as error:  # a damaged zip fails in many ways, all of which mean the same
        raise UserError(f"{path}: not a whole .npz file ({reason(error, 80)})") from None


def save_reference(path: Path, moments: Moments, features_id: str) -> None:
    """Writes mu, sigma and n, as others read them, and the extractor's id."""
    with path.open("wb") as file:
        np.savez(file, mu=moments.mean.numpy(), sigma=moments.covariance.numpy(), n=moments.n, features_id=features_id)


def load_reference(path: Path, features_id: str) -> Moments:
    """The statistics in a file, for samples measured with the extractor of this id; never unpickles.

    Raises UserError for a damaged file, and for statistics of another extractor.
    """
    try:
        with open_arrays(path) as archive:
            names = archive.namelist()
            mu, sigma = (torch.from_numpy(read_array(archive, name)) for name in ("mu", "sigma"))
            maker = str(read_array(archive, "features_id")) if "features_id.npy" in names else None
            n = int(read_array(archive, "n")) if "n.npy" in names and maker else None
            if n is not None and not 2 <= n < 2**53:
                raise ValueError(f"n = {n}")
            moments = Moments.from_covariance(mu, sigma)
    except Exception as error:  # a damaged zip fails in many ways, all of which mean the same
        raise UserError(f"{path}: no statistics mu and sigma ({reason(error)})") from None
    if maker is None and not features_id.startswith(PUBLISHED):
        raise UserError(
            f"{path}: names no extractor, so its {len(mu)} dimensions are taken for Inception's; "
            f"the samples' features are {features_id}; take --features inception"
        )
    if maker is None and len(mu) != 2048:
        raise UserError(f"{path}: {len(mu)} dimensions, where Inception's features have 2048")
    if maker is not None and maker != features_id:
        raise UserError(f"{path}: made with the features {maker}, not with {features_id}; their FIDs do not compare")
    return moments if n is None else Moments(n, moments.mean, moments.covariance * (n - 1))
