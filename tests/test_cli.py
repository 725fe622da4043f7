"""Through the door that users use: the command line, on real if small sweeps."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from programs import NOBODY, foreground, read_by

import cfgbench
from cfgbench.diffusion.guidance import Networks
from cfgbench.models import native_group_norm, pace
from cfgbench.models.checkpoint import load_network
from cfgbench.spec import Sampling
from cfgbench.sweep import fill as filling
from cfgbench.sweep.notes import notes_on
from cfgbench.sweep.plan import make_plan
from cfgbench.sweep.workers import pool as worker_pool
from cfgbench.sweep.workers.pool import run_shared

TOP = Path(__file__).parents[1]
SMALL = """
name: digits
dataset: {name: digits, limit: 200}
model: {channels: 8, multipliers: [1, 2], attention: [4]}
training: {steps: 12, batch_size: 16, learning_rate: 3e-3}
sampling: {samples: 40, batch_size: 20}
grid: {p_uncond: [0.1, 0.5], w: [0, 1], T: [3]}
"""
MEASURED = ["seconds", "images_per_second", "created", "digest"]


@pytest.fixture(scope="module")
def first_results(tmp_path_factory):
    """Where those of SMALL are kept, once there are any."""
    return tmp_path_factory.mktemp("first") / "results"


@pytest.fixture
def finished(small, run, first_results):
    """The results of SMALL stand in the working folder: the first test runs it, the others have copies."""
    if first_results.exists():
        shutil.copytree(first_results, "results")
    else:
        assert run("sweep", small)[0] == 0
        shutil.copytree("results", first_results)


@pytest.fixture
def networks_there(finished):
    """The networks of SMALL alone stand there: what the test runs trains none, which takes as long as all the rest."""
    for name in ("cells", "influence", "samples"):
        shutil.rmtree(f"results/digits/{name}")


def rows(folder="results/digits"):
    table = pd.read_parquet(f"{folder}/cells")
    return table.sort_values("cell_id", ignore_index=True).drop(columns=MEASURED)


def test_a_sweep_gives_a_row_a_cell_and_the_second_time_no_work(small, run):
    code, out, _ = run("sweep", small)
    assert code == 0
    assert "4/4" in out
    table = rows()
    assert list(table["status"]) == ["ok"] * 4
    assert sorted(zip(table["p_uncond"], table["w"], strict=True)) == [(0.1, 0), (0.1, 1), (0.5, 0), (0.5, 1)]
    assert table.loc[table["w"] == 0, "nfe"].tolist() == [3, 3]
    assert table.loc[table["w"] == 1, "nfe"].tolist() == [6, 6]
    assert table["fid"].gt(0).all()
    assert table["is_mean"].between(1, 10).all()
    assert table["features_id"].str.startswith("digits-").all()
    assert table["fid_se"].isna().all()
    before = {path: path.stat().st_mtime_ns for path in Path("results").rglob("*") if path.is_file()}
    code, _, err = run("sweep", small)
    assert (code, err) == (0, "")
    assert before == {path: path.stat().st_mtime_ns for path in Path("results").rglob("*") if path.is_file()}


def test_one_more_w_runs_only_the_new_cells(small, finished, run):
    before = rows()
    small.write_text(SMALL.replace("w: [0, 1]", "w: [0, 0.5, 1]"))
    _, out, _ = run("sweep", small, "--dry-run")
    assert "6 cells, 2 to run, 480 network passes" in out
    assert "on top come digits features of 80 images\n" in out  # those of the data set are kept
    fresh = run("sweep", small, "--dry-run", "--results", "elsewhere")[1]
    assert "on top come digits features of 240 images, and of the data set's 200\n" in fresh
    assert len(re.findall("trained: p_uncond", out)) == 2
    small.write_text(SMALL.replace("p_uncond: [0.1, 0.5], w: [0, 1]", "w: [1]"))
    assert "\n1 cell, 0 to run, 0 network passes\n" in run("sweep", small, "--dry-run")[1]
    small.write_text(SMALL.replace("w: [0, 1]", "w: [0, 0.5, 1]"))
    _, out, err = run("sweep", small)
    assert "2/2" in out
    assert "train" not in err
    after = rows()
    assert len(after) == 6
    pd.testing.assert_frame_equal(after[after["w"] != 0.5].reset_index(drop=True), before)


def test_one_more_axis_leaves_a_curve_whole_at_once(small, run):
    grid = SMALL.index("grid:")
    small.write_text(f"{SMALL[:grid]}grid: {{w: [0, 1], T: [3]}}\n")
    run("sweep", small)
    small.write_text(f"{SMALL[:grid]}grid: {{w: [0, 0.5, 1], T: [3], clip: [true, false]}}\n")
    _, out, _ = run("sweep", small)
    assert "4/4" in out
    words = " ".join(out.split())
    assert "not stated" not in words
    assert sorted(re.findall("features, clip (True|False)", words)) == ["False", "True"]


def test_ls_tells_rows_of_other_cells_from_the_sweeps_own(small, run):
    grid = SMALL.index("grid:")
    for steps in (12, 13):
        text = SMALL[:grid].replace("steps: 12", f"steps: {steps}")
        small.write_text(f"{text}grid: {{w: [1], T: [3]}}\n")
        run("sweep", small)
    own, _, other, _ = run("ls", "digits")[1].splitlines()
    place = "p_uncond 0.1, T 3, w 1 (scale 2)"
    assert f"{place}:" in own
    assert re.search(rf"{re.escape(place)}, .*checkpoint_id \w+:", other)


def test_ls_counts_the_cells_that_the_sweep_has_now(small, finished, run):
    small.write_text(SMALL.replace("w: [0, 1]", "w: [1, 2]"))
    run("train", small)
    assert "2 of 4 cells done, 2 missing, 2 networks trained, 2 rows of other cells" in run("ls")[1]
    *lines, count = run("ls", "digits")[1].splitlines()
    missing = [line.split("  ")[1:] for line in lines if "missing" in line]
    assert missing == [["missing", f"p_uncond {p}, T 3, w 2 (scale 3)"] for p in (0.1, 0.5)]
    assert "2 of 4 cells done" in count
    small.write_text(SMALL.replace("w: [0, 1]", "w: [1], learning_rate: [2e-3, 3e-3]"))
    run("sweep", small)
    assert "4 of 4 cells done, 0 missing, 4 networks trained, 2 rows of other cells" in run("ls")[1]
    small.write_text(SMALL.replace("w: [0, 1]", "w: [0]"))
    run("sweep", small)  # all is there
    assert "2 of 2 cells done, 0 missing, 4 networks trained, 4 rows of other cells" in run("ls")[1]
    small.write_text(SMALL.replace("steps: 12", "steps: 13").replace("w: [0, 1]", "w: [0]"))
    run("train", small)
    assert "0 of 2 cells done, 2 missing, 6 networks trained, 6 rows of other cells" in run("ls")[1]


def test_a_report_has_the_networks_that_the_sweep_has_now(small, run):
    def reported():
        table = run("report", "--table", "csv") and pd.read_csv("reports/digits/table.csv")
        return set(table.filter(like="FID p_uncond").filter(regex="[0-9]$").stack().dropna())

    def swept(text):
        small.write_text(text)
        run("sweep", small)
        return reported()

    other = SMALL.replace("steps: 12", "steps: 40")
    first, second = swept(SMALL), swept(other)
    assert (len(first), len(second), first & second) == (4, 4, set())
    assert swept(SMALL) == first  # without any work
    assert first < swept(SMALL.replace("w: [0, 1]", "w: [1, 2]"))
    half = other.replace("steps: 40", "steps: 30")
    third = swept(half.replace("[0.1, 0.5]", "[0.1]"))
    assert (len(third), third & (first | second)) == (2, set())
    small.write_text(half)
    run("train", small)  # and stopped there: p_uncond 0.5 has no cells of this training yet
    assert reported() == third


def test_cells_are_told_apart_by_all_that_varies(small, run):
    grid = "grid: {w: [1], T: [3], sampler: [ancestral, ddim], sampling.seed: [0, 7]}"
    small.write_text(f"{SMALL[: SMALL.index('grid:')]}{grid}\n")
    told = [line.split(": ")[0].split(" ", 1)[1] for line in run("sweep", small)[1].splitlines()[:4]]
    places = [f"sampler {sampler}, sampling.seed {seed}" for sampler in ("ancestral", "ddim") for seed in (0, 7)]
    assert told == [f"p_uncond 0.1, T 3, w 1 (scale 2), {place}" for place in places]
    listed = [line.split(", w 1 (scale 2), ")[1].split(":")[0] for line in run("ls", "digits")[1].splitlines()[:4]]
    names = [(seed, sampler) for sampler in ("ancestral", "ddim") for seed in (0, 7)]
    assert listed == [f"sampling.seed {seed}, sampling.sampler {sampler}" for seed, sampler in names]
    small.write_text(SMALL.replace("p_uncond: [0.1, 0.5], w: [0, 1]", "w: [1]"))
    run("sweep", small)
    lines = run("ls", "digits")[1].splitlines()
    assert lines[1] == "rows of other cells:"
    assert len(lines) == 6  # one is both sweeps'
    others = [line.split(", w 1 (scale 2), ")[1].split(":")[0] for line in lines[2:5]]
    assert sorted(others) == ["sampler ancestral, seed 7", "sampler ddim, seed 0", "sampler ddim, seed 7"]


def test_a_report_says_what_is_missing_and_what_is_shown_beside(small, finished, run):
    first = next(Path("results/digits/cells").glob("*.parquet"))
    kept = first.read_bytes()
    first.unlink()
    _, _, err = run("report")
    assert "note: digits: 1 cell of the sweep not run yet" in err
    assert "4 cells: 3 done, 0 failed, 1 not run yet." in Path("reports/digits/index.md").read_text()
    first.write_bytes(kept)
    small.write_text(SMALL.replace("w: [0, 1]", "w: [1]"))
    run("sweep", small)
    assert "note: digits: 2 rows of cells that the sweep no longer has, shown too" in run("report")[2]
    said = "2 cells: 2 done, 0 failed; 2 rows of cells that the sweep no longer has are shown too."
    assert said in Path("reports/digits/index.md").read_text().splitlines()
    (Path("results/digits/influence") / first.name).write_bytes(b"damaged")
    assert "note: digits: 1 cell without readable influences, compared without pairing" in run("report")[2]


def test_figures_of_an_earlier_report_are_told_of(small, run):
    small.write_text(SMALL.replace("T: [3]", "T: [3, 4]"))
    run("sweep", small)
    assert "earlier" not in run("report")[2]
    assert Path("reports/digits/steps.png").exists()
    small.write_text(SMALL.replace("steps: 12", "steps: 13"))
    run("sweep", small)
    Path("results/digits/cells/folder.parquet").mkdir()  # is no row
    Path("results/digits/checkpoints/old.partial").touch()
    code, _, err = run("report")
    assert code == 0
    (left,) = (line for line in err.splitlines() if "of an earlier report, and not of this one: " in line)
    assert {"steps.png", "steps.svg", "tradeoff-2.png"} <= set(left.rpartition(": ")[2].split(", "))
    assert "4 networks trained, 1 training not at its end" in run("ls")[1]


def test_a_sweep_file_that_is_not_as_it_was_run_is_told(small, finished, run):
    for command in ("ls", "report"):
        assert "not as it was run" not in run(command, small)[2]
    small.write_text(SMALL.replace("steps: 12", "steps: 9999"))
    for command in ("ls", "report"):
        code, _, err = run(command, small)
        assert code == 0
        assert f"note: {small} is not as it was run; this is the sweep of results/digits/sweep.yaml" in err
    kept = Path("results/digits/sweep.yaml")  # an earlier version took what is refused now
    kept.write_text(kept.read_text().replace("evaluation:", "evaluation:\n  inception_weights: w.pth"))
    code, _, err = run("ls", small)
    assert (code, f"note: {small} is not as it was run" in err) == (0, True), err


def test_without_a_name_the_newest_sweep_with_rows_is_reported(small, finished, run):
    other = Path("other.yaml")
    other.write_text(SMALL.replace("name: digits\n", "name: later\n").replace("steps: 12", "steps: 3"))
    run("train", other, "--p-uncond", "0.1")
    assert run("ls")[1].startswith("later")
    assert "reports/digits/index.md" in run("report")[1]


def test_a_precision_that_changes_nothing_is_told(small, run):
    run("sweep", small, "--precision", "fp32")
    assert run("sweep", small)[2] == ""
    assert "made before in fp32: --precision bf16 is for cells" in run("sweep", small, "--precision", "bf16")[2]
    small.write_text(small.read_text().replace("T: [3]", "T: [3, 4]"))
    said = (
        "note: cells are there in fp32, and what is missing comes in bf16, another protocol; --precision fp32 goes on"
    )
    assert said in run("sweep", small, "--precision", "bf16", "--dry-run")[2]
    assert said not in run("sweep", small, "--precision", "fp32", "--dry-run")[2]
    assert run("sweep", small, "--precision", "fp8")[0] == 2


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "abc"}, "WORLD_SIZE = 'abc': should be a number of processes"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE = 2: RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT missing"),
        ({"WORLD_SIZE": "2", "RANK": "x", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"},
         "RANK = 'x': should be a number, as torchrun sets it"),
    ],
)  # fmt: skip
def test_half_of_torchruns_variables_are_refused(small, run, monkeypatch, variables, said):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for command in ("train", "sweep"):
        code, _, err = run(command, small)
        assert code == 2
        assert said in err


OUT_OF_MEMORY = "cfgbench: out of memory; what is finished is kept"


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("cfgbench.training.step.Step._loss", {"train": OUT_OF_MEMORY, "sweep": "4 cells failed"}),
        ("cfgbench.sweep.reference.moments_of", {"sweep": OUT_OF_MEMORY}),
    ],
)
def test_memory_that_a_device_lacks_is_a_line_wherever_it_is(small, run, monkeypatch, place, told):
    """Here for a single image in training, and where the data set is measured."""

    def none_left(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(place, none_left)
    for command, line in told.items():
        code, _, err = run(command, small, "--quiet")
        assert (code, err.splitlines()[-1][: len(line)]) == (1, line)


def test_few_images_of_many_classes_have_a_note(small, run):
    said = "note: a split of the Inception Score holds 4 images, fewer than the 10 classes"
    error = "note: 40 images: no error of the FID: it takes more images than the features' 64 dimensions"
    for words in (["--dry-run"], ["--quiet"]):  # before hours go into it, and with the first cell
        first, second, *_ = run("sweep", small, *words)[2].splitlines()
        assert first == error
        assert second.startswith(said)
    assert rows()["notes"].eq(f"IS: {second.removeprefix('note: ')}").all()  # for whoever has the table alone
    assert run("report", "digits", "--table", "md", "--table", "csv", "--table", "tex")[0] == 0
    for kind in ("md", "csv", "tex"):
        written = Path(f"reports/digits/table.{kind}").read_text()
        assert written.count(said.replace("note", "IS")) == (2 if kind == "csv" else 1)
        assert "has no error: that takes more images than the features have dimensions" in written
    small.write_text(SMALL.replace("samples: 40", "samples: 100").replace("T: [3]", "T: [2]"))
    err = run("sweep", small)[2]  # a split of as many images as there are classes, of more than the dimensions
    assert not any(words in err for words in ("a split of the Inception Score", "no error of the FID"))


def test_files_of_a_folder_that_were_passed_over_have_a_note(small, run):
    rng = np.random.default_rng(0)
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png", "b/2.webp", "loose.png"):
        Path("photos", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(Path("photos", name))
    small.write_text(SMALL.replace("name: digits, limit: 200", "name: folder, path: photos"))
    said = "note: 2 files are no PNG or JPEG in a class folder and were passed over\n"
    assert said in run("sweep", small, "--dry-run")[2]
    assert said in run("sweep", small)[2]
    assert run("sweep", small)[2] == run("sweep", small, "--dry-run")[2] == ""  # no cell is missing
    Path("photos/loose.png").unlink()
    small.write_text(small.read_text().replace("T: [3]", "T: [2]"))
    assert "note: 1 file is no PNG or JPEG in a class folder and was passed over\n" in run("sweep", small)[2]


@pytest.mark.parametrize(("base", "axis", "notes"), [(50_000, [100, 50], 1), (50, [50_000], 0)])
def test_images_that_an_axis_counts_are_those_of_the_note(small, base, axis, notes):
    small.write_text(SMALL.replace("samples: 40", f"samples: {base}").replace("T: [3]", f"T: [3], samples: {axis}"))
    found = [note for note in notes_on(make_plan(small, Path("results")), "fp32") if "Inception Score" in note]
    assert len(found) == notes
    assert all("holds 5 images, fewer than the 10 classes" in note for note in found)


def test_classes_of_unequal_sizes_are_told_where_fid_counts_them(small, run):
    rng = np.random.default_rng(0)
    for name, count in (("a", 7), ("b", 3)):
        for number in range(count):
            Path("photos", name).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8))
            image.save(Path("photos", name, f"{number}.png"))
    small.write_text(SMALL.replace("name: digits, limit: 200", "name: folder, path: photos"))
    said = (
        "note: classes have 3 to 7 images, and samples equally many of each: FID counts that difference too; dataset."
    )
    assert f"{said}limit: 6 takes equally many\n" in run("sweep", small, "--dry-run")[2]
    assert "note: the reference has 10 images, of 64 dimensions: FID is biased" in run("sweep", small, "--dry-run")[2]
    assert run("sweep", small, "--quiet")[0] == 0
    few = "the reference has 10 images, of 64 dimensions: FID is biased upwards by that too, and FID∞ does not take it"
    shares = f"{said.replace('note', 'FID')}limit: 6 takes equally many"
    assert rows()["notes"].eq(f"FID: {few} out | {shares}").all()
    assert run("report", "digits", "--table", "md")[0] == 0
    lines = Path("reports/digits/table.md").read_text().splitlines()
    assert {f"FID: {few} out.", f"{shares}."} <= {line.replace("\\", "") for line in lines}
    small.write_text(small.read_text().replace("path: photos", "path: photos, limit: 6"))
    assert "classes have" not in run("sweep", small, "--dry-run")[2]


def test_a_classifier_that_guides_nothing_is_told(small, run):
    small.write_text(SMALL + "classifier: {training: {steps: 2}}\n")
    said = "note: classifier: trains nothing, as no cell is guided by one\n"
    assert said in run("sweep", small, "--dry-run")[2]
    with_none = small.read_text()
    small.write_text(with_none.replace("w: [0, 1]", "w: [0]").replace("T: [3]", "T: [3], guidance: [cfg, classifier]"))
    assert said in run("sweep", small, "--dry-run")[2]
    small.write_text(with_none.replace("T: [3]", "T: [3], guidance: [cfg, classifier]"))
    assert said not in run("sweep", small, "--dry-run")[2]


def test_a_null_class_that_is_hardly_ever_trained_is_told(small, run):
    small.write_text(SMALL.replace("p_uncond: [0.1, 0.5]", "p_uncond: [0.1, 0.0001]"))
    said = (
        "note: p_uncond 0.0001: of the 192 images of a training fewer than one loses its class: the null class is not"
    )
    err = run("sweep", small, "--dry-run")[2]
    assert (said in err, err.count("null class")) == (True, 1)
    small.write_text(small.read_text().replace("w: [0, 1]", "w: [0]"))
    assert said not in run("sweep", small, "--dry-run")[2]
    for command in ("sweep", "train"):  # before hours go into it
        small.write_text(SMALL.replace("p_uncond: [0.1, 0.5]", "p_uncond: [0.0001]"))
        err = run(command, small)[2]
        assert 0 <= err.find(said) < err.find("train p_uncond 0.0001: 12/12"), err
        shutil.rmtree("results")


def test_others_settings_of_figures_stop_nothing(small, networks_there):
    Path("matplotlibrc").write_text("text.usetex: True\nimage.cmap: nonsense\n")
    environment = os.environ | {"MPLBACKEND": "module://not_installed.backend", "MATPLOTLIBRC": "matplotlibrc"}
    for words in (["sweep", str(small), "--quiet"], ["report"]):
        command = [sys.executable, "-m", "cfgbench", *words]
        assert subprocess.run(command, capture_output=True, check=False, env=environment).returncode == 0


def test_output_that_nobody_reads_ends_a_list_in_peace_and_a_sweep_with_a_word(small, networks_there):
    code, err = read_by("(read; true)", "sweep", small, "--workers", 1)
    assert code == 1
    assert "nobody reads the output any more; what is finished is kept" in err
    for _ in range(3):
        assert read_by(NOBODY, "ls", "digits") == (0, "")
    code, err = read_by(NOBODY, "sweep", small, "--dry-run", "--quiet")
    assert code == 0
    assert all(line.startswith("note: ") for line in err.splitlines())  # nothing was run that could go on


@pytest.mark.parametrize("unbuffered", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_what_became_of_the_cells_is_in_the_exit_code_whoever_reads(small, networks_there, unbuffered):
    few = SMALL.replace("p_uncond: [0.1, 0.5]", "p_uncond: [0.1]")
    small.write_text(few.replace("T: [3]", "T: [3], temperature: [1, 1.0e+300]"))
    words = "sweep", small, "--quiet", "--workers", 1
    code, err = read_by(NOBODY, *words, **unbuffered)
    assert (code, "failed; " in err) == (1, True), err
    small.write_text(few)
    assert read_by(NOBODY, *words, **unbuffered) == (0, "")


def test_reports_of_several_sweeps_are_all_made_whoever_reads(small, run):
    for name in ("one", "two"):
        small.write_text(SMALL.replace("name: digits", f"name: {name}", 1))
        assert run("sweep", small, "--quiet")[0] == 0
    code, err = read_by(NOBODY, "report", "one", "two", "--table", "csv", PYTHONUNBUFFERED="1")
    assert code == 0, err
    assert all(Path("reports", name, "table.csv").exists() for name in ("one", "two"))


def test_a_data_set_of_one_image_is_refused_before_anything_is_trained(small, run):
    Path("photos/cat").mkdir(parents=True)
    Image.new("L", (8, 8)).save("photos/cat/1.png")
    small.write_text(SMALL.replace("{name: digits, limit: 200}", "{name: folder, path: photos}"))
    code, _, err = run("sweep", small, "--quiet")
    assert (code, "dataset: 1 image, which has no statistics to measure against; take 2 or more" in err) == (2, True)


@pytest.mark.parametrize(
    "error",
    [
        "KeyError",
        "TypeError",
        "RuntimeError",
        "type('Odd', (Exception,), {})",
        "StopIteration",
        "OSError",
        "BrokenPipeError",
    ],
)
def test_a_network_of_ones_own_that_fails_fails_its_cells(small, run, monkeypatch, error):
    monkeypatch.setattr(sys, "path", [str(Path.cwd()), *sys.path])
    monkeypatch.delitem(sys.modules, "late", raising=False)
    Path("late.py").write_text(
        "import torch\n\n\nclass Late:\n    num_classes, calls = 10, 0\n\n    def __call__(self, z, lam, c):\n"
        f"        self.calls += 1\n        if self.calls > 60:\n            raise {error}('late \\udcff')\n"
        "        return z * torch.sigmoid(-lam)[:, None, None, None].sqrt() + 0.01 * c[:, None, None, None] / 10\n"
    )
    small.write_text(
        "name: digits\ndataset: {name: digits, limit: 200}\nmodel: {factory: 'late:Late', p_uncond: 0.1}\n"
        "sampling: {samples: 40, batch_size: 20}\ngrid: {w: [0, 1, 2, 3, 4, 5, 6], T: [9]}\n"
    )
    code, _, err = run("sweep", small, "--workers", "1")
    table = rows()
    failed = table[table["status"] == "failed"]
    assert (code, len(table)) == (1, 7), err
    assert 0 < len(failed) < 7
    said = {"OSError": "RuntimeError: OSError: late", "BrokenPipeError": "RuntimeError: BrokenPipeError: late"}
    assert failed["reason"].str.startswith("Odd" if "Odd" in error else said.get(error, error)).all()


def test_one_broken_sweep_does_not_hide_the_others(finished, run):
    Path("results/broken/cells").mkdir(parents=True)
    Path("results/broken/sweep.yaml").touch()
    Path("results/broken/cells/x.parquet").symlink_to("nowhere")
    code, out, err = run("ls")
    assert (code, err) == (0, "")
    assert "digits: 4 of 4 cells done" in out
    assert "broken: results/broken/sweep.yaml: " in out


def test_a_damaged_row_of_a_cell_that_is_asked_for_no_more_stops_nothing(finished, small, run):
    table = rows()
    (cell,) = table[(table["w"] == 1) & (table["p_uncond"] == 0.5)]["cell_id"]
    path = Path(f"results/digits/cells/{cell}.parquet")
    path.write_bytes(path.read_bytes()[:-40])
    code, _, err = run("report", "digits", "--table", "md", "--quiet")
    assert (code, f"{path}: not a row of results" in err) == (2, True)
    small.write_text(small.read_text().replace("grid: {p_uncond: [0.1, 0.5]", "grid: {p_uncond: [0.1]"))
    assert run("sweep", small, "--quiet")[0] == 0
    code, _, err = run("report", "digits", "--table", "md", "--quiet")
    said = f"note: {path}: not a row of results, of a cell that the sweep no longer has; delete it\n"
    assert (code, err.count(said)) == (0, 1)


def stop():
    raise KeyboardInterrupt


def test_rows_of_networks_that_the_sweep_has_no_more_are_told_and_no_newest_sweep(finished, small, run):
    shutil.copytree("results/digits", "results/other")
    kept = Path("results/other/sweep.yaml")
    kept.write_text(kept.read_text().replace("name: digits", "name: other"))
    small.write_text(SMALL.replace("model: {", "model: {blocks: 2, "))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cfgbench.sweep.workers.pool.run_shared", lambda *_, **__: stop())
        assert run("sweep", small)[0] == 130
    assert run("report", "digits", "--table", "md", "--quiet") == (
        2,
        "",
        "cfgbench: results/digits: none of its 4 rows is of a network that the sweep has now; run: cfgbench sweep "
        "results/digits/sweep.yaml\n",
    )
    assert run("report", "--table", "md", "--quiet")[1] == "reports/other/table.md\n"


def test_one_sweep_that_cannot_be_reported_does_not_hide_the_others(finished, run):
    for name in ("a", "z"):
        shutil.copytree("results/digits", f"results/{name}")
        Path(f"results/{name}/asked.json").unlink()
        for path in Path(f"results/{name}/cells").iterdir():
            path.unlink()
    code, out, err = run("report", "a", "digits", "z", "--table", "md", "--out", "all", "--quiet")
    said = [f"cfgbench: results/{name}: no rows yet; run: cfgbench sweep results/{name}/sweep.yaml" for name in "az"]
    assert (code, out, err.splitlines()) == (2, "all/digits/table.md\n", said)


def test_a_results_folder_without_its_sweep_is_told_from_none(finished, run):
    Path("results/digits/sweep.yaml").unlink()
    said = "cfgbench: results/digits: its sweep.yaml is gone; run its sweep file, which brings it back\n"
    assert run("report", "digits") == (2, "", said)
    assert run("report", "nothing")[2].startswith("cfgbench: nothing: no such sweep under results")


def test_a_sweep_is_found_by_the_path_of_its_folder_too(finished, run):
    out = run("ls", "digits")[1]
    for name in (Path("results/digits").absolute(), "results/digits", "results/../results/digits/"):
        assert run("ls", name)[:2] == (0, out)
    shutil.copytree("results", "other/place")
    for path in Path("other/place/digits/cells").iterdir():
        path.unlink()
    said = "no rows yet; run: cfgbench sweep other/place/digits/sweep.yaml --results other/place\n"
    assert run("report", "other/place/digits", "--results", "other/place")[2].endswith(said)


def test_a_dry_run_times_only_what_is_ahead(finished, small, run):
    lines = run("sweep", small, "--dry-run", "--quiet")[1].splitlines()
    assert all(line.endswith(" in all") for line in lines if "  done " in line)
    assert all(line.endswith("12 steps of 16") for line in lines if line.startswith("network"))
    assert len([line for line in lines if line.startswith("network")]) == 2
    small.write_text(small.read_text().replace("w: [0, 1]", "w: [0, 1, 2]"))
    lines = run("sweep", small, "--dry-run", "--quiet")[1].splitlines()
    assert [bool(re.search(r"in all, \d+ s$", line)) for line in lines[:6]] == [
        " missing " in line for line in lines[:6]
    ]


def test_what_a_sampler_does_not_use_is_not_told(small, run):
    small.write_text(
        SMALL.replace("p_uncond: [0.1, 0.5], w: [0, 1]", "w: [0], v: [0.2, 0.3], sampler: [ancestral, ddim]")
    )
    for command in ("sweep", small, "--dry-run"), ("sweep", small, "--workers", 1), ("ls", "digits"):
        out = run(*command)[1]
        assert ("v 0.2" in out, "v 0.3" in out) == (True, True)
        assert [line for line in out.splitlines() if "sampler ddim" in line and " v 0" in line] == []


@pytest.mark.parametrize("closed", [">&-", "2>&-", "2>/dev/full"])
def test_closed_streams_stop_no_sweep(small, networks_there, closed):
    command = f"{sys.executable} -m cfgbench sweep {small} --workers 1 {closed}"
    assert subprocess.run(["sh", "-c", command], capture_output=True, check=False).returncode == 0
    assert list(rows()["status"]) == ["ok"] * 4


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full"])
def test_closed_streams_change_no_exit_code(small, closed):
    failing = small.read_text().replace("grid: {", "grid: {learning_rate: [1e9], ")
    small.write_text(failing.replace("p_uncond: [0.1, 0.5], w: [0, 1]", "p_uncond: [0.1], w: [0]"))
    for words, code in (("nosuch.yaml", 2), (f"{small} --quiet", 1)):
        command = f"{sys.executable} -m cfgbench sweep {words} {closed}"
        assert subprocess.run(["sh", "-c", command], capture_output=True, check=False).returncode == code


@pytest.mark.parametrize("quiet", ["", "--quiet"])
@pytest.mark.parametrize("unbuffered", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_a_full_log_stops_no_sweep_and_is_told_of_at_its_end(small, networks_there, quiet, unbuffered):
    command = f"{sys.executable} -m cfgbench sweep {small} --workers 1 {quiet} >/dev/full"
    environment = os.environ | unbuffered
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, env=environment)
    said = "cfgbench: standard output: No space left on device"
    assert (done.returncode, done.stderr.splitlines()[-1], done.stderr.count(said)) == (2, said, 1)
    assert list(rows()["status"]) == ["ok"] * 4


def test_without_a_folder_for_temporary_files_the_way_out_is_said(small, run, monkeypatch):
    np.savez("samples.npz", np.zeros((20, 8, 8, 1), np.uint8))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["nowhere"])
    said = "cfgbench: no folder for temporary files; set TMPDIR to a folder that can be written\n"
    assert run("eval", "samples.npz", "--reference", "digits", "--quiet") == (2, "", said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ls", ""], "ls: "),
        (["report", "digits", "--out", ""], "--out: "),
        (["sweep", "small.yaml", "--results="], "--results=: "),
        (["eval", "samples.npz", "--reference", ""], "--reference: "),
        (["train", "small.yaml", "--device", "", "--quiet"], "--device: "),
    ],
)
def test_an_empty_word_is_not_the_folder_where_one_stands(small, run, words, said):
    assert run(*words) == (2, "", f"cfgbench: {said}followed by nothing; write what it should be, or leave it out\n")
    assert [path.name for path in Path().iterdir()] == ["small.yaml"]


def test_a_word_may_end_in_an_equals_sign(run, small):
    assert run("ls", "--results=eq=")[1] == (
        "eq=: no sweeps yet; run: cfgbench sweep sweeps/digits.yaml --results eq=\n"
    )


def test_what_cannot_be_computed_with_is_told_before_the_data_is_read(run, small):
    small.write_text(SMALL.replace("{name: digits, limit: 200}", "{name: folder, path: nowhere}"))
    for command in ("sweep", "train"):
        assert "--precision bf61" in run(command, small, "--precision", "bf61")[2]


def test_without_arguments_there_is_help(run):
    code, out, err = run()
    assert (code, err) == (2, "")
    assert "Commands:" in out


def test_the_version_is_the_packages(run):
    assert run("--version") == (0, f"cfgbench {cfgbench.__version__}\n", "")


def test_a_dry_run_speaks_of_the_networks_that_missing_cells_need(small, run, monkeypatch):
    monkeypatch.setattr(pace, "SECONDS_TO_MEASURE", 0.1)
    grid = "grid: [{guidance: [cfg], w: [0, 1], T: [3]}, {guidance: [classifier], w: [1], T: [3]}]"
    small.write_text(f"{SMALL[: SMALL.index('grid:')]}{grid}\nclassifier: {{training: {{steps: 200}}}}\n")
    assert run("sweep", small, "--quiet")[0] == 0
    for network in Path("results/digits/checkpoints").glob("*.safetensors"):
        network.unlink()
    done = run("sweep", small, "--dry-run")[1]
    assert "0 to run" in done
    assert done.count("  not needed: ") == 2
    assert "training 0 s" in done
    small.write_text(small.read_text().replace("w: [0, 1]", "w: [0, 1, 2]"))
    one = run("sweep", small, "--dry-run")[1]
    assert "1 to run" in one
    assert (one.count("  to train: "), one.count("  not needed: ")) == (1, 1)


def test_a_classifier_of_the_data_is_one_with_flips_and_one_without(small):
    features = []
    for flip in ("true", "false"):
        small.write_text(
            f"{SMALL.replace('limit: 200', f'limit: 200, flip: {flip}')}evaluation: {{features: classifier}}\n"
        )
        features.append(make_plan(small, Path("results")).cells[0].features)
    assert features[0] != features[1]


def test_a_dry_run_writes_nothing(small, run):
    code, out, _ = run("sweep", small, "--dry-run")
    assert code == 0
    assert out.count("missing") == 4
    assert not Path("results").exists()


def test_a_network_that_diverges_gives_failed_rows_and_the_others_go_on(small, run):
    small.write_text(SMALL.replace("w: [0, 1]", "w: [0], learning_rate: [1e30, 3e-3]"))
    code, _, err = run("sweep", small)
    assert code == 1
    assert "2 cells failed" in err
    table = rows()
    failed = table[table["status"] == "failed"]
    assert failed["learning_rate"].tolist() == [1e30, 1e30]
    assert failed["reason"].str.contains("lower training.learning_rate").all()
    assert (table["status"] == "ok").sum() == 2
    assert "2 of 4 cells done, 2 failed" in run("ls")[1]
    planned = run("sweep", small, "--dry-run")[1]
    assert [planned.count(state) for state in ("  failed   ", "  done     ", "  missing  ")] == [2, 2, 0]
    assert "4 cells, 2 to run" in planned


def test_what_failed_is_told_though_the_process_that_saw_it_died(small, run, monkeypatch):
    def dying(*args, **options):
        yield from [row for row in run_shared(*args, **options) if row["status"] == "ok"]

    monkeypatch.setattr(worker_pool, "run_shared", dying)
    small.write_text(SMALL.replace("w: [0, 1]", "w: [0], learning_rate: [1e30, 3e-3]"))
    code, _, err = run("sweep", small)
    assert (code, "2 cells failed" in err) == (1, True)


def test_a_cell_that_fails_leaves_its_reason_and_is_tried_again(small, monkeypatch, run):
    honest = filling.generate

    def breaks(denoiser, sampling, *rest):
        if sampling.w == 1:
            raise torch.OutOfMemoryError("no memory left")
        return honest(denoiser, sampling, *rest)

    monkeypatch.setattr(filling, "generate", breaks)
    assert run("sweep", small)[0] == 1
    assert rows().query("w == 1")["reason"].tolist() == ["OutOfMemoryError: no memory left"] * 2
    monkeypatch.setattr(filling, "generate", honest)
    code, out, _ = run("sweep", small)
    assert code == 0
    assert "2/2" in out
    assert (rows()["status"] == "ok").all()


def test_batch_size_changes_neither_images_nor_fid(small, run):
    found = []
    for size in (7, 20, 40):
        small.write_text(
            SMALL.replace("batch_size: 20", f"batch_size: {size}").replace("name: digits\n", f"name: b{size}\n", 1)
        )
        run("sweep", small, "--precision", "fp32")
        found.append(rows(f"results/b{size}"))
    for other in found[1:]:
        assert other["cell_id"].tolist() == found[0]["cell_id"].tolist()
        assert other["fid"].tolist() == pytest.approx(found[0]["fid"].tolist(), rel=1e-6)
    path = next(Path("results/b7/checkpoints").glob("*.safetensors"))
    networks = Networks(load_network(path, "denoiser", torch.device("cpu")))
    sampling = Sampling(w=1.5, T=8, samples=500)
    together = filling.generate(networks, sampling, torch.arange(500), (1, 8, 8), "fp32")
    for size in (64, 100):
        apart = torch.cat(
            [filling.generate(networks, sampling, part, (1, 8, 8), "fp32") for part in torch.arange(500).split(size)]
        )
        assert torch.equal(apart, together)


def test_the_fast_path_gives_the_fid_of_plain_fp32_to_one_percent(small, run, monkeypatch):
    # of 400 images rounding alone moves the IS by 1 %, one way or the other
    text = SMALL.replace("p_uncond: [0.1, 0.5]", "p_uncond: [0.1]")
    small.write_text(
        text.replace("steps: 12", "steps: 60").replace("samples: 40, batch_size: 20", "samples: 1600, batch_size: 400")
    )
    assert run("train", small, "--precision", "fp32", "--quiet")[0] == 0
    shutil.copytree("results", "fast")
    assert run("sweep", small, "--precision", "bf16", "--results", "fast", "--quiet")[0] == 0
    monkeypatch.setattr(native_group_norm, "available", lambda: False)
    assert run("sweep", small, "--precision", "fp32", "--quiet")[0] == 0
    plain, fast = rows(), rows("fast/digits")
    assert plain["precision"].eq("fp32").all()
    assert fast["precision"].eq("bf16").all()
    assert plain["cell_id"].tolist() == fast["cell_id"].tolist()
    for metric in ("fid", "is_mean"):
        assert fast[metric].tolist() == pytest.approx(plain[metric].tolist(), rel=0.01)


@pytest.mark.parametrize("trained", ["bf16", "fp32"])
def test_a_network_trained_in_another_precision_is_said_in_the_protocol(small, run, trained):
    assert run("train", small, "--precision", trained, "--quiet")[0] == 0
    assert run("sweep", small, "--precision", "fp32", "--quiet")[0] == 0
    told = "; fp32; trained in bf16" if trained == "bf16" else "; fp32"
    assert rows()["protocol"].str.endswith(told).all()
    assert rows()["protocol_id"].nunique() == 1


def test_the_scale_is_told_wherever_w_is_and_not_of_a_classifiers_weight(small, run):
    grid = "grid: [{p_uncond: [0.1], w: [0.3], T: [3]}, {p_uncond: [0.1], w: [0.3], T: [3], guidance: [classifier]}]"
    small.write_text(re.sub("grid: .*", grid, SMALL))
    planned = run("sweep", small, "--dry-run")[1]
    assert run("sweep", small)[0] == 0
    for lines in (planned, run("ls", "digits")[1]):
        free, guided = (line for line in lines.splitlines() if "w 0.3" in line)
        assert "w 0.3 (scale 1.3)" in free
        assert "(scale" not in guided


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_stopping_politely_says_how_to_go_on(small, name):
    small.write_text(SMALL.replace("steps: 12", "steps: 100000"))
    command = [sys.executable, "-c", "from cfgbench.cli import main; main()", "sweep", str(small)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=foreground)
    while "train" not in process.stderr.readline():
        pass
    process.send_signal(name)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "the same command goes on from here" in err
    assert "Traceback" not in err
    assert len(list(Path("results/digits/checkpoints").glob("*.partial"))) == 1


def bad(text, old, new):
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bad(SMALL, "steps", "stepz"), "training.stepz: unknown key; did you mean steps?"),
        (bad(SMALL, "[1, 2]", "[1, 2, 2, 2, 2]"), "model.multipliers"),
        (bad(SMALL, "attention: [4]", "attention: [5]"), "model.attention"),
        (
            bad(SMALL, "{name: digits, limit: 200}", "{name: folder, path: nowhere}"),
            "dataset.path = nowhere: no such file",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_nothing_is_written(small, run, content, said):
    small.write_text(content)
    code, out, err = run("sweep", small)
    assert code == 2
    assert err.startswith(f"cfgbench: {small}: ")
    assert said in err
    assert err.count("\n") == 1
    assert out == ""
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sweep", "absent.yaml"], "absent.yaml: no such file"),
        (["sweep"], "Missing argument"),
        (["sweep", "small.yaml", "--device", "tpu9"], "--device tpu9"),
        (["sweep", "small.yaml", "--device", "meta"], "--device meta: "),
        (["sweep", "small.yaml", "--device", "privateuseone"], "--device privateuseone: "),
        (["sweep", "small.yaml", "--precision", "fp7"], "--precision fp7"),
        (["sweep", "small.yaml", "--wrong"], "No such option"),
        (["train", "small.yaml", "--p-uncond", "0.3"], "--p-uncond 0.3: not in this sweep; it has 0.1, 0.5"),
        (["report"], "no sweeps yet"),
        (["report", "--pdf", "--table", "md"], "--pdf is of figures: add --plot"),
        (["report", "other"], "other: no such sweep"),
        (["ls", "--results", "small.yaml"], "--results small.yaml: a file; name a folder"),
        (["sweep", "small.yaml", "--results", "small.yaml/inside"], "cannot be written"),
    ],
)
def test_bad_commands_are_one_line_and_exit_code_2(small, run, words, said):
    code, _, err = run(*words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounting needs root")
def test_a_read_only_results_folder_is_said_at_once(small, run):
    Path("ro").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "ro"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        code, _, err = run("sweep", small, "--results", "ro")
    finally:
        subprocess.run(["umount", "ro"], check=True)
    assert code == 2
    assert "Read-only file system" in err
    assert err.count("\n") == 1


def test_a_folder_of_ones_own_images_is_judged_by_a_classifier_of_its_own(small, run):
    from PIL import Image

    for name, value in (("dark", 30), ("bright", 220)):
        for number in range(30):
            path = Path("photos") / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (value + number % 5, value, value - number % 7)).save(path)
    small.write_text(bad(SMALL, "{name: digits, limit: 200}", "{name: folder, path: photos}"))
    assert run("sweep", small)[0] == 0
    assert rows()["features_id"].str.startswith("classifier-").all()
    assert len(list(Path("results/digits/classifier").glob("*.safetensors"))) == 1


README = (TOP / "README.md").read_text()


def test_every_command_of_the_readme_works(small, run, monkeypatch):
    from cfgbench.report.figure2 import experiment

    for name, few in (("POINTS", 600), ("T", 8), ("DRAWS", 2)):
        monkeypatch.setattr(experiment, name, few)
    Path("sweeps").mkdir()
    Path("sweeps/digits.yaml").write_text(SMALL)
    of_gaussians = (TOP / "sweeps" / "gaussians.yaml").read_text()
    Path("sweeps/gaussians.yaml").write_text(bad(of_gaussians, "samples: 5000", "samples: 300"))
    np.savez("samples.npz", np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8))
    blocks = re.findall(r"```sh\n(.*?)```", README, re.S)
    commands = [line for block in blocks for line in block.splitlines() if line.startswith("cfgbench ")]
    assert len(commands) >= 8
    for command in commands:
        code, out, err = run(*shlex.split(command)[1:])
        assert code == 0, f"{command}: {err}"
        assert out
    assert Path("reports/digits/tradeoff.png").exists()
    assert {path.name for path in Path("paper").iterdir()} >= {"table.tex", "tradeoff.pdf"}


def test_every_sweep_of_the_readme_and_of_the_repository_is_one(tmp_path):
    from cfgbench.spec import load_sweep, points

    blocks = re.findall(r"```yaml\n(.*?)```", README, re.S)
    assert len(blocks) >= 2
    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block)
        assert load_sweep(path).name == yaml.safe_load(block)["name"]
    counts = {path.stem: len(list(points(load_sweep(path)))) for path in (TOP / "sweeps").glob("*.yaml")}
    assert counts["digits"] == 42
    assert counts["fashion"] == 42
    assert counts["digits-seeds"] == 210
    assert counts["digits-steps"] == 30
    assert counts["digits-guidance"] == 76
    assert counts["fashion-guidance"] == 24


def test_the_network_of_ones_own_in_the_readme_runs(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mymodel", raising=False)  # another test's, whose folder is gone
    (code,) = re.findall(r"```python\n(# mymodel.*?)```", README, re.S)
    (sweep,) = [block for block in re.findall(r"```yaml\n(.*?)```", README, re.S) if "mymodel" in block]
    Path("mymodel.py").write_text(code)
    Path("mine.yaml").write_text(sweep)
    code, out, err = run("sweep", "mine.yaml", "--dry-run")
    assert code == 0, err
    assert "training 0 s" in out
    code, _, err = run("sweep", "mine.yaml")
    assert code == 0, err
    table = rows("results/mine")
    assert list(table["status"]) == ["ok", "ok"]
    assert list(table["p_uncond"]) == [0.1, 0.1]
    code, _, err = run("train", "mine.yaml")
    assert code == 2
    assert "nothing to train" in err


def test_the_papers_tables_need_no_run_and_stand_beside_ones_own(small, run):
    code, out, err = run("report", "--reference", "paper", "--pdf")
    assert code == 0, err
    assert "2.43" in out
    assert "422.29" in out
    for name in ("table-1.md", "table-2.csv", "figure-4.png", "figure-5.svg", "figure-5.pdf"):
        assert (Path("reports/paper") / name).stat().st_size > 0
    run("sweep", small)
    code, out, err = run("report", "digits", "--reference", "paper", "--pdf")
    assert code == 0, err
    assert "reports/digits/reference.md" in out
    assert "[strength.pdf](strength.pdf)" in Path("reports/digits/index.md").read_text()
    code, _, err = run("report", "--reference", "papers")
    assert code == 2
    assert "--reference papers: not known; there are paper" in err


def test_help_and_ls_load_no_torch():
    code = "import sys; sys.argv[1:] = {}; from cfgbench.cli import main\n"
    code += "try: main()\nfinally: assert 'torch' not in sys.modules"
    for words in (["--help"], ["sweep", "--help"], ["ls", "--results", "absent"]):
        done = subprocess.run([sys.executable, "-c", code.format(words)], capture_output=True, text=True, check=False)
        assert "AssertionError" not in done.stderr
        assert done.returncode == 0
