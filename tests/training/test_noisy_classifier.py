"""The classifier of noisy images: what it learns, what its gradient is, and that it lives like any other network."""

from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from cfgbench.data import load
from cfgbench.data.images import Images
from cfgbench.diffusion.guidance import Networks, class_gradient
from cfgbench.diffusion.schedule import diffuse
from cfgbench.errors import UserError
from cfgbench.models.checkpoint import load_network
from cfgbench.models.noisy_classifier import HalfUNet
from cfgbench.models.precision import Compute
from cfgbench.models.unet import UNet
from cfgbench.spec import Dataset, Model, Network, Sampling, Training
from cfgbench.sweep.fill import generate
from cfgbench.training.diffusion import train
from cfgbench.training.state import begin

CPU = torch.device("cpu")
SMALL = Model(channels=8, multipliers=[1, 2], attention=[4], head_channels=8)
SWEEP = """
name: guided
dataset: {name: digits, limit: 300}
model: {channels: 8, multipliers: [1, 2], attention: [4]}
training: {steps: 20, batch_size: 32, learning_rate: 3e-3}
classifier: {training: {steps: STEPS, batch_size: 64, learning_rate: 3e-3, ema_decay: 0.9}}
sampling: {samples: 40, batch_size: 40, T: 4}
grid:
  - {w: [0, 1]}
  - {guidance: [classifier], on: [conditional, unconditional], w: [1, 2]}
  - {guidance: [score-scale], w: [0.1]}
  - {temperature: [0.9]}
"""


@pytest.fixture(scope="module")
def digits():
    """(images to learn from, images held out)"""
    every = load(Dataset(name="digits"))
    held = torch.arange(len(every.labels)).numpy() % 5 == 0
    return [Images("digits", every.images[p], every.labels[p], every.class_names, flips=False) for p in (~held, held)]


def trained(images, path):
    training = Training(steps=250, batch_size=128, learning_rate=2e-3, ema_decay=0.98, p_uncond=0.0)
    model = Model(channels=16, multipliers=[1, 2], attention=[4])
    train(images, Network("classifier", "", model, training), path, Compute(CPU, "bf16"))
    return load_network(path, "classifier", CPU)


def right(classifier, images, lam, draws=3):
    """The share of held-out images whose class it says at this log-SNR."""
    x = (torch.from_numpy(images.images).float() / 127.5 - 1).repeat(draws, 1, 1, 1)
    lams = torch.full((len(x),), float(lam))
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    found = classifier(diffuse(x, lams, eps), lams).argmax(dim=1)
    return (found == torch.from_numpy(images.labels).repeat(draws)).float().mean().item()


def test_it_knows_clean_digits_that_it_never_saw_and_pure_noise_not_at_all(digits, tmp_path):
    learned, held = digits
    classifier = trained(learned, tmp_path / "c.safetensors")
    assert right(classifier, held, 20) > 0.95
    assert right(classifier, held, 6) > 0.95
    n = 3 * len(held.labels)
    assert right(classifier, held, -20) == pytest.approx(0.1, abs=4 * (0.09 / n) ** 0.5)
    at = [right(classifier, held, lam) for lam in (4, 1, -1, -4)]
    assert at == sorted(at, reverse=True)
    with pytest.raises(UserError, match=r"not a checkpoint of a denoiser \(it is a classifier's\)"):
        load_network(tmp_path / "c.safetensors", "denoiser", CPU)


def network(**keys):
    """Its weights as training begins, with nothing left at zero, so that every part has a gradient."""
    half = HalfUNet(SMALL, image_channels=1, side=8, num_classes=3)
    begin(half, Training(steps=1, **keys), CPU, "fp32")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in half.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return half.eval().requires_grad_(False)


