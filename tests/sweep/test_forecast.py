"""What a dry run says a sweep will take, beside what it takes."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cfgbench.models import extractors, pace
from cfgbench.models.precision import Compute
from cfgbench.progress import silent
from cfgbench.spec import networks_of
from cfgbench.sweep import extractor
from cfgbench.sweep.extractor import widths
from cfgbench.sweep.forecast import disk
from cfgbench.sweep.forecast.estimate import Costs, _ahead, costs_of
from cfgbench.sweep.plan import make_plan
from cfgbench.sweep.results.statistics_files import reference_id
from cfgbench.training import feature_classifier

SWEEPS = Path(__file__).parents[2] / "sweeps"
CPU, GPU = torch.device("cpu"), torch.device("cuda")
SMALL = """
name: own
dataset: {name: folder, path: photos}
model: {channels: 8, multipliers: [1, 2], attention: [8]}
training: {steps: 12, batch_size: 16}
sampling: {samples: SAMPLES, T: 2}
evaluation: {features: FEATURES, keep_features: KEEP}
grid: {w: [0, 1], p_uncond: [0.1, 0.5]}
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Writes the sweep of a folder of 20 images with so many samples."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pace, "SECONDS_TO_MEASURE", 0.1)
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")

    def write(samples, *, keep="false", features="classifier", dataset=None):
        text = SMALL.replace("SAMPLES", str(samples)).replace("KEEP", keep).replace("FEATURES", features)
        path = tmp_path / "own.yaml"
        path.write_text(text.replace("{name: folder, path: photos}", dataset) if dataset else text)
        return path

    return write


def test_a_dry_run_counts_the_classifier_that_measures(sweep, run, monkeypatch):
    monkeypatch.setattr("cfgbench.sweep.forecast.estimate.seconds_of_training", lambda images, device: 360_000.0)
    path = sweep(40)
    out = run("sweep", path, "--dry-run", "--quiet")[1]
    assert "to train: measures the images, 60 steps of 128, 4.2 days" in out
    assert "training 4.2 days" in out
    assert run("sweep", path, "--quiet")[0] == 0
    done = run("sweep", path, "--dry-run", "--quiet")[1]
    assert "trained: measures the images, 60 steps of 128" in done
    assert "training 0 s" in done
    code, out, _ = run("sweep", sweep(40, features="inception"), "--dry-run", "--quiet")
    assert (code, "measures the images" in out) == (0, False)


def test_the_classifier_that_measures_is_timed_with_the_threads_that_train_it(sweep, monkeypatch):
    """It is trained before the workers have anything to do."""
    threads = []
    monkeypatch.setattr(
        "cfgbench.sweep.forecast.estimate.seconds_of_training",
        lambda images, device: threads.append(torch.get_num_threads()) or 1.0,
    )
    before = torch.get_num_threads()
    costs_of(make_plan(sweep(40), Path("results")), Compute(CPU, "fp32"), [], 3)
    assert (threads, torch.get_num_threads()) == ([3 * before], before)


def test_images_whose_statistics_are_kept_are_not_ahead(sweep, monkeypatch):
    seen = []
    monkeypatch.setattr(extractor, "packaged_extractor", lambda *all, ahead, **how: seen.append(ahead))
    plan = make_plan(sweep(40, features="inception"), Path("results"))
    extractor.make_extractor(plan, Compute(CPU, "fp32"), silent)
    features_id = extractors.inception_id(2048, extractors.inception_weights(None), fast=False)
    kept = plan.store.reference(reference_id(plan.images.content, features_id))
    kept.parent.mkdir(parents=True)
    kept.touch()
    extractor.make_extractor(plan, Compute(CPU, "fp32"), silent)
    assert seen == [4 * 40 + 20, 4 * 40]


def test_the_classifier_takes_about_as_long_as_is_said(sweep):
    images = make_plan(sweep(40), Path("results")).images
    said = feature_classifier.seconds_of_training(images, CPU)
    began = time.monotonic()
    feature_classifier.train_classifier(images, device=CPU)
    assert 0.2 < said / (time.monotonic() - began) < 5


@pytest.mark.parametrize("keep", ["false", "true"])
@pytest.mark.parametrize(("features", "dataset"), [("classifier", None), ("digits", "{name: digits, limit: 200}")])
def test_the_disk_that_is_forecast_is_what_is_taken(sweep, run, keep, features, dataset):
    path = sweep(1500, keep=keep, features=features, dataset=dataset)
    plan = make_plan(path, Path("results"))
    sizes = costs_of(plan, Compute(CPU, "fp32"), []).size
    said = disk.kept(plan, plan.missing, networks_of(plan.missing), sizes)
    assert run("sweep", path, "--quiet", "--precision", "fp32", "--workers", 1)[0] == 0
    taken = sum(file.stat().st_blocks * 512 for file in Path("results").rglob("*") if file.is_file())
    assert said == pytest.approx(taken, rel=0.15)


def test_what_is_on_the_disk_meanwhile_is_the_largest_cells_features_and_a_training(sweep):
    plan = make_plan(sweep(1500), Path("results"))
    networks = networks_of(plan.missing)
    sizes = {"denoiser": 1000}
    features = 4 * (64 + 2) * 1500
    assert disk.passing(plan, plan.missing, networks, sizes) == features + 4 * 1000
    assert disk.passing(plan, [], [], sizes) == 0
    keeps = make_plan(sweep(1500, keep="true"), Path("results"))
    assert disk.passing(keeps, keeps.missing, networks, sizes) == 4 * 1000


