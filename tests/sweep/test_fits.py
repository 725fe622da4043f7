"""What cannot work is said before any work starts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CFGBENCH_CACHE", str(tmp_path / "cache"))


def pictures(side, count=129):
    """A folder of two classes of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side), dtype=np.uint8)
    for number, picture in enumerate(pixels):
        folder = Path("pictures", "ab"[number % 2])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number}.png")


@pytest.mark.parametrize(("side", "enough"), [(1, False), (3, False), (4, True)])
def test_images_that_the_classifier_cannot_divide_are_refused(run, side, enough):
    pictures(side)
    Path("tiny.yaml").write_text(
        "name: tiny\ndataset: {name: folder, path: pictures}\n"
        "model: {channels: 4, multipliers: [1], blocks: 1, attention: []}\ntraining: {steps: 30, batch_size: 4}\n"
        "sampling: {samples: 10}\nevaluation: {metrics: [fid]}\ngrid: {w: [0], T: [2]}\n"
    )
    code, _, err = run("sweep", "tiny.yaml", "--quiet")
    if enough:
        assert code == 0, err
    else:
        said = f"dataset: images of {side} x {side}, which the classifier that measures them cannot divide; 4 x 4 is"
        assert (code, err) == (2, f"cfgbench: tiny.yaml: {said} the least\n")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("channels: 16, head_channels: 8", ""),
        ("channels: 16, head_channels: 16", ""),
        ("channels: 16, head_channels: 64", ""),
        ("channels: 20, head_channels: 16", "model.head_channels = 16: does not divide 20 channels"),
        ("channels: 24, head_channels: 16", "model.head_channels = 16: does not divide 24 channels"),
        ("channels: 16, heads: 4", ""),
        ("channels: 16, heads: 3", "model.heads = 3: does not divide 16 channels"),
    ],
)
def test_heads_are_as_wide_as_is_said_or_refused(run, model, said):
    Path("heads.yaml").write_text(
        f"name: heads\ndataset: {{name: digits, limit: 20}}\nmodel: {{{model}, multipliers: [1], attention: [8]}}\n"
        "training: {steps: 1, batch_size: 4}\ngrid: {w: [0], T: [2]}\n"
    )
    code, _, err = run("sweep", "heads.yaml", "--dry-run")
    assert (code, said in err) == (2 if said else 0, True), err


ADM = """name: adm
dataset: {name: imagenet64, path: npz}
model: {checkpoint: adm.pt, format: adm}
classifier: {model: {channels: 4, multipliers: [1], blocks: 1, attention: []}, training: {steps: 1}}
sampling: {samples: 10}
evaluation: {features: inception-64, metrics: [fid], inception_weights: adm.pt}
"""


def test_a_released_network_and_a_classifier_of_the_batches_mean_other_classes_by_a_number(run):
    Path("npz").mkdir()
    flat = np.zeros((4, 3 * 64 * 64), dtype=np.uint8)
    np.savez("npz/train_data_batch_1.npz", data=flat, labels=[1, 2, 3, 1000])
    Path("adm.pt").write_bytes(b"weights")
    Path("adm.yaml").write_text(f"{ADM}grid: {{guidance: [classifier], w: [1], T: [2]}}\n")
    code, _, err = run("sweep", "adm.yaml", "--quiet")
    assert code == 2
    assert "adm.yaml: guidance = classifier: ADM's networks number the classes otherwise than the npz batches" in err
    Path("adm.yaml").write_text(f"{ADM}grid: {{w: [0], T: [2]}}\n")
    assert "number the classes" not in run("sweep", "adm.yaml", "--quiet")[2]
    for name, numbered in (("n0144076{}", False), ("class {}", True), ("{}", True)):
        for number in (4, 5):
            Path("trees", name, name.format(number)).mkdir(parents=True)
            Image.fromarray(flat[0].reshape(64, 64, 3)).save(Path("trees", name, name.format(number), "0.JPEG"))
        for dataset in ("imagenet64", "folder"):
            text = f"{ADM}grid: {{guidance: [classifier], w: [1], T: [2]}}\n".replace("imagenet64", dataset)
            Path("adm.yaml").write_text(text.replace("path: npz", f"path: 'trees/{name}'"))
            err = run("sweep", "adm.yaml", "--quiet")[2]
            assert ("ADM's networks number the classes otherwise than" in err) == numbered, err
