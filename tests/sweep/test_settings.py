"""Each key of a sweep file reaches what it names: another value gives other images, networks and numbers."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cfgbench import data
from cfgbench.data import Images
from cfgbench.diffusion.guidance import Networks
from cfgbench.errors import UserError
from cfgbench.evaluation.standard_error import standard_error
from cfgbench.models.gaussians import ExactDenoiser
from cfgbench.spec import Dataset, Sampling
from cfgbench.sweep.fill import generate
from cfgbench.sweep.plan import make_plan
from cfgbench.sweep.workers.process import _same_data

SMALL = """
name: digits
dataset: {name: digits, limit: 200}
model: {channels: 8, multipliers: [1, 2], attention: [4]}
training: {steps: 12, batch_size: 16, learning_rate: 3e-3}
sampling: {samples: 40, w: 1, T: 4}
grid: GRID
"""


def swept(small, run, *grids):
    """The sweep's rows, in the order of the grids."""
    small.write_text(SMALL.replace("GRID", f"[{', '.join(grids)}]"))
    assert run("sweep", small, "--quiet", "--precision", "fp32")[0] == 0
    rows = pd.read_parquet("results/digits/cells").set_index("cell_id")
    return rows.loc[[cell.id for cell in make_plan(small, Path("results")).cells]]


def test_every_key_of_sampling_gives_other_images(small, run):
    keys = ["w: [0]", "w: [2]", "T: [5]", "sampling.seed: [1]", "clip: [false]", "v: [1]", "v: [0]", "sampler: [ddim]",
            "temperature: [0.5]", "guidance: [score-scale]"]  # fmt: skip
    rows = swept(small, run, "{w: [1]}", *(f"{{{key}}}" for key in keys))
    assert rows["checkpoint_id"].nunique() == 1
    assert (len(rows), rows["fid"].nunique(), rows["is_mean"].nunique()) == (11, 11, 11)


def test_every_key_of_training_gives_another_network(small, run):
    keys = ["p_uncond: [0.5]", "training.seed: [1]", "learning_rate: [2e-3]", "warmup_steps: [1]", "weight_decay: [9]",
            "ema_decay: [0.1]", "gradient_clip: [0.05]", "training.batch_size: [8]", "steps: [11]"]  # fmt: skip
    rows = swept(small, run, "{w: [1]}", *(f"{{{key}}}" for key in keys))
    assert (rows["checkpoint_id"].nunique(), rows["fid"].nunique()) == (10, 10)


def test_a_report_over_seeds_of_training_is_one_over_trainings(small, run):
    rows = swept(small, run, "{training.seed: [0, 3], w: [0, 1]}")
    assert rows["training.seed"].tolist() == [0, 0, 3, 3]
    assert set(rows["seed"]) == {0}
    run("report", "digits", "--table", "md")
    assert "mean over 2 seeds" in Path("reports/digits/table.md").read_text()


def test_other_features_are_measured_against_their_own_reference(small, run):
    """Both are of 64 dimensions: statistics of the one would be taken for the other's without an error."""
    first, second = swept(small, run, "{w: [1]}"), None
    small.write_text(f"{small.read_text()}evaluation: {{features: classifier}}\n")
    run("sweep", small, "--quiet", "--precision", "fp32")
    second = pd.read_parquet("results/digits/cells").query("features_id != @first.features_id.iloc[0]")
    assert len(second) == 1
    assert second["reference_id"].item() != first["reference_id"].item()
    run("sweep", small, "--quiet", "--precision", "fp32", "--results", "fresh")
    fresh = pd.read_parquet("fresh/digits/cells")
    assert second["fid"].item() == pytest.approx(fresh["fid"].item(), rel=1e-6)


def test_image_i_is_of_class_i_modulo_the_classes():
    """By the exact score of Gaussians that lie far apart, so that each image is told by where it lies."""
    images = data.load(Dataset(name="gaussians", means=[[0.6, 0], [-0.6, 0], [0, 0.6]], covariance=0.004))
    networks = Networks(ExactDenoiser(images.mixture, torch.device("cpu")))
    indices = torch.tensor([0, 1, 2, 3, 7, 11, 299, 6])
    shape = images.images.shape[1:]
    made = generate(networks, Sampling(w=0.0, T=64), indices, shape, "fp32").flatten(1).double() / 127.5 - 1
    nearest = torch.cdist(made, torch.from_numpy(images.mixture.means)).argmin(dim=1)
    assert nearest.tolist() == [0, 1, 2, 0, 1, 2, 2, 0]


def test_the_errors_of_a_sweep_take_the_classes_shares_as_fixed(small, run):
    """A cell of 40 digits in ten classes: what is left to chance is the spread inside of each."""
    small.write_text(SMALL.replace("samples: 40", "samples: 200").replace("GRID", "{w: [0]}"))
    run("sweep", small, "--quiet")
    (row,) = pd.read_parquet("results/digits/cells").to_dict("records")
    (kept,) = Path("results/digits/influence").glob("*.parquet")
    pulls = pd.read_parquet(kept)
    assert pulls["label"].tolist() == [i % 10 for i in range(200)]
    for column, error in (("fid", "fid_se"), ("is_mean", "is_se")):
        q, labels = pulls[column].to_numpy(np.float64), pulls["label"].to_numpy(np.int64)
        assert row[error] == pytest.approx(standard_error(q, labels), rel=1e-6)
        assert row[error] != pytest.approx(standard_error(q), rel=1e-3)


@pytest.mark.parametrize(("key", "other"), [("limit: 200", "limit: 190"), ("limit: 200", "limit: 200, flip: true")])
def test_other_data_are_other_networks_and_cells(small, key, other):
    small.write_text(SMALL.replace("GRID", "{w: [0, 1], guidance: [cfg, classifier]}"))
    first = make_plan(small, Path("results")).cells
    small.write_text(small.read_text().replace(key, other))
    second = make_plan(small, Path("results")).cells
    for what in (lambda cell: cell.id, lambda cell: cell.checkpoint_id, lambda cell: getattr(cell.classifier, "id", 0)):
        both = itertools.product(map(what, first), map(what, second))
        assert all(a != b or a == b == 0 for a, b in both)


def test_a_worker_does_not_measure_data_that_changed(small):
    small.write_text(SMALL.replace("GRID", "{w: [0]}"))
    plan = make_plan(small, Path("results"))
    images = _same_data(plan.spec.dataset, plan.images.content)
    assert isinstance(images, Images)
    with pytest.raises(UserError, match="dataset: its files changed while the sweep began; run the same command again"):
        _same_data(plan.spec.dataset, "0" * 64)
