"""Features that are kept are measured again: other metrics, another reference, more images."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cfgbench.sweep import fill
from cfgbench.tensors import load_tensors, save_tensors

SMALL = """
name: one
dataset: {name: digits, limit: 200}
model: {channels: 8, multipliers: [1, 2], attention: [4]}
training: {steps: 60, batch_size: 64, learning_rate: 4e-3}
sampling: {samples: 60, batch_size: 20, T: 4}
evaluation: {metrics: [fid], keep_features: true}
grid: {w: [0, 1]}
"""
MEASURED = "fid", "fid_se", "is_mean", "is_std", "is_se", "samples"


@pytest.fixture
def sweep(small, run, monkeypatch):
    """sweep(("old", "new"), ...) runs SMALL changed so; `sweep.made` counts the images that were made for it."""
    honest = fill.generate

    def counted(networks, sampling, indices, *rest):
        sweep.made += len(indices)
        return honest(networks, sampling, indices, *rest)

    def sweep(*changes, results="results"):
        text = SMALL
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        small.write_text(text)
        sweep.made = 0
        code, _, err = run("sweep", small, "--workers", 1, "--results", results)
        assert code == 0, err

    monkeypatch.setattr(fill, "generate", counted)
    return sweep


def rows(results="results", name="one"):
    """What the cells measured, by strength and metrics."""
    found = [pq.read_table(path).to_pylist()[0] for path in Path(results, name, "cells").iterdir()]
    return {(row["w"], row["samples"], row["is_mean"] is not None): [row.get(key) for key in MEASURED] for row in found}


def shards(results="results"):
    return sorted(Path(results).glob("*/features/*/*.safetensors"))


@pytest.mark.parametrize("name", ["one", "two"])
def test_another_metric_is_measured_from_what_is_kept(sweep, name):
    sweep()
    assert sweep.made == 120
    changes = ("[fid]", "[fid, is]"), ("name: one", f"name: {name}")
    before = {path: path.read_bytes() for path in shards()}
    sweep(*changes)
    assert sweep.made == 0
    assert len(shards()) == 2 * len(before)
    assert all(path.read_bytes() == content for path, content in before.items())
    kept = {key: row for key, row in rows(name=name).items() if key[-1]}
    sweep(*changes, results="calm")
    assert sweep.made == 120
    assert (kept, len(kept)) == (rows("calm", name), 2)


def test_of_more_images_only_those_are_made_that_are_new(sweep):
    sweep()
    more = ("samples: 60", "samples: 100")
    sweep(more)
    assert sweep.made == 80
    kept = {key: row for key, row in rows().items() if key[1] == 100}
    sweep(more, results="calm")
    assert (kept, len(kept)) == (rows("calm"), 2)
    sweep(("samples: 60", "samples: 40"), ("keep_features: true", "keep_features: false"))  # in parts of more
    assert sweep.made == 80


def test_another_reference_is_held_against_what_is_kept(sweep, run):
    sweep()
    (statistics,) = Path("results/one/references").iterdir()
    with np.load(statistics) as file:
        moments = {key: file[key] for key in file.files}
    feature_id = pq.read_table(next(Path("results/one/cells").iterdir())).to_pylist()[0]["features_id"]
    np.savez("other.npz", mu=moments["mean"] + 1, sigma=moments["scatter"] / 199, features_id=feature_id)
    before = rows()
    sweep(("metrics: [fid]", "metrics: [fid], reference: other.npz"), ("name: one", "name: two"))
    assert sweep.made == 0
    after = rows(name="two")
    assert all(after[key][0] > before[key][0] for key in before)


@pytest.mark.parametrize(
    "change",
    [("T: 4", "T: 4, seed: 1"), ("T: 4", "T: 5"), ("steps: 60", "steps: 61"), ("w: [0, 1]", "w: [0.5, 2]")],
)
def test_other_images_are_made(sweep, change):
    sweep()
    sweep(change)
    assert sweep.made == 120


def test_what_was_not_kept_is_made_again(sweep):
    sweep(("keep_features: true", "keep_features: false"))
    assert shards() == []
    sweep(("[fid]", "[fid, is]"), ("keep_features: true", "keep_features: false"))
    assert sweep.made == 120


def test_what_is_damaged_there_is_made_here_and_stays_there(sweep):
    sweep()
    first, second = shards()
    first.write_bytes(first.read_bytes()[:-9])
    tensors, header = load_tensors(second)
    save_tensors(second, tensors | {"pooled": tensors["pooled"][:, 1:]}, header)
    before = [path.read_bytes() for path in (first, second)]
    sweep(("[fid]", "[fid, is]"))
    assert sweep.made == 120
    assert [path.read_bytes() for path in (first, second)] == before