@pytest.mark.parametrize("lam", [-5.0, 0.0, 8.0])
def test_the_gradient_is_that_of_finite_differences(lam):
    half = network().double()
    z = torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lams, c = torch.full((2,), lam, dtype=torch.float64), torch.tensor([0, 2])
    found = class_gradient(half, z, lams, c)
    log_p = partial(_log_p, half, lam=lams, c=c)
    for row, column in ((0, 0), (3, 4), (7, 7)):
        step = torch.zeros_like(z)
        step[:, 0, row, column] = 1e-3
        difference = (log_p(z + step) - log_p(z - step)) / 2e-3
        assert torch.allclose(found[:, 0, row, column], difference, rtol=1e-3, atol=1e-5)


def test_the_gradients_of_many_images_are_found_in_parts(monkeypatch):
    """All that the layers gave of all images is more than memory holds, where the images are large."""
    half, generator = network(), torch.Generator().manual_seed(0)
    z, lams = torch.randn(10, 1, 8, 8, generator=generator), torch.linspace(-5, 5, 10)
    c = torch.arange(10) % 3
    whole = class_gradient(half, z, lams, c)
    monkeypatch.setattr("cfgbench.models.unet.BYTES_A_CORE", 1)
    assert half.at_once(z) == 1
    monkeypatch.setattr(HalfUNet, "at_once", lambda self, z: 4)
    seen = []
    half.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    with torch.inference_mode():
        torch.testing.assert_close(class_gradient(half, z, lams, c), whole, rtol=1e-4, atol=1e-6)
    assert seen == [4, 4, 2]


def _log_p(half, z, lam, c):
    kept = []  # before the network's own last step to float32, which finite differences cannot bear
    hook = half.pool.register_forward_hook(lambda module, inputs, output: kept.append(output))
    half(z, lam)
    hook.remove()
    return kept[-1].log_softmax(dim=1).gather(1, c[:, None])[:, 0]


def test_it_is_half_of_the_unet():
    image = {"image_channels": 1, "side": 8, "num_classes": 3}
    half, whole = HalfUNet(SMALL, **image).state_dict(), UNet(SMALL, **image).state_dict()
    shared = {name for name in half if not name.startswith(("pool.", "norm."))}
    assert all(half[name].shape == whole[name].shape for name in shared)
    assert {name.partition(".")[0] for name in whole.keys() - half.keys()} == {"up", "embedding", "last"}


def test_images_do_not_depend_on_batches_under_a_classifier_either():
    image = {"image_channels": 1, "side": 8, "num_classes": 3}
    denoiser = UNet(SMALL, **image)
    begin(denoiser, Training(steps=1), CPU, "fp32")
    networks = Networks(denoiser.eval().requires_grad_(False), network())
    sampling = Sampling(samples=60, guidance="classifier", w=2.0, T=4)
    together = generate(networks, sampling, torch.arange(60), (1, 8, 8), "fp32")
    apart = [generate(networks, sampling, part, (1, 8, 8), "fp32") for part in torch.arange(60).split(7)]
    assert torch.equal(torch.cat(apart), together)


def rows(folder):
    paths = sorted(Path(folder).glob("cells/*.parquet"))
    return [pq.read_table(path, partitioning=None).to_pylist()[0] for path in paths]


