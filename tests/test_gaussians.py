"""The data set gaussians from sweep file to row: its FID and Inception Score are known without a sample."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy import stats

from cfgbench.data.gaussians import mixture_of
from cfgbench.evaluation.metrics import frechet_distance
from cfgbench.evaluation.statistics import Moments
from cfgbench.models.extractors import Coordinates
from cfgbench.models.gaussians import clean_posterior
from cfgbench.spec.yaml_file import load_yaml

CPU = torch.device("cpu")
SWEEP = Path(__file__).parents[1] / "sweeps" / "gaussians.yaml"
LEVELS = np.arange(256) / 127.5 - 1


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(**sections):
        content = load_yaml(SWEEP) | sections
        Path("sweep.yaml").write_text(yaml.safe_dump(content))
        return "sweep.yaml"

    return write


def extractor(mixture):
    return Coordinates(clean_posterior(mixture, CPU), "gaussians", device=CPU)


def in_bytes(mixture):
    """The exact law of the bytes: all points [n, 2], and the probability of each under each class [K, n]."""
    edges = np.concatenate([[-np.inf], (LEVELS[1:] + LEVELS[:-1]) / 2, [np.inf]])
    lines = [
        np.diff(stats.norm.cdf(edges, mean, np.sqrt(covariance[0, 0])))
        for means, covariance in zip(mixture.means, mixture.covariances, strict=True)
        for mean in means
    ]
    masses = [np.outer(lines[2 * c], lines[2 * c + 1]).ravel() for c in range(mixture.num_classes)]
    levels = np.stack(np.meshgrid(range(256), range(256), indexing="ij"), axis=-1).reshape(-1, 1, 1, 2)
    return torch.from_numpy(levels.astype(np.uint8)), np.array(masses)


def moments(points, masses):
    mean = masses @ points
    covariance = (masses * (points - mean).T) @ (points - mean)
    return Moments.from_covariance(torch.from_numpy(mean), torch.from_numpy(covariance))


def exact_score(mixture):
    """exp I(x; c), by a quadrature of its own."""
    nodes, weights = np.polynomial.legendre.leggauss(160)
    x = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1)
    laws = [stats.multivariate_normal(*law).pdf(x) for law in zip(mixture.means, mixture.covariances, strict=True)]
    density, whole = np.array(laws), np.mean(laws, axis=0)
    information = np.where(density > 0, density * np.log(np.maximum(density, 1e-300) / whole), 0).mean(axis=0)
    return float(np.exp((np.outer(weights, weights) * information).sum()))


def test_what_bytes_do_to_fid_and_inception_score_is_nothing():
    mixture = mixture_of()
    pixels, masses = in_bytes(mixture)
    features = extractor(mixture)(pixels)
    whole = masses.mean(axis=0)
    assert whole.sum() == pytest.approx(1, abs=1e-12)
    exact = Moments.from_covariance(torch.from_numpy(mixture.mean), torch.from_numpy(mixture.covariance))
    fid = frechet_distance(moments(features.pooled.numpy(), whole), exact)
    assert fid < 1e-9
    p = features.logits.softmax(dim=1).numpy()
    p_mean = whole @ p
    information = whole @ (p * np.log(p / p_mean)).sum(axis=1)
    assert np.exp(information) == pytest.approx(
        exact_score(mixture), abs=5e-5
    )  # a 200th of what 5,000 samples leave open


def test_a_sweep_of_the_exact_model_has_the_numbers_of_the_mixture(sweep, run):
    # v: where the sampler's error of first order nearly vanishes
    sampling = {"samples": 6000, "batch_size": 6000, "v": 0.75, "clip": False, "T": 128}
    code, _, err = run("sweep", sweep(sampling=sampling, grid={"w": [0]}), "--quiet")
    assert (code, err) == (0, "")
    row = pd.read_parquet("results/gaussians/cells").iloc[0]
    mixture = mixture_of()
    assert row["is_mean"] == pytest.approx(exact_score(mixture), abs=3 * row["is_se"])
    assert 0.005 < row["is_se"] < 0.02
    # the FID of as many exact draws, to first order |a mean's error|^2 + ..., is its yardstick: here drawn
    generator = np.random.default_rng(0)
    factors = np.linalg.cholesky(mixture.covariances)
    chance = []
    for _ in range(50):
        x = [mean + generator.standard_normal((2000, 2)) @ f.T for mean, f in zip(mixture.means, factors, strict=True)]
        exact = Moments.from_covariance(torch.from_numpy(mixture.mean), torch.from_numpy(mixture.covariance))
        chance.append(frechet_distance(Moments.of(torch.from_numpy(np.concatenate(x))), exact))
    assert row["fid"] < np.mean(chance) + 4 * np.std(chance)
    assert row["reference_id"]
    assert "reference gaussians, exact mean and covariance" in row["protocol"]


def test_all_rules_run_in_one_sweep_and_those_that_are_one_agree(sweep, run):
    content = load_yaml(SWEEP)
    small = content["sampling"] | {"samples": 300, "T": 8}
    path = sweep(sampling=small)
    code, out, err = run("sweep", path, "--quiet")
    assert (code, err) == (0, "")
    rows = pd.read_parquet("results/gaussians/cells")
    assert len(rows) == sum(np.prod([len(values) for values in grid.values()]) for grid in content["grid"])
    assert (rows["status"] == "ok").all()
    assert set(rows["features_id"]) == {f"gaussians-{mixture_of().digest[:8]}"}
    on = {
        name: rows[(rows["guidance"] == guidance) & (rows["on"] == branch) & (rows["temperature"] == 1)]
        for name, guidance, branch in (
            ("cfg", "cfg", "conditional"),
            ("conditional", "classifier", "conditional"),
            ("unconditional", "classifier", "unconditional"),
        )
    }
    fid = {name: part.set_index("w")["fid"] for name, part in on.items()}
    for w in fid["conditional"].index:
        assert fid["conditional"][w] == pytest.approx(fid["cfg"][w], rel=1e-3)
        assert fid["unconditional"][w + 1] == pytest.approx(fid["cfg"][w], rel=1e-3)
    assert fid["unconditional"][1] == pytest.approx(fid["cfg"][0], rel=1e-3)
    assert fid["cfg"][4] > 1.1 * fid["cfg"][0]

    code, out, err = run("sweep", path)  # nothing is left to do
    assert code == 0
    assert "1/" not in out
    code, out, err = run("sweep", path, "--dry-run")
    assert (code, err) == (0, "")
    assert f"{len(rows)} cells, 0 to run" in out
    code, out, _ = run("report", "gaussians", "--table", "md", "--quiet")
    assert code == 0
    assert "gaussians" in Path(out.strip()).read_text()
    code, _, err = run("report", "gaussians", "--plot", "samples", "--quiet")  # points are nothing to look at
    assert code == 2
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"means": [[0.1, 0.2], [0.3]]}, "unequal lengths"),
        ({"covariance": "wide"}, "covariance"),
        ({"covariance": []}, "covariance"),
        ({"covariance": [[0.01, 0.02], [0.02, 0.01]]}, "not positive definite"),
        ({"means": [[0.9, 0.9]]}, "make means and deviations smaller"),
        ({"means": [[0.0] * 5000]}, "at most 1,000 classes"),
        ({"means": [[0.0]] * 1500}, "at most 1,000 classes"),
        ({"limit": 2}, "3 classes need at least one image each"),
        ({"limit": 2**40}, "at most 8,388,608 points"),
        ({"resolution": 8}, "dataset.resolution: the data set gaussians does not use it"),
    ],
)
def test_what_is_no_mixture_is_one_line(sweep, run, dataset, message):
    code, out, err = run("sweep", sweep(dataset={"name": "gaussians"} | dataset))
    assert (code, out) == (2, "")
    assert err.startswith("cfgbench: sweep.yaml: dataset")
    assert message in err
    assert err.count("\n") == 1


def test_classes_that_are_one_and_classes_far_apart_are_sampled_too(sweep, run):
    sampling = {"samples": 70, "T": 4, "clip": False}
    for means in ([[0.1], [0.1]], [[-0.9] * 64, [0.9] * 64]):
        dataset = {"name": "gaussians", "means": means, "covariance": 1e-4}
        code, _, err = run("sweep", sweep(dataset=dataset, sampling=sampling, grid={"w": [0, 1]}), "--quiet")
        assert (code, err) == (0, "")


@pytest.mark.parametrize("asked", ["auto", "bf16"])
def test_what_is_exact_is_not_called_half_precision(sweep, run, asked):
    path = sweep(sampling={"samples": 300, "T": 4}, grid={"w": [0]})
    assert run("sweep", path, "--quiet", "--precision", asked)[::2] == (0, "")
    row = pd.read_parquet("results/gaussians/cells").iloc[0]
    assert (row["precision"], row["protocol"].split("; ")[-1]) == ("fp32", "fp32")
    assert " in fp32" in run("sweep", path, "--dry-run", "--precision", asked)[1]


def test_there_is_nothing_to_train(sweep, run):
    path = sweep()
    code, _, err = run("train", path, "--results", "my runs")
    assert code == 2
    assert f"nothing to train: its model exists already; run: cfgbench sweep {path} --results 'my runs'\n" in err


@pytest.mark.parametrize(
    ("words", "text", "said"),
    [
        (
            ["sweep"],
            "model: {name: gaussians}\nclassifier: {training: {steps: 3}}",
            "has its classifier in closed form",
        ),
        (["sweep"], "model: {checkpoint: a.pt, format: adm}", "a network for images; for the data set gaussians take"),
        (["eval", "a.npz", "--reference"], "model: {name: gaussians}", "its data set is points, not images"),
    ],
)
def test_what_is_for_images_is_refused(tmp_path, monkeypatch, run, words, text, said):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", arr_0=np.zeros((4, 8, 8, 1), np.uint8))
    Path("points.yaml").write_text(f"name: points\ndataset: {{name: gaussians}}\n{text}\ngrid: {{w: [0]}}\n")
    code, _, err = run(*words, "points.yaml")
    assert (code, err.count("\n")) == (2, 1)
    assert said in err
