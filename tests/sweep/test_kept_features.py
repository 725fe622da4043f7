"""Features that are kept are measured again: other metrics, another reference, more images."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from cfgbench.evaluation.features import Features
from cfgbench.models.fast import Compiled
from cfgbench.sweep import fill
from cfgbench.sweep.results.shards import Shards, gaps
from cfgbench.sweep.results.store import Store
from cfgbench.tensors import digest, load_tensors, save_tensors

SMALL = """
name: one
dataset: {name: digits, limit: 200}
model: {channels: 8, multipliers: [1], attention: []}
training: {steps: 5, batch_size: 64}
sampling: {samples: 60, batch_size: 20, T: 4}
evaluation: {metrics: [fid], keep_features: true}
grid: {w: [0, 1]}
"""
MEASURED = "fid", "fid_se", "is_mean", "is_std", "is_se", "samples"


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """The results folder of SMALL."""
    folder = tmp_path_factory.mktemp("calm")
    (folder / "small.yaml").write_text(SMALL)
    command = [sys.executable, "-m", "cfgbench", "sweep", "small.yaml", "--quiet", "--workers", "1"]
    assert subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0
    return folder / "results"


@pytest.fixture
def kept(calm, small):
    """What SMALL has kept, in results/one."""
    shutil.copytree(calm, "results")


@pytest.fixture
def sweep(small, run, monkeypatch):
    """sweep(("old", "new"), ...) runs SMALL changed so; `sweep.made` counts the images that were made for it."""
    honest = fill.generate

    def counted(networks, sampling, indices, *rest):
        sweep.made += len(indices)
        return honest(networks, sampling, indices, *rest)

    def sweep(*changes, results="results", options=()):
        text = SMALL
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        small.write_text(text)
        sweep.made = 0
        code, _, err = run("sweep", small, "--workers", 1, "--results", results, *options)
        assert code == 0, err
        return err

    monkeypatch.setattr(fill, "generate", counted)
    return sweep


def rows(results="results", name="one"):
    """What the cells measured, by strength and metrics."""
    found = [pq.read_table(path).to_pylist()[0] for path in Path(results, name, "cells").iterdir()]
    return {(row["w"], row["samples"], row["is_mean"] is not None): [row.get(key) for key in MEASURED] for row in found}


def shards(results="results"):
    return sorted(Path(results).glob("*/features/*/*.safetensors"))


@pytest.mark.parametrize("name", ["one", "two"])
def test_another_metric_is_measured_from_what_is_kept(kept, sweep, name):
    changes = ("[fid]", "[fid, is]"), ("name: one", f"name: {name}")
    before = {path: path.read_bytes() for path in shards()}
    said = sweep(*changes)
    assert "not compiled: no image is to be made" in said
    assert sweep.made == 0
    assert len(shards()) == 2 * len(before)
    assert all(path.read_bytes() == content for path, content in before.items())
    kept = {key: row for key, row in rows(name=name).items() if key[-1]}
    sweep(*changes, results="calm")
    assert sweep.made == 120
    assert (kept, len(kept)) == (rows("calm", name), 2)


def test_the_inception_score_may_be_asked_for_later(sweep, random_inception):
    inception = f"features: inception, inception_weights: {random_inception}"
    few = (
        ("limit: 200", "limit: 20"),
        ("samples: 60", "samples: 12"),
        ("keep_features: true", f"keep_features: true, {inception}"),
    )
    sweep(*few)
    assert sweep.made == 24
    sweep(*few, ("[fid]", "[fid, is]"))
    assert sweep.made == 0
    assert len(rows()) == 4


def test_of_more_images_only_those_are_made_that_are_new(kept, sweep):
    more = ("samples: 60", "samples: 100")
    sweep(more)
    assert sweep.made == 80
    kept = {key: row for key, row in rows().items() if key[1] == 100}
    sweep(more, results="calm")
    assert (kept, len(kept)) == (rows("calm"), 2)
    fewer = ("samples: 60", "samples: 50"), ("keep_features: true", "keep_features: false")
    sweep(*fewer)
    assert sweep.made == 0
    kept = {key: row for key, row in rows().items() if key[1] == 50}
    sweep(*fewer, results="calm")
    assert (sweep.made, len(kept)) == (0, 2)  # of the hundred that are there
    sweep(*fewer, results="calm2")
    assert (sweep.made, kept) == (100, rows("calm2"))


def test_another_reference_is_held_against_what_is_kept(kept, sweep, run):
    (statistics,) = Path("results/one/references").iterdir()
    with np.load(statistics) as file:
        moments = {key: file[key] for key in file.files}
    feature_id = pq.read_table(next(Path("results/one/cells").iterdir())).to_pylist()[0]["features_id"]
    np.savez("other.npz", mu=moments["mean"] + 1, sigma=moments["scatter"] / 199, features_id=feature_id)
    other = ("metrics: [fid]", "metrics: [fid], reference: other.npz"), ("name: one", "name: two")
    sweep(*other)
    assert sweep.made == 0
    found = rows(name="two")
    assert all(found[key][0] > row[0] for key, row in rows().items())
    sweep(*other, results="calm")
    assert (sweep.made, found) == (120, rows("calm", "two"))


def test_cells_of_one_sweep_share_them_too(sweep):
    sweep(("w: [0, 1]", "w: [1], samples: [20, 60, 40]"))
    assert sweep.made == 60


def test_any_number_of_images_keeps_the_pixels_that_another_shows(sweep):
    """A sheet has up to four of each class that is shown; of few images fewer, or the first of all."""
    few = ("samples: 60", "samples: 15")
    sweep(few)
    sweep(("samples: 60", "samples: 45"))
    assert sweep.made == 2 * (45 - 15)
    shown = ("keep_features: true", "keep_features: true, show: [8, 9]")
    sweep(shown)
    sweep(shown, ("samples: 60", "samples: 10"))
    sweep(shown, ("samples: 60", "samples: 10"), results="calm")
    assert sweep.made == 20
    ours, theirs = ({p.name: p.read_bytes() for p in Path(r, "one/samples").iterdir()} for r in ("results", "calm"))
    assert len(theirs) == 2
    assert all(ours[name] == content for name, content in theirs.items())


def test_features_of_a_noisy_classifier_that_was_trained_again_are_others(sweep):
    trained = "classifier: {training: {steps: 150, learning_rate: 4e-3}}\ngrid: {guidance: [classifier]"
    guided = ("grid: {w: [0, 1]", f"{trained}, w: [1]"), ("T: 4", "T: 2")
    sweep(*guided)
    sweep(*guided, ("[fid]", "[fid, is]"))
    assert sweep.made == 0
    for path in Path("results/one/checkpoints").glob("*.safetensors"):
        tensors, header = load_tensors(path)
        if header["kind"] == "classifier":
            tensors = {name: 1.01 * tensor for name, tensor in tensors.items()}
            save_tensors(path, tensors, header | {"ema": digest(tensors)})
    sweep(*guided, ("[fid]", "[is]"))
    assert sweep.made == 60


@pytest.mark.parametrize(
    "change",
    [
        ("T: 4", "T: 4, seed: 1"),
        ("T: 4", "T: 5"),
        ("T: 4", "T: 4, clip: false"),
        ("steps: 5", "steps: 6"),
        ("limit: 200", "limit: 190"),
        ("w: [0, 1]", "w: [0.5, 2]"),
        ("keep_features: true", "keep_features: true, features: classifier"),
        ("keep_features: true", "keep_features: true, show: [1, 2]"),
    ],
)
def test_other_images_or_features_are_made(kept, sweep, change):
    sweep(change, ("[fid]", "[fid, is]"))
    assert sweep.made == 120


def test_of_other_classes_that_are_shown_the_pixels_are_not_kept(sweep):
    sweep(("keep_features: true", "keep_features: true, show: [1, 2]"))
    sweep(("keep_features: true", "keep_features: true, show: [3, 4]"), ("[fid]", "[fid, is]"))
    assert sweep.made == 120


def test_those_of_another_precision_or_of_a_network_that_was_trained_again_are_made(sweep):
    sweep(options=["--precision", "fp32"])
    sweep(("[fid]", "[fid, is]"), options=["--precision", "bf16"])
    assert sweep.made == 120
    (checkpoint,) = Path("results/one/checkpoints").glob("*.safetensors")
    tensors, header = load_tensors(checkpoint)
    tensors = {name: 1.01 * tensor for name, tensor in tensors.items()}
    save_tensors(checkpoint, tensors, header | {"ema": digest(tensors)})
    sweep(("[fid]", "[is]"), options=["--precision", "fp32"])
    assert sweep.made == 120


def changed(path, **facts):
    """Writes the shard again with other facts in its header."""
    tensors, header = load_tensors(path)
    save_tensors(path, tensors, header | facts)


def test_a_cell_that_was_begun_with_a_compiled_network_goes_on_so(kept, sweep, monkeypatch):
    attempts = []

    def attempt(network, *given):
        attempts.append(given)
        network.failed = "no compiler"

    monkeypatch.setattr(Compiled, "attempt", attempt)
    for path in shards():
        changed(path, made={"device": "cpu", "compiled": True})
    said = sweep(("samples: 60", "samples: 70"))
    assert "not compiled: 120 network passes" in said  # those of others say nothing
    for path in Path("results/one/cells").iterdir():
        path.unlink()
    for path in shards():
        if load_tensors(path)[1]["first"] == 60:
            path.unlink()
    said = sweep(("samples: 60", "samples: 70"))
    assert "not compiled: 120 network passes" in said  # nor where they were taken over before
    for path in Path("results/one/cells").iterdir():
        path.unlink()
    for path in shards():
        _, header = load_tensors(path)
        if header["stop"] - header["first"] == 10 or not header["made"]["compiled"]:
            path.unlink()
    shards()[0].unlink()
    said = sweep()
    assert ": compiled: as the cell that was begun" in said
    assert (sweep.made, len(attempts)) == (60, 1)


def test_a_row_says_how_and_on_what_its_images_were_made(kept, sweep):
    for path in shards():
        changed(path, made={"device": "a GPU", "compiled": True})
    sweep(("[fid]", "[fid, is]"))
    sweep(("samples: 60", "samples: 70"))
    found = [pq.read_table(path).to_pylist()[0] for path in Path("results/one/cells").iterdir()]
    (own,) = {row["device"] for row in found if row["samples"] == 60 and row["is_mean"] is None}
    assert {row["device"] for row in found if row["is_mean"] is not None} == {"a GPU"}
    assert {row["device"] for row in found if row["samples"] == 70} == {" and ".join(sorted(["a GPU", own]))}
    assert {row["compiled"] for row in found if row["is_mean"] is not None} == {None}  # not by this sweep
    assert {row["compiled"] for row in found if row["samples"] == 70} == {False}


def test_what_vanishes_or_may_not_be_read_is_made(kept, sweep, monkeypatch):
    Path("results/one/features/gone").mkdir()
    first, _ = shards()
    scandir, access, kept = os.scandir, os.access, Store.kept

    def vanishing(path):
        if str(path).endswith("gone"):
            raise FileNotFoundError(path)
        return scandir(path)

    def then_removed(store):
        found = kept(store)
        first.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(os, "scandir", vanishing)
    monkeypatch.setattr(Store, "kept", then_removed)
    sweep(("[fid]", "[fid, is]"))
    assert sweep.made == 60
    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(Store, "kept", kept)
    before = shards()
    monkeypatch.setattr(os, "access", lambda path, mode: "results/one/features" not in str(path) and access(path, mode))
    sweep(("[fid]", "[fid, is]"), ("name: one", "name: two"))
    assert sweep.made == 120
    assert set(before) < set(shards())


MADE = {"compiled": True}


def test_of_a_shard_that_holds_more_what_is_missing_is_taken(tmp_path):
    like = {"pooled": torch.zeros(0, 1), "kept": torch.zeros(0)}

    def begun(name, total):
        return Shards(
            tmp_path / "features" / name, total, "key", like=like, shown=[0, 3, 5, 9, 11], made=MADE | {"by": name}
        )

    def made(name, first, stop):
        one, images = begun(name, stop), torch.arange(first, stop)
        shown = [index for index in (0, 3, 5, 9, 11) if first <= index < stop]
        one.add(first, Features(100.0 + images[:, None], None), torch.tensor(shown, dtype=torch.float32), stop - first)
        one.flush()
        return one

    larger, mine = made("larger", 0, 10), made("mine", 4, 6)
    mine = begun("mine", 12)
    mine.take_over([*mine.files.values(), *larger.files.values()])
    assert mine.missing() == [range(10, 12)]
    assert mine.seconds == 10
    assert mine.made_by == [MADE | {"by": "mine"}, *[{"by": "larger", "compiled": None}] * 2]
    whole = begun("mine", 10)
    ((_, features),) = whole.blocks()
    assert features.pooled.flatten().tolist() == [100.0 + index for index in range(10)]
    assert whole.pixels([0, 5, 9]).tolist() == [0, 5, 9]
    assert begun("mine", 9).missing() == [range(6, 9)]  # another number of images: what is not within it goes
    for path in larger.files.values():
        shutil.copy(path, mine.folder)
    assert begun("mine", 12).missing() == [range(6, 12)]
    assert len(list(mine.folder.iterdir())) == 2  # of those that share images the first


def test_stopped_as_a_batch_is_taken_in_the_shard_before_it_counts(tmp_path):
    like = {"pooled": torch.zeros(0, 1), "kept": torch.zeros(0)}

    class Stops:
        def __radd__(self, seconds):
            raise KeyboardInterrupt

    shards = Shards(tmp_path / "features" / "a", 6, "key", like=like, shown=[0, 4])
    shards.add(0, Features(torch.zeros(3, 1), None), torch.zeros(1), 1.0)
    with pytest.raises(KeyboardInterrupt):
        shards.add(3, Features(torch.zeros(2, 1), None), torch.zeros(1), Stops())
    shards.flush()
    assert Shards(tmp_path / "features" / "a", 6, "key", like=like, shown=[0, 4]).missing() == [range(3, 6)]


def test_what_is_missing_of_images_that_lie_within_each_other_or_beyond():
    for there in itertools.product([range(4), range(1, 2), range(3, 6), range(5, 9), range(2, 2)], repeat=3):
        expected = [image for image in range(7) if not any(image in one for one in there)]
        assert [image for gap in gaps(there, 7) for image in gap] == expected


def test_what_was_not_kept_is_made_again(sweep):
    sweep(("keep_features: true", "keep_features: false"))
    assert shards() == []
    sweep(("[fid]", "[fid, is]"), ("keep_features: true", "keep_features: false"))
    assert sweep.made == 120


def test_what_is_damaged_there_is_made_here_and_stays_there(kept, sweep):
    first, second = shards()
    first.write_bytes(first.read_bytes()[:-9])
    tensors, header = load_tensors(second)
    save_tensors(second, tensors | {"pooled": tensors["pooled"][:, 1:]}, header)
    before = [path.read_bytes() for path in (first, second)]
    sweep(("[fid]", "[fid, is]"))
    assert sweep.made == 120
    assert [path.read_bytes() for path in (first, second)] == before