def test_a_sweep_trains_one_classifier_for_both_branches_and_says_what_it_costs(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    Path("guided.yaml").write_text(SWEEP.replace("STEPS", "60"))
    code, out, err = run("train", "guided.yaml", "--quiet")
    assert (code, len(out.split())) == (0, 2), err
    made = {path: path.stat().st_mtime_ns for path in Path("results/guided/checkpoints").glob("*.safetensors")}
    assert run("sweep", "guided.yaml", "--quiet")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in made} == made
    found = {(row["guidance"], row["on"], row["temperature"], row["w"]): row for row in rows("results/guided")}
    passes = {key: row["nfe"] / row["T"] for key, row in found.items()}
    assert passes == {
        ("cfg", "conditional", 1, 0): 1,
        ("cfg", "conditional", 1, 1): 2,
        ("classifier", "conditional", 1, 1): 3,
        ("classifier", "conditional", 1, 2): 3,
        ("classifier", "unconditional", 1, 1): 3,
        ("classifier", "unconditional", 1, 2): 3,
        ("score-scale", "conditional", 1, 0.1): 1,
        ("cfg", "conditional", 0.9, 0): 1,
    }
    assert len({row["fid"] for row in found.values()}) == len(found)
    ids = {row["classifier_id"] for key, row in found.items() if key[0] == "classifier"}
    assert ids == {path.stem for path in made} - {row["checkpoint_id"] for row in found.values()}
    assert all(row["classifier_id"] is None for key, row in found.items() if key[0] != "classifier")
    before = {path: path.stat().st_mtime_ns for path in Path("results/guided/cells").iterdir()}
    assert run("sweep", "guided.yaml", "--quiet")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    listed = run("ls", "guided")[1]
    assert "w 2, guidance classifier on unconditional: FID" in listed
    assert "w 0 (scale 1), temperature 0.9: FID" in listed


def test_cells_at_w_0_need_no_classifier(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    grid = "grid: [{guidance: [classifier], on: [conditional, unconditional], w: [0]}, {w: [-1, 0]}]"
    Path("guided.yaml").write_text(SWEEP.partition("grid:")[0].replace("STEPS", "1") + grid)
    code, _, err = run("sweep", "guided.yaml", "--quiet")
    assert code == 0, err
    assert len(list(Path("results/guided/checkpoints").glob("*.safetensors"))) == 1
    found = {(row["guidance"], row["on"], row["w"]): row for row in rows("results/guided")}
    assert all(row["nfe"] == row["T"] and row["classifier_id"] is None for row in found.values())
    for on, w in (("conditional", 0), ("unconditional", -1)):
        assert found["classifier", on, 0]["fid"] == found["cfg", "conditional", w]["fid"]


def test_a_classifier_that_knows_nothing_stops_the_sweep(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    Path("guided.yaml").write_text(SWEEP.replace("STEPS", "1"))
    code, _, err = run("sweep", "guided.yaml", "--quiet")
    assert code == 2
    assert "of 200 of the data set's own images at log-SNR 6, where one answer for all is right for" in err
    assert "classifier.training" in err


def test_a_classifier_that_diverges_is_tried_once_and_what_needs_none_goes_on(tmp_path, monkeypatch, run):
    from cfgbench.sweep import networks

    monkeypatch.chdir(tmp_path)
    text = SWEEP.replace("STEPS", "20").replace(
        "batch_size: 64, learning_rate: 3e-3", "batch_size: 64, learning_rate: 1e30"
    )
    Path("guided.yaml").write_text(
        text.replace("{guidance: [classifier],", "{p_uncond: [0.1, 0.2], guidance: [classifier],")
    )
    trained, honest = [], networks.train
    monkeypatch.setattr(networks, "train", lambda *a, **keys: trained.append(a[1].kind) or honest(*a, **keys))
    code, _, err = run("sweep", "guided.yaml", "--quiet")
    assert (code, trained) == (1, ["denoiser", "classifier", "denoiser"])
    states = {(row["guidance"], row["status"]) for row in rows("results/guided")}
    assert states == {("cfg", "ok"), ("score-scale", "ok"), ("classifier", "failed")}
    assert len(rows("results/guided")) == 12
    assert "8 cells failed" in err


def test_what_is_wrong_with_a_classifier_is_said_in_a_line(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    text = SWEEP.replace("{training: {steps: STEPS", "{model: {attention: [2]}, training: {steps: 3")
    Path("guided.yaml").write_text(text)
    code, _, err = run("sweep", "guided.yaml")
    assert (code, err.count("\n")) == (2, 1)
    assert "classifier.model.attention = [2]: 2 is none of the levels' sides" in err
