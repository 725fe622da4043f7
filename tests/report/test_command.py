"""The report as it is run: rows in a results folder, the command, the files and what is printed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cfgbench.sweep.results.store import Store

TOP = Path(__file__).parents[2]


@pytest.fixture
def put(tmp_path, monkeypatch):
    """put(rows) lays them into results/digits as a sweep would."""
    monkeypatch.chdir(tmp_path)
    store = Store(Path("results/digits"))
    store.folder.mkdir(parents=True)
    (store.folder / "sweep.yaml").touch()

    def put(rows):
        for row in rows.to_dict("records"):
            store.put({key: None if value != value else value for key, value in row.items()})
        return store

    return put


@pytest.mark.parametrize("column", ["seed", "training.seed"])
def test_several_seeds_from_rows_to_page(put, run, table1, column):
    rows = table1[table1["p_uncond"] == 0.1]
    for seed, shift in enumerate((0.0, 0.03, -0.03)):
        cells = rows["cell_id"] + f"-{seed}"
        network = f"m{seed}" if column == "training.seed" else "m"
        put(rows.assign(**{column: seed}, fid=rows["fid"] + shift, cell_id=cells, checkpoint_id=network))
    code, out, err = run("report", "digits", "--plot", "strength", "--table", "md")
    assert code == 0, err
    assert out.split() == [f"reports/digits/{name}" for name in ("table.md", "strength.png", "strength.svg")]
    assert "1.550 ± 0.017 (min of 3: 1.520)" in Path("reports/digits/table.md").read_text()
    assert "digits: p_uncond 0.1: best FID 1.550 ± 0.017 at w 0.1 (scale 1.1), mean of 3 seeds" in err
    told = "difference 0.25 ± 0.00 (paired)" in err
    assert told == (column == "seed")  # trainings share the noise of their images, and what that does is not known here


def test_no_seed_is_taken_for_an_earlier_version(put, run, table1):
    for seed in range(2):
        put(table1.assign(seed=seed, cell_id=table1["cell_id"] + f"-{seed}"))
    run("report", "digits")
    page = Path("reports/digits/index.md").read_text()
    assert "84 cells: 84 done" in page
    assert "earlier version" not in page


@pytest.mark.parametrize("values", [(3, "three"), (3, True), (True, 0.5), ("a", True)])
def test_a_column_of_numbers_in_one_row_and_words_in_another_is_text(put, run, table1, values):
    for one, (_, rows) in zip((*values, None), table1.groupby("p_uncond"), strict=True):
        put(rows.assign(extra=pd.Series([one] * len(rows), index=rows.index, dtype=object)))
    code, _, err = run("report", "digits", "--quiet")
    assert code == 0, err
    kept = pd.read_parquet("reports/digits/rows.parquet")["extra"]
    assert set(kept.dropna()) == {str(one) for one in values}
    assert kept.isna().sum() == len(kept) / 3


def test_a_metric_that_was_not_measured_is_named(put, run, table1):
    put(table1.assign(is_mean=np.nan, is_std=np.nan))
    code, _, err = run("report", "digits", "--plot", "tradeoff")
    assert (code, err) == (
        2,
        "cfgbench: results/digits: --plot tradeoff: needs cells with FID and IS at two values of w or more; IS was not "
        "measured (evaluation.metrics)\n",
    )


def test_influences_beside_the_rows_pair_the_page(put, run, table1):
    rows = table1[table1["p_uncond"] == 0.1].assign(fid_se=0.5, samples=400)
    store = put(rows)
    noise = np.random.default_rng(0).normal(size=400)
    for number, cell_id in enumerate(rows["cell_id"]):
        q = 10 * noise + 0.1 * np.random.default_rng(number + 1).normal(size=400)
        store.influences.put(cell_id, {"label": np.arange(400) % 10, "fid": q, "is_mean": q})
    assert run("report", "digits", "--quiet")[2] == ""
    page = Path("reports/digits/index.md").read_text()
    assert "best FID 1.55 ± 0.50 at w 0.1 (scale 1.1); every other w can be told from it; 1.80 ± 0.50 without" in page
    assert "(paired)" in page
    assert page.count("FID of 400 images is biased upwards") == 2


def test_reports_of_several_sweeps_do_not_overwrite_each_other(put, run, table1):
    store = put(table1)
    shutil.copytree(store.folder, "results/other")
    code, out, err = run("report", "digits", "other", "--table", "md", "--out", "both", "--quiet")
    assert (code, err) == (0, "")
    assert out.split() == ["both/digits/table.md", "both/other/table.md"]
    assert Path("both/other/table.md").read_text() == Path("both/digits/table.md").read_text()


def test_different_protocols_are_kept_apart_until_told(put, run, table1):
    rows = table1.assign(protocol="clip on; fp32")
    rows.loc[rows["w"] > 1, "protocol"] = "clip on; bf16"
    put(rows)
    code, _, err = run("report", "digits", "--quiet")
    assert code == 0
    assert err == (
        "note: digits: 2 protocols are kept apart: [a] fp32, [b] bf16; --mixed puts them together and marks them\n"
    )
    table = Path("reports/digits/table.md").read_text()
    assert "**Table 2.**" in table
    assert "\\[a\\]" not in table
    code, _, err = run("report", "digits", "--mixed", "--quiet")
    left = ", ".join(f"{kind}-2.{end}" for kind in ("strength", "tradeoff") for end in ("png", "svg"))
    assert (code, err) == (0, f"note: digits: of an earlier report, and not of this one: {left}\n")
    table = Path("reports/digits/table.md").read_text()
    assert "**Table 2.**" not in table
    assert r"1.80 \[a\]" in table
    assert r"21.03 \[b\]" in table
    code, _, err = run("report", "digits", "--mixed", "--reference", "paper")
    assert code == 2
    assert "leave out --reference" in err
    for words in (["digits"], []):
        assert "--reference none: not known; there are paper" in run("report", *words, "--reference", "none")[2]


@pytest.mark.parametrize("name", ["digits", "fashion"])
def test_rows_from_before_these_columns_still_make_a_report(put, run, name):
    newer = ["fid_se", "is_se", "fid_infinity", "fid_infinity_se", "protocol_id", "training.seed", "digest"]
    put(pd.read_parquet(TOP / "reports" / name / "rows.parquet").drop(columns=newer, errors="ignore"))
    code, _, err = run("report", "digits", "--table", "md", "--table", "csv")
    assert code == 0, err
    old, new = (pd.read_csv(path) for path in (TOP / "reports" / name / "table.csv", "reports/digits/table.csv"))
    shared = [column for column in old if column.split(" p_uncond")[0] in ("w", "scale", "FID", "IS")]
    assert len(shared) == 8
    pd.testing.assert_frame_equal(new[shared], old[shared])
    assert "±" not in Path("reports/digits/table.md").read_text()
    assert "note:" not in err


@pytest.fixture
def images(put, table1):
    """A sweep with images of three classes in each cell."""
    store = put(table1)
    for cell_id in table1["cell_id"]:
        note = PngInfo()
        note.add_text("cfgbench", json.dumps({"height": 2, "width": 2, "labels": [[0, 1, 2]], "class_names": "abcd"}))
        path = store.samples(cell_id)
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (6, 2)).save(path, pnginfo=note)


def test_images_are_chosen_by_class_and_w(images, run):
    chosen = ("--classes", "c", "--classes", "0", "--w", "0", "--w", "1")
    code, out, err = run("report", "digits", "--plot", "samples", *chosen, "--quiet")
    assert (code, err) == (0, "")
    assert out.split() == [f"reports/digits/samples-chosen.{kind}" for kind in ("png", "svg")]
    code, out, _ = run("report", "digits", "--plot", "samples", "--quiet")
    assert out.split()[0] == "reports/digits/samples.png"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ("--plot", "samples", "--classes", "e"),
            "--classes e: no such class; there are images of a (0), b (1), c (2)",
        ),
        (
            ("--plot", "samples", "--classes", "d"),
            "--classes d: no images of that class were kept (evaluation.show says of which, when cells are made)",
        ),
        (("--plot", "samples", "--w", "0.35"), "--w 0.35: not sampled; there are w 0, 0.1, 0.2"),
        (("--plot", "samples", "--w", "nan"), "--w nan: not sampled"),
        (("--w", "1"), "--classes and --w choose images: add --plot samples, of a sweep"),
        (("--plot", "tradeoff", "--classes", "a"), "add --plot samples"),
    ],
)
def test_what_cannot_be_chosen_is_said(images, run, words, error):
    code, out, err = run("report", "digits", *words)
    assert (code, out) == (2, "")
    assert error in err
    assert not Path("reports").exists()


def test_the_paper_has_no_images(run):
    code, out, err = run("report", "--reference", "paper", "--plot", "samples", "--w", "1")
    assert (code, out) == (2, "")
    assert "a sweep" in err
    code, out, err = run("report", "--reference", "paper", "--plot", "samples")
    assert (code, out) == (2, "")
    assert "--plot samples: not known; there are tradeoff, strength, steps" in err
