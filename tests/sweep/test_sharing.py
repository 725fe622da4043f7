"""What one sweep has made, another in the same results folder need not make again."""

import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cfgbench.sweep import extractor, networks, reference
from cfgbench.training import feature_classifier

SMALL = """
name: one
dataset: {name: folder, path: photos}
model: {channels: 8, multipliers: [1], attention: []}
training: {steps: 3, batch_size: 8}
sampling: {samples: 40, T: 2}
grid: {p_uncond: [0.1, 0.5], w: [1]}
"""
ALL = ["train_classifier", "moments_of", "train", "train"]


@pytest.fixture
def work(small, monkeypatch):
    """work("other", ("0.1", "0.2")) writes a sweep of this name, changed so; `done` notes what is made."""
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)):
        folder = Path("photos", "ab"[number % 2])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")

    def noted(module, name):
        honest = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *all, **named: (write.done.append(name), honest(*all, **named))[1])

    def write(name, *changes):
        write.done = []
        text = SMALL.replace("name: one", f"name: {name}")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        small.write_text(text)
        return small

    for module, name in (extractor, "train_classifier"), (reference, "moments_of"), (networks, "train"):
        noted(module, name)
    return write


def rows(name):
    return [pq.read_table(path).to_pylist()[0] for path in sorted(Path("results", name, "cells").iterdir())]


def test_what_another_sweep_has_made_is_taken_over(work, run):
    one = work("one")
    assert run("sweep", one, "--quiet", "--workers", 1)[0] == 0
    assert work.done == ALL
    other = work("other", ("w: [1]", "w: [2]"), ("[0.1, 0.5]", "[0.5, 0.9]"))
    begun = [Path("results/other/checkpoints", f"{row['checkpoint_id']}.partial") for row in rows("one")]
    begun[0].parent.mkdir(parents=True)
    for path in begun:  # of trainings that were stopped before the other sweep's were over
        path.write_bytes(b"begun")
    said = run("sweep", other, "--dry-run", "--quiet")[1]
    assert "trained: measures the images" in said
    assert [line.split(": ")[0].split("  ")[1] for line in said.splitlines() if line.startswith("network")] == [
        "trained", "to train"]  # fmt: skip
    code, _, err = run("sweep", other, "--workers", 1)
    assert (code, work.done) == (0, ["train"])
    assert "p_uncond 0.5: trained already, by the sweep one" in err
    (shared,) = {row["checkpoint_id"] for row in rows("one")} & {row["checkpoint_id"] for row in rows("other")}
    assert [path.exists() for path in begun] == [path.stem != shared for path in begun]
    for name in (f"checkpoints/{shared}.safetensors", f"checkpoints/{shared}.losses.csv"):
        assert Path("results/one", name).read_bytes() == Path("results/other", name).read_bytes()
    for key in ("features_id", "reference_id", "protocol"):
        assert len({row[key] for row in rows("one") + rows("other")}) == 1


def test_a_dry_run_knows_whose_statistics_are_there_and_what_will_be_copied(work, run):
    def ahead(name, *changes):
        out = run("sweep", work(name, ("channels: 8", "channels: 64"), *changes), "--dry-run", "--quiet")[1]
        return float(re.search(r"about ([\d,]+) MB", out)[1]), "of the data set's" in out

    assert run("sweep", work("one", ("channels: 8", "channels: 64")), "--quiet", "--workers", 1)[0] == 0
    size = sum(path.stat().st_size for path in Path("results/one/checkpoints").glob("*.safetensors")) / 1e6
    megabytes, measured = ahead("other")
    assert (megabytes, measured) == (pytest.approx(size, abs=1), False)
    assert ahead("one", ("w: [1]", "w: [1, 2]"))[1] is False
    assert ahead("one", ("path: photos", "path: photos, limit: 10"), ("w: [1]", "w: [1, 2]"))[1] is True
    assert ahead("one", ("steps: 3", "steps: 4"))[1] is False


def test_it_stays_when_the_other_sweep_is_forgotten_or_makes_its_own_anew(work, run):
    assert run("sweep", work("one"), "--quiet", "--workers", 1)[0] == 0
    assert run("sweep", work("other"), "--quiet", "--workers", 1)[0] == 0
    assert work.done == []
    assert [row["fid"] for row in rows("one")] == [row["fid"] for row in rows("other")]
    shutil.rmtree("results/one")
    other = work("other", ("w: [1]", "w: [1, 2]"))
    assert run("sweep", other, "--quiet", "--workers", 1)[0] == 0
    assert (work.done, len(rows("other"))) == ([], 4)


