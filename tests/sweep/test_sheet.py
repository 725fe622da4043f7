"""The sheet of a cell's images: which classes it shows."""

from pathlib import Path

import numpy as np
import pytest

from cfgbench.data import Images
from cfgbench.sweep.plan import _shown
from cfgbench.sweep.results.sheet import read_tiles, sheet_candidates, sheet_indices

SMALL = """
name: shown
dataset: {name: digits}
model: {factory: "tenclasses:Network", prediction: eps, p_uncond: 0.1}
sampling: {samples: 20, batch_size: 20}
evaluation: {SHOW}
grid: {w: [0, 1], T: [2]}
"""
NETWORK = """
import torch

class Network(torch.nn.Module):
    num_classes = 10
    def forward(self, z, lam, c): return z * (0.5 + 0.01 * c[:, None, None, None])
"""


@pytest.fixture
def sweep(small, monkeypatch, run):
    """sweep("show: [3]") runs the sweep SMALL with this in its evaluation."""
    monkeypatch.syspath_prepend(str(small.parent))
    Path("tenclasses.py").write_text(NETWORK)

    def sweep(show):
        small.write_text(SMALL.replace("SHOW", show))
        return run("sweep", small, "--quiet")

    return sweep


@pytest.mark.parametrize(("show", "labels"), [("", list(range(10))), ('show: [7, "3"]', [3, 7])])
def test_the_sheet_shows_the_classes_that_are_asked_for(sweep, show, labels):
    assert sweep(show)[0] == 0
    found = [read_tiles(path) for path in Path("results/shown/samples").glob("*.png")]
    assert len(found) == 2
    assert all(tiles.labels.tolist() == [labels, labels] for tiles in found)


def test_a_class_that_is_not_there_cannot_be_shown(sweep):
    code, _, err = sweep("show: [3, 10]")
    assert code == 2
    assert "evaluation.show[1] = 10: no such class; there are ids below 10, or names such as 0" in err


@pytest.mark.parametrize(
    ("show", "shown"),
    [(["crane"], (0, 2)), (["crane", 1], (0, 1, 2)), ([2], (2,)), (["Paris, Texas"], (3,)), (["3"], (4,)), ([3], (4,))],
)
def test_all_classes_of_a_name_are_shown(show, shown):
    assert _shown(show, images_of("crane", "lion", "crane", "Paris, Texas", "3")) == shown


def test_a_name_of_many_classes_is_no_sheet():
    with pytest.raises(ValueError, match=r"evaluation\.show: names 11 classes; at most 10 are shown, give ids"):
        _shown(["crane"], images_of(*["crane"] * 11))


def images_of(*names):
    return Images("some", np.zeros((len(names), 1, 8, 8), np.uint8), np.arange(len(names)), names, flips=False)


@pytest.mark.parametrize("num_classes", [1, 3, 12, 40])
def test_whatever_a_sheet_shows_is_among_its_candidates(num_classes):
    for shown in ((num_classes - 1,), tuple(range(min(10, num_classes)))):
        every = [sheet_indices(samples, num_classes, shown).ravel().tolist() for samples in range(10, 200)]
        assert {index for indices in every for index in indices} <= set(sheet_candidates(num_classes, shown))
        assert all(indices == sorted(indices) and indices[-1] < 10 + at for at, indices in enumerate(every))
