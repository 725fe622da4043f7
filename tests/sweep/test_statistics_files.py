"""Statistics on disk come back as they were, and files that are something else are named."""

import numpy as np
import pytest
import torch
from hostile import Bomb

from cfgbench.errors import UserError
from cfgbench.evaluation.statistics import Moments
from cfgbench.sweep.results.statistics_files import load_moments, save_moments


def test_saved_moments_come_back_exactly(tmp_path):
    moments = Moments.of(torch.randn(9, 4, generator=torch.Generator().manual_seed(0)))
    save_moments(tmp_path / "reference.npz", moments, "a")
    loaded = load_moments(tmp_path / "reference.npz", "a")
    assert loaded.n == 9
    assert torch.equal(loaded.mean, moments.mean)
    assert torch.equal(loaded.scatter, moments.scatter)


def test_saved_moments_of_something_else_are_not_taken(tmp_path):
    path, moments = tmp_path / "reference.npz", Moments.of(torch.eye(3))
    save_moments(path, moments, "a")
    with pytest.raises(UserError, match="of something else"):
        load_moments(path, "b")
    np.savez(path, n=moments.n, mean=moments.mean.numpy(), scatter=moments.scatter.numpy())  # as earlier versions did
    assert load_moments(path, "b").n == 3


def test_files_that_are_no_statistics_are_named(tmp_path):
    path = tmp_path / "reference.npz"
    good = {"n": 5, "mean": np.zeros(2), "scatter": np.eye(2)}
    bad = [
        good | {"mean": np.zeros(3)},
        good | {"n": 0},
        good | {"scatter": np.full((2, 2), np.nan)},
        good | {"mean": np.zeros(2, np.float32)},
        {"mu": np.zeros(2)},
    ]
    for content in bad:
        np.savez(path, **content)
        with pytest.raises(UserError, match=r"reference\.npz: "):
            load_moments(path, "a")
    np.savez(path, **(good | {"mean": np.array([Bomb(tmp_path / "fired")])}))
    with pytest.raises(UserError, match=r"reference\.npz: "):
        load_moments(path, "a")
    assert not (tmp_path / "fired").exists()
    np.savez(path, **good)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"reference\.npz: "):
        load_moments(path, "a")