@pytest.mark.parametrize(
    ("features", "metrics", "keep", "found"),
    [
        ("inception", "[fid]", "false", (2048, 1008)),
        ("inception", "[fid, is]", "true", (2048, 1008)),
        ("inception-768", "[fid]", "true", (768, 0)),
    ],
)
def test_logits_come_with_the_features_of_the_last_layer(sweep, features, metrics, keep, found):
    path = sweep(20, keep=keep, features=f"{features}, metrics: {metrics}")
    assert widths(make_plan(path, Path("results"))) == found


@pytest.mark.parametrize(("compiled", "part"), [(None, 0.51), (True, 0.51), (False, 1.0)])
def test_a_gpus_time_is_that_of_compiled_networks_unless_that_is_refused(sweep, compiled, part):
    plan = make_plan(sweep(40), Path("results"))
    costs = Costs(pass_through=1000.0, training={"denoiser": 1000.0}, feature_classifier=0.0, size={})
    found = _ahead(costs, plan.missing, networks_of(plan.missing), Compute(GPU, "bf16", compiled))
    plain = sum(map(costs.seconds, plan.missing)), sum(map(costs.training_seconds, networks_of(plan.missing)))
    assert np.array(found) / plain == pytest.approx([part, part], abs=0.02)


def test_seconds_are_those_of_all_passes_and_steps(sweep):
    plan = make_plan(sweep(40), Path("results"))
    costs = Costs(pass_through=0.5, training={"denoiser": 0.25}, feature_classifier=0.0, size={})
    assert {cell.sampling.w: costs.seconds(cell) for cell in plan.cells} == {0: 0.5 * 40 * 2, 1: 0.5 * 40 * 4}
    assert [costs.training_seconds(network) for network in plan.networks()] == [12 * 16 * 0.25] * 2


@pytest.mark.parametrize(("workers", "sampling", "training"), [(1, 48, 24), (2, 24, 12), (3, 24, 12), (4, 12, 12)])
def test_processes_share_the_time_by_whole_cells_and_networks(sweep, run, monkeypatch, workers, sampling, training):
    costs = Costs(pass_through=0.1, training={"denoiser": 1 / 16}, feature_classifier=0.0, size={"denoiser": 1})
    monkeypatch.setattr("cfgbench.sweep.forecast.estimate.costs_of", lambda *_: costs)
    out = run("sweep", sweep(40), "--dry-run", "--quiet", "--workers", workers)[1]
    assert f"sampling {sampling} s, training {training} s, " in out


def test_before_the_data_are_there_the_papers_operations_are_counted(run, tmp_path, monkeypatch):
    """Table 1: three networks, each unguided in 256 passes an image and 13 times guided in 512; a training step is
    three passes."""
    monkeypatch.chdir(tmp_path)
    code, out, err = run("sweep", SWEEPS / "imagenet64.yaml", "--dry-run", "--quiet")
    assert code == 0
    assert "dataset.path = data/ILSVRC2012/train: not there" in err
    passes = 3 * (256 + 13 * 512) * 50_000
    assert f"42 cells, {passes:,} network passes" in out
    one, sampling, training = map(float, re.search(
        r"counted: ([\d.]+) GFLOP a network pass; sampling (\S+) FLOP, training (\S+) FLOP", out).groups())  # fmt: skip
    assert sampling == pytest.approx(passes * one * 1e9, rel=0.01)
    assert training == pytest.approx(3 * 400_000 * 2048 * 3 * one * 1e9, rel=0.01)
    # multiplications and additions of the 3x3 convolutions at 192 channels and 64x64, seven blocks of two, alone
    assert one > 2 * 9 * 192**2 * 64**2 * 14 / 1e9


def test_where_the_data_are_there_what_is_wrong_is_no_estimate(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data/ILSVRC2012/train/n01440764").mkdir(parents=True)
    code, out, err = run("sweep", SWEEPS / "imagenet64.yaml", "--dry-run", "--quiet")
    assert (code, out) == (2, "")
    assert "neither npz batches nor class folders" in err


UNPREPARED = """name: small
dataset: {name: imagenet64, path: npz}
model: MODEL
sampling: {samples: 20}
evaluation: {features: inception-64, metrics: [fid], inception_weights: WEIGHTS}
grid: {w: [0], T: [2]}
"""


@pytest.mark.parametrize(
    ("model", "counted"),
    [
        ("{channels: 4, multipliers: [1], attention: []}\ntraining: {steps: 1, batch_size: 2}", True),
        ("{checkpoint: adm.pt, format: adm}", False),
    ],
)
def test_a_dry_run_prepares_no_images(run, tmp_path, monkeypatch, random_inception, model, counted):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CFGBENCH_CACHE", str(tmp_path / "cache"))
    Path("npz").mkdir()
    Path("adm.pt").write_bytes(b"weights")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3 * 64 * 64), dtype=np.uint8)
    np.savez("npz/train_data_batch_1.npz", data=pixels, labels=[1, 2] * 10)
    Path("small.yaml").write_text(UNPREPARED.replace("MODEL", model).replace("WEIGHTS", str(random_inception)))
    code, out, err = run("sweep", "small.yaml", "--dry-run", "--quiet")
    assert (code, Path("cache").exists()) == (0, False)
    assert "small.yaml: imagenet64: not prepared yet, which train and sweep begin with (0.0 GB in" in err
    assert out.startswith("1 cell, 40 network passes\n")
    assert ("counted: " in out) == counted
    if counted:
        assert run("train", "small.yaml", "--quiet")[0] == 0
        assert "missing" in run("sweep", "small.yaml", "--dry-run", "--quiet")[1]