@pytest.mark.parametrize(
    ("name", "made"),
    [("classifier", ["train_classifier"]), ("references", ["moments_of"]), ("checkpoints", ["train", "train"])],
)
def test_what_is_damaged_there_is_made_here(work, run, name, made):
    assert run("sweep", work("one"), "--quiet", "--workers", 1)[0] == 0
    for path in Path("results/one", name).iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    assert run("sweep", work("other"), "--quiet", "--workers", 1)[0] == 0
    assert work.done == made


def test_the_images_own_classifier_goes_on_where_it_was_stopped(work, run, monkeypatch):
    assert run("sweep", work("one"), "--quiet", "--workers", 1, "--results", "calm")[0] == 0
    (whole,) = Path("calm/one/classifier").iterdir()
    honest, made = feature_classifier._augmented, []

    def stops(*given):
        made.append(1)
        if len(made) == 5:
            raise KeyboardInterrupt
        return honest(*given)

    monkeypatch.setattr(feature_classifier, "_augmented", stops)
    monkeypatch.setattr(feature_classifier, "SECONDS_BETWEEN_SAVES", -1.0)
    assert run("sweep", work("one"), "--quiet", "--workers", 1)[0] == 130
    assert [path.name for path in Path("results/one/classifier").iterdir()] == [f"{whole.stem}.partial"]
    assert run("sweep", work("one"), "--quiet", "--workers", 1)[0] == 0
    assert [path.name for path in Path("results/one/classifier").iterdir()] == [whole.name]
    assert Path("results/one/classifier", whole.name).read_bytes() == whole.read_bytes()
    assert len(made) == 5 + 60 - 4  # one batch an epoch


def test_another_reference_is_no_reason_to_train_the_images_own_classifier_again(work, run):
    assert run("sweep", work("one"), "--quiet", "--workers", 1)[0] == 0
    (classifier,), (statistics,) = (list(Path("results/one", name).iterdir()) for name in ("classifier", "references"))
    with np.load(statistics) as file:
        mean, scatter, n = file["mean"], file["scatter"], int(file["n"])
    features = rows("one")[0]["features_id"]
    np.savez("other.npz", mu=mean + 1, sigma=scatter / (n - 1), n=n, features_id=features)
    other = work("one", ("grid:", "evaluation: {reference: other.npz}\ngrid:"))
    assert run("sweep", other, "--quiet", "--workers", 1)[0] == 0
    assert (work.done, list(Path("results/one/classifier").iterdir())) == ([], [classifier])
    assert len({row["reference_id"] for row in rows("one")}) == 2


def test_a_network_of_another_precision_or_of_other_data_is_another(work, run):
    assert run("sweep", work("one"), "--quiet", "--workers", 1, "--precision", "bf16")[0] == 0
    other = work("other")
    assert "to train: p_uncond" in run("sweep", other, "--dry-run", "--precision", "fp32")[1]
    assert run("sweep", other, "--quiet", "--workers", 1, "--precision", "fp32")[0] == 0
    assert work.done == ["train", "train"]
    assert not any("trained in" in row["protocol"] for row in rows("other"))
    third = work("third", ("path: photos", "path: photos, limit: 18"))
    assert run("sweep", third, "--quiet", "--workers", 1, "--precision", "fp32")[0] == 0
    assert work.done == ALL


def test_the_other_sweeps_files_stay_as_they_are(work, run):
    assert run("sweep", work("one"), "--quiet", "--workers", 1)[0] == 0
    (kept, _) = sorted(Path("results/one/checkpoints").glob("*.safetensors"))
    kept.chmod(0o400)
    before = kept.stat()
    assert run("sweep", work("other"), "--quiet", "--workers", 1)[0] == 0
    assert work.done == []
    after, mine = kept.stat(), Path("results/other/checkpoints", kept.name).stat()
    assert (after.st_mode, after.st_ctime_ns) == (before.st_mode, before.st_ctime_ns)
    assert (mine.st_nlink, mine.st_mode & 0o600) == (1, 0o600)
