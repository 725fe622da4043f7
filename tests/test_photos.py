"""The sweep of photographs, small: scikit-learn's two sample photographs cut into 64x64 tiles."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

from cfgbench.spec import load_sweep, make_cells

SWEEPS = Path(__file__).parents[1] / "sweeps"
SIDE = 64


@pytest.fixture
def photos(tmp_path):
    """train/china and train/flower, 20 tiles each."""
    from sklearn import datasets

    sample = datasets.load_sample_images()
    for name, photo in zip(("china", "flower"), sample.images, strict=True):
        folder = tmp_path / "photos" / "train" / name
        folder.mkdir(parents=True)
        corners = [(top, left) for top in range(0, 427 - SIDE, SIDE) for left in range(0, 640 - SIDE, SIDE)]
        for number, (top, left) in enumerate(corners[:20]):
            Image.fromarray(photo[top : top + SIDE, left : left + SIDE]).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_the_photograph_sweep_runs_small_on_a_processor(tmp_path, photos, monkeypatch, run):
    content = yaml.safe_load((SWEEPS / "tiny-imagenet64.yaml").read_text())
    content["dataset"]["path"] = str(photos)
    content["model"] |= {"channels": 16, "multipliers": [1, 2, 2], "blocks": 1, "attention": [16], "head_channels": 16}
    content["training"] |= {"steps": 12, "batch_size": 8, "learning_rate": 1e-3}
    content["sampling"] |= {"samples": 20, "batch_size": 10}
    content["grid"] = {"w": [0, 1], "T": [3]}
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CFGBENCH_INCEPTION_WEIGHTS", raising=False)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    path = tmp_path / "photos.yaml"
    path.write_text(yaml.safe_dump(content))
    code, out, err = run("sweep", path, "--dry-run", "--device", "cpu")
    assert code == 0, err
    assert "weights-inception-2015-12-05-6726825d.pth will be downloaded" in out
    content["evaluation"] = {"metrics": ["fid", "is"]}
    path.write_text(yaml.safe_dump(content))
    code, _, err = run("sweep", path, "--device", "cpu")
    assert code == 0, err
    rows = pd.read_parquet("results/tiny-imagenet64/cells")
    assert list(rows["status"]) == ["ok", "ok"]
    assert (rows["fid"] > 0).all()
    code, _, err = run("report", "tiny-imagenet64")
    assert code == 0, err
    for name in ("tradeoff.png", "samples.png", "table.md", "rows.parquet"):
        assert (tmp_path / "reports/tiny-imagenet64" / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("name", "count"),
    [("imagenet64", 42), ("imagenet128", 42), ("tiny-imagenet64", 7), ("digits", 42), ("fashion", 42)],
)
def test_the_sweep_files_say_what_the_paper_asks(name, count):
    spec = load_sweep(SWEEPS / f"{name}.yaml")
    assert spec.name == name
    assert len(make_cells(spec, data="d", features="f")) == count


def test_the_papers_sweeps_have_the_papers_settings():
    table1, table2 = (load_sweep(SWEEPS / f"imagenet{side}.yaml") for side in (64, 128))
    assert (table1.training.steps, table1.sampling.v, table1.sampling.samples) == (400_000, 0.3, 50_000)
    assert (table2.training.steps, table2.sampling.v, table2.sampling.samples) == (2_700_000, 0.2, 50_000)
    assert table1.grid["p_uncond"] == [0.1, 0.2, 0.5]
    assert table2.grid["T"] == [128, 256, 1024]
    assert table1.training.batch_size == 2048
    unnamed = table1.model_copy(update={"evaluation": type(table1.evaluation)()})
    assert (table1.features, unnamed.features) == ("inception", "inception")
