"""`cfgbench eval` through the command line: the same images in any wrapping give the same numbers."""

import errno
import json
import os
import re
import shutil
import threading
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import torch
from PIL import Image
from programs import NOBODY, read_by

from cfgbench import data, files
from cfgbench.data.image_batches import ImageBatches, open_images
from cfgbench.data.seen import Seen
from cfgbench.errors import UserError
from cfgbench.evaluation.influence import fid_influence
from cfgbench.evaluation.metrics import factor
from cfgbench.evaluation.standard_error import standard_error
from cfgbench.evaluation.statistics import Moments
from cfgbench.files import file_digest
from cfgbench.models import extractors, feature_classifier
from cfgbench.spec import Dataset
from cfgbench.sweep import external
from cfgbench.sweep import plan as planning
from cfgbench.sweep.extractor import numbered, packaged_extractor
from cfgbench.sweep.image_scores import ImageScores
from cfgbench.sweep.plan import make_plan

LOADED = data.load(Dataset(name="digits"))
DIGITS, LABELS = LOADED.images, LOADED.labels


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CFGBENCH_INCEPTION_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


def as_npz(images, path="samples.npz"):
    np.savez(path, images.transpose(0, 2, 3, 1), np.zeros(len(images), int))
    return path


def as_folder(images, path="samples"):
    Path(path, "sub").mkdir(parents=True)
    for number, image in enumerate(images):
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        Image.fromarray(pixels).save(Path(path, "sub" if number % 2 else "", f"{number:05}.png"))
    return path


def as_zip(images, path="samples.zip"):
    as_folder(images, "zipped")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(Path("zipped").rglob("*.png")):
            archive.write(file, file.relative_to("zipped").as_posix())
    return path


def test_a_sweep_files_data_set_is_looked_at_with_its_own_features(run):
    as_npz(DIGITS[:100])
    Path("mine.yaml").write_text("name: mine\ndataset: {name: digits, limit: 200}\ngrid: {w: [0], T: [4]}\n")
    code, out, err = run("eval", "samples.npz", "--reference", "mine.yaml", "--quiet")
    assert (code, "features digits-" in out) == (0, True), err
    Path("mine.yaml").write_text(Path("mine.yaml").read_text() + "evaluation: {features: classifier}\n")
    said = "its features are a classifier that the sweep trains; name others, such as --features inception"
    refused = run("eval", "samples.npz", "--reference", "mine.yaml", "--quiet")
    assert refused == (2, "", f"cfgbench: --reference mine.yaml: {said}\n")


@pytest.mark.parametrize("buffered", [True, False])
def test_what_nobody_reads_is_written_all_the_same(buffered):
    as_npz(DIGITS[:100])
    variables = {} if buffered else {"PYTHONUNBUFFERED": "1"}
    words = "eval samples.npz --reference digits --quiet --json result.json --save-stats stats.npz"
    code, err = read_by(NOBODY, *words.split(), **variables)
    assert (code, "Exception" in err) == (0, False), err
    assert json.loads(Path("result.json").read_text())["samples"] == 100
    assert Path("stats.npz").exists()


def test_only_images_count_and_others_are_told_of(run):
    as_folder(DIGITS[:20])
    Path("samples", "notes.txt").write_text("of the run")
    Path("samples", ".DS_Store").write_bytes(b"hidden")
    with zipfile.ZipFile("mac.zip", "w") as archive:  # as a Mac makes one
        for file in sorted(Path("samples").rglob("*.*")):
            archive.write(file, file.as_posix())
            archive.writestr(f"__MACOSX/samples/._{file.name}", b"a Mac's own")
        archive.writestr("__MACOSX/thumbnail.png", b"its own too")
    scores = set()
    for samples in ("samples", "mac.zip"):
        code, _, err = run("eval", samples, "--reference", samples, "--features", "digits", "--json", "result.json")
        found = json.loads(Path("result.json").read_text())
        scores.add(found["is_mean"])
        assert (code, found["samples"], found["ignored"]) == (0, 20, 2), err
        assert "note: 2 files are no PNG or JPEG and were passed over" in err
    assert len(scores) == 1  # the splits are the same, whatever folder holds all of them


def test_grey_images_may_be_saved_in_three_channels(run):
    as_folder(DIGITS[:20])
    as_folder(DIGITS[:20].repeat(3, axis=1), "three")
    for samples in ("samples", "three"):
        assert run("eval", samples, "--reference", "digits", "--json", f"{samples}.json", "--quiet")[0] == 0
    one, three = (json.loads(Path(f"{samples}.json").read_text()) for samples in ("samples", "three"))
    assert one["fid"] == three["fid"]
    grey, same = (result(run, as_npz(DIGITS[:20].repeat(n, axis=1)), "--reference", "digits") for n in (1, 3))
    assert grey["fid"] == same["fid"]
    Image.fromarray(np.tile(np.uint8([1, 2, 3]), (8, 8, 1))).save("three/coloured.png")
    assert "coloured.png: coloured, where" in run("eval", "three", "--reference", "digits", "--quiet")[2]


def result(run, *words):
    code, out, err = run("eval", *words, "--json", "result.json")
    assert code == 0, err
    assert out.startswith("FID ")
    return json.loads(Path("result.json").read_text())


def features_of(images):
    with torch.inference_mode():
        network = feature_classifier.load(feature_classifier.packaged("digits"))
        return network(torch.from_numpy(images).float() / 127.5 - 1)[0].double().numpy()


def by_sqrtm(a, b):
    s_a, s_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(s_a @ s_b).real
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s_a + s_b - 2 * root)


def test_any_wrapping_gives_the_distance_of_the_pixels(run):
    samples = DIGITS[:400]
    found = [result(run, wrap(samples), "--reference", "digits") for wrap in (as_npz, as_folder, as_zip)]
    assert list(found[0]) == [
        "fid", "fid_se", "fid_infinity", "fid_infinity_se", "is_mean", "is_std", "is_se", "is_together", "classes",
        "samples", "ignored", "copies", "in_reference", "class_shares", "brightest", "pixels", "reference_pixels",
        "reference_brightest", "reference_samples", "dimensions",
        "features_id", "reference", "protocol", "protocol_id", "reference_id",
    ]  # fmt: skip
    wanted = by_sqrtm(features_of(samples), features_of(DIGITS))
    for one in found:
        assert one["fid"] == pytest.approx(wanted, rel=1e-6)
        assert one["samples"] == 400
        assert one["features_id"].startswith("digits-")
        assert 0 < one["fid_se"] < one["fid"]
        assert 1 < one["is_mean"] < 10
    assert "splits in index order" in found[0]["protocol"]
    assert "splits in shuffled order" in found[1]["protocol"]
    assert found[1]["is_mean"] == pytest.approx(found[2]["is_mean"], rel=0.05)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--save-stats", "samples.npz"], "--save-stats samples.npz: would overwrite SAMPLES"),
        (["--json", "./samples.npz"], "--json samples.npz: would overwrite SAMPLES"),
        (["--json", "others.npz"], "--json others.npz: would overwrite --reference"),
        (["--json", "new", "--save-stats", "new"], "--save-stats new: would overwrite --json"),
        (["--json", "photos/0.png"], "--json photos/0.png: would overwrite an image of --reference"),
        (["--json", "photos/linked.png"], "--json photos/linked.png: would overwrite an image of --reference"),
        (["--json", "/dev/stdout"], "--json /dev/stdout: cannot be written, for it is a stream; name a file"),
        (["--json", "/proc/self/fd/1"], "--json /proc/self/fd/1: cannot be written, for it is a stream; name a file"),
        (["--json", "used.pth"], "--json used.pth: would overwrite the Inception network's weights"),
        (["--json", "."], "--json .: cannot be written"),
        (["--json", "/dev/fd/PIPE"], "cannot be written"),
        (["--json", "circle"], "--json circle: cannot be written"),
        (["--inception-weights", "w.pth"], "--inception-weights w.pth: not for the features digits; leave it out"),
        (["--features", "none"], "--features none: should be one of inception"),
    ],
)
def test_no_input_is_overwritten_and_no_work_done_for_nothing(run, monkeypatch, words, said):
    as_npz(DIGITS[:50])
    as_npz(DIGITS[50:], "others.npz")
    Path("photos").mkdir()
    for path in (Path("photos/0.png"), Path("used.pth"), Path("elsewhere.png")):
        path.write_bytes(b"mine")
    Path("photos/linked.png").symlink_to(Path("elsewhere.png").absolute())
    monkeypatch.setenv("CFGBENCH_INCEPTION_WEIGHTS", "used.pth")

    def there():
        return {path: path.read_bytes() for kind in ("*.npz", "*.pth", "*.png") for path in Path().rglob(kind)}

    before = there()
    Path("circle").symlink_to("circle")
    reading, writing = os.pipe()
    words = [word.replace("PIPE", str(writing)) for word in words]
    monkeypatch.setattr(external, "_measure", lambda *_: pytest.fail("it worked"))
    reference = "photos" if any(word.startswith("photos") for word in words) else "others.npz"
    code, out, err = run("eval", "samples.npz", "--reference", reference, "--features", "digits", *words)
    for end in (reading, writing):
        os.close(end)
    assert (code, out) == (2, "")
    assert said in err
    assert before == there()


def test_what_an_output_leads_to_is_written_and_what_is_no_file_is_not_replaced(run, monkeypatch):
    as_npz(DIGITS[:50])
    os.mkfifo("pipe.npz")
    Path("there.npz").touch()
    for link, place in (("null.npz", os.devnull), ("link.npz", "there.npz"), ("link.json", "new.json")):
        Path(link).symlink_to(place)
    words = "eval", "samples.npz", "--reference", "digits", "--quiet"
    assert run(*words, "--json", "link.json", "--save-stats", "link.npz")[0] == 0
    assert all(Path(link).is_symlink() for link in ("link.npz", "link.json"))
    assert all(Path(place).stat().st_size for place in ("there.npz", "new.json"))
    monkeypatch.setattr(external, "_measure", lambda *_: pytest.fail("it worked"))
    for option in ("--json", "--save-stats"):
        for name in ("pipe.npz", "null.npz"):
            assert f"{option} {name}: cannot be written" in run(*words, option, name)[2]
    assert (Path("pipe.npz").is_fifo(), Path("null.npz").readlink()) == (True, Path(os.devnull))


@pytest.mark.parametrize("full", [{"out.npz"}, {"out.json"}, {"out.json", "out.npz"}])
def test_the_number_is_said_and_one_file_written_where_another_cannot_be(run, monkeypatch, full):
    as_npz(DIGITS[:50])
    honest = files.flush_to_disk

    def flush(path):
        if any(name in path.name for name in full):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        honest(path)

    monkeypatch.setattr(files, "flush_to_disk", flush)
    words = "--json", "out.json", "--save-stats", "out.npz", "--quiet"
    code, out, err = run("eval", "samples.npz", "--reference", "digits", *words)
    assert (code, out[:4], {path.name for path in Path().glob("out.*")}) == (2, "FID ", {"out.json", "out.npz"} - full)
    said = "cannot be written (No space left on device); make room"
    assert err.splitlines()[-len(full) :] == [f"cfgbench: {Path(name).resolve()}: {said}" for name in sorted(full)]


def test_images_of_the_wrong_size_are_refused_before_the_reference_is_computed(run, monkeypatch):
    as_npz(np.zeros((20, 1, 16, 16), np.uint8))
    monkeypatch.setattr(external, "_statistics", lambda *_: pytest.fail("it worked"))
    assert "samples.npz: digits-" in run("eval", "samples.npz", "--reference", "digits", "--quiet")[2]


def test_a_file_may_be_named_as_the_data_set_is(run):
    as_npz(DIGITS[:100])
    assert run("eval", "samples.npz", "--reference", "digits", "--json", "digits", "--quiet")[0] == 0
    assert json.loads(Path("digits").read_text())["samples"] == 100


def test_what_is_wrong_with_the_reference_is_said_of_it(run):
    as_npz(DIGITS[:200])
    as_npz(DIGITS[:1], "one.npz")
    code, _, err = run("eval", "samples.npz", "--reference", "one.npz", "--features", "digits", "--quiet")
    assert (code, err) == (2, "cfgbench: --reference one.npz: 1 image; FID needs at least 2\n")
    Path("gone.yaml").write_text("name: x\ndataset: {name: folder, path: gone}\ngrid: {w: [0]}\n")
    _, _, err = run("eval", "samples.npz", "--reference", "gone.yaml", "--features", "digits", "--quiet")
    assert err == "cfgbench: gone.yaml: dataset.path = gone: no such file or folder\n"


def test_the_content_of_the_reference_has_a_name(run):
    as_npz(DIGITS[:200])
    as_folder(DIGITS[200:300])
    as_zip(DIGITS[200:300])
    for folder in ("others", "same"):
        Path(folder).mkdir()
    as_npz(np.ascontiguousarray(DIGITS[200:300][:, :, ::-1]), "others/samples.npz")
    as_npz(DIGITS[200:300], "same/samples.npz")
    names = ["samples", "samples.zip", "same/samples.npz", "others/samples.npz"]
    shutil.copytree("samples", "renamed")
    for path in list(Path("renamed").rglob("*.png")):  # they are read in the order of their names' hashes
        path.rename(path.with_name(f"image {path.name}"))
    found = [result(run, "samples.npz", "--reference", name, "--features", "digits") for name in [*names, "renamed"]]
    ids = [one["reference_id"] for one in found]
    assert ids[0] == ids[1] == ids[2] == ids[4] != ids[3]
    protocols = [one["protocol_id"] for one in found]
    assert protocols[0] == protocols[1] == protocols[2] == protocols[4] != protocols[3]
    shutil.copy("same/samples.npz", "named-otherwise.npz")
    words = ["--reference", "named-otherwise.npz", "--features", "digits"]
    again = result(run, "samples.npz", *words, "--save-reference", "kept.npz")
    assert (again["reference_id"], again["protocol_id"]) == (ids[2], found[2]["protocol_id"])
    kept = result(run, "samples.npz", "--reference", "kept.npz")
    assert {key: kept[key] for key in ("reference", "reference_id", "protocol_id")} == {
        key: again[key] for key in ("reference", "reference_id", "protocol_id")
    }
    Path("s.yaml").write_text(
        "name: s\ndataset: {name: digits, limit: 300}\nmodel: {channels: 8}\ntraining: {steps: 2}\n"
        "sampling: {samples: 20}\ngrid: {w: [0], T: [2]}\n"
    )
    assert run("sweep", "s.yaml", "--quiet")[0] == 0
    (row,) = pd.read_parquet("results/s/cells").to_dict("records")
    assert result(run, "samples.npz", "--reference", "s.yaml")["reference_id"] == row["reference_id"]
    result(run, "samples.npz", "--reference", "digits", "--save-stats", "stats.npz")
    Path("s.yaml").write_text(Path("s.yaml").read_text() + "evaluation: {reference: stats.npz}\n")
    assert run("sweep", "s.yaml", "--quiet")[0] == 0
    *_, row = pd.read_parquet("results/s/cells").sort_values("created").to_dict("records")
    assert (
        result(run, "samples.npz", "--reference", "stats.npz", "--features", "digits")["reference_id"]
        == (row["reference_id"])
    )


CHANGED = "s.yaml: evaluation: its reference or the weights of its features changed while the sweep runs; run it again"
MEASURED = """name: s
dataset: {name: digits, limit: 300}
model: {channels: 8}
training: {steps: 2}
sampling: {samples: 20}
grid: {w: [0, 1], T: [2]}
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_reference_that_changes_while_a_sweep_runs_stops_it(run, monkeypatch, workers):
    as_npz(DIGITS[:100])
    result(run, "samples.npz", "--reference", "digits", "--save-stats", "a.npz")
    as_npz(DIGITS[50:200], "others.npz")
    result(run, "others.npz", "--reference", "digits", "--save-stats", "b.npz")
    Path("s.yaml").write_text(f"{MEASURED}evaluation: {{reference: a.npz}}\n")
    honest = planning.prepare_folder

    def changed(plan):
        honest(plan)
        Path("b.npz").replace("a.npz")

    with monkeypatch.context() as patched:
        patched.setattr(planning, "prepare_folder", changed)
        code, _, err = run("sweep", "s.yaml", "--quiet", "--workers", workers)
    *notes, last = err.splitlines()  # on few images, before the training
    assert (code, last) == (2, f"cfgbench: {CHANGED}")
    assert all(line.startswith("note: ") for line in notes)
    assert not list(Path("results/s/cells").glob("*.parquet"))
    assert run("sweep", "s.yaml", "--quiet")[0] == 0


def test_weights_of_features_that_change_while_a_sweep_runs_stop_it():
    Path("weights.pth").write_bytes(b"some")
    Path("s.yaml").write_text(f"{MEASURED}evaluation: {{features: inception, inception_weights: weights.pth}}\n")
    plan = make_plan(Path("s.yaml"), Path("results"))
    plan.check_measures()
    Path("weights.pth").write_bytes(b"others")
    with pytest.raises(UserError, match=CHANGED):
        plan.check_measures()


def test_weights_that_are_not_there_are_called_as_they_were_named(run, monkeypatch):
    monkeypatch.setenv("CFGBENCH_INCEPTION_WEIGHTS", "gone.pth")
    for more, said in (
        ("", "CFGBENCH_INCEPTION_WEIGHTS = gone"),
        (", inception_weights: away.pth", "evaluation.inception_weights = away"),
    ):
        Path("s.yaml").write_text(f"{MEASURED}evaluation: {{features: inception{more}}}\n")
        code, _, err = run("sweep", "s.yaml", "--quiet")
        assert (code, f"s.yaml: {said}.pth: No such file" in err) == (2, True), err


def test_a_pipe_of_weights_is_refused(run):
    as_npz(DIGITS[:20].repeat(3, axis=1))
    os.mkfifo("weights.pth")
    words = "--reference", "samples.npz", "--features", "inception-64", "--inception-weights", "weights.pth"
    code, _, err = run("eval", "samples.npz", *words, "--quiet")
    assert (code, "weights.pth: not a regular file" in err) == (2, True)


def test_few_images_have_no_inception_score(run):
    as_npz(DIGITS[:9])
    _, out, err = run("eval", "samples.npz", "--reference", "digits", "--quiet")
    assert "IS " not in out.partition("(")[0]
    assert "note: no Inception Score: its 10 splits take 10 images or more\n" in err


@pytest.mark.parametrize(("count", "held"), [(10, "1 image"), (99, "9 images"), (100, None)])
def test_splits_of_fewer_images_than_classes_have_a_note(run, count, held):
    as_npz(DIGITS[:count])
    _, _, err = run("eval", "samples.npz", "--reference", "digits", "--quiet")
    said = f"note: a split of the Inception Score holds {held}, fewer than the 10 classes: it is too low"
    assert (said in err) == (held is not None)
    assert "Inception Score" in err or held is None


@pytest.mark.parametrize("count", [50, 100, 400, 1700])
def test_images_sorted_by_class_have_a_note(run, count):
    shuffled = np.random.default_rng(0).permutation(len(DIGITS))[:count]
    by_class = shuffled[np.argsort(LABELS[shuffled], kind="stable")]
    noted, found = {}, {}
    for name, order in (("shuffled", shuffled), ("sorted", by_class)):
        as_npz(DIGITS[order], f"{name}.npz")
        code, _, err = run("eval", f"{name}.npz", "--reference", "digits", "--quiet", "--json", f"{name}.json")
        assert code == 0, err
        found[name], noted[name] = json.loads(Path(f"{name}.json").read_text()), "these look sorted by class" in err
    assert noted == {"shuffled": False, "sorted": True}
    assert found["sorted"]["is_mean"] < 2.5 < found["shuffled"]["is_mean"]
    assert found["sorted"]["is_together"] == pytest.approx(found["shuffled"]["is_together"], rel=1e-9)
    assert f"and all images together have {found['sorted']['is_together']:.2f}:" in err


def test_two_classes_one_after_the_other_have_a_note(run):
    by_class = np.concatenate([np.flatnonzero(c == LABELS) for c in (0, 1)])
    as_npz(DIGITS[by_class])
    _, out, err = run("eval", "samples.npz", "--reference", "digits", "--quiet")
    assert "IS 1.0" in out
    assert "these look sorted by class" in err
    as_npz(DIGITS[np.random.default_rng(0).permutation(by_class)])
    assert "sorted" not in run("eval", "samples.npz", "--reference", "digits", "--quiet")[2]


def test_chance_alone_does_not_look_sorted():
    """Sure predictions of many classes by one image each, on average: the worst that chance does."""
    rng = np.random.default_rng(0)
    for classes, m in ((10, 1), (10, 3), (10, 10), (1008, 200), (1008, 1008)):
        for _ in range(20 if classes == 10 else 3):
            counts = np.stack([np.bincount(rng.integers(classes, size=m), minlength=classes) for _ in range(10)])
            split, together = (np.exp(scipy.stats.entropy(p, axis=-1)) for p in (counts, counts.sum(0)))
            said = {"is_mean": split.mean(), "is_together": together, "classes": classes, "samples": 10 * m}
            said |= {"fid": 0.0, "fid_se": 0.0, "fid_infinity": 0.0}
            scores = ImageScores(**dict.fromkeys(ImageScores.__annotations__, 0) | said)
            assert not any("sorted" in note for note in scores.notes)


def test_why_there_is_no_error_is_said_as_it_is(run):
    as_npz(np.tile(DIGITS[:10], (20, 1, 1, 1)))
    code, _, err = run("eval", "samples.npz", "--reference", "digits", "--quiet")
    assert code == 0
    why = "the images do not vary, or hardly, in some directions in which the reference does"
    assert f"note: no error of the FID: {why}\n" in err


@pytest.mark.parametrize("wrap", [as_npz, as_folder])
@pytest.mark.parametrize(("more", "copies", "noted"), [(0, 0, False), (3, 3, False), (4, 4, True), (600, 600, True)])
def test_copies_have_a_note(run, wrap, more, copies, noted):
    samples = wrap(np.concatenate([DIGITS[:300], np.tile(DIGITS[:300], (2, 1, 1, 1))[:more]]))
    as_npz(DIGITS[300:], "others.npz")
    code, _, err = run("eval", samples, "--reference", "others.npz", "--features", "digits", "--json", "result.json")
    found = json.loads(Path("result.json").read_text())
    assert (code, found["copies"], found["in_reference"]) == (0, copies, 0), err
    assert (f"note: {copies} of {300 + more} images are copies of others: errors, which " in err) == noted
    assert "in the reference" not in err
    assert noted or "copies" not in err


def test_a_grey_picture_is_itself_in_three_channels():
    grey, coloured = Seen(), Seen()
    for seen, images in ((grey, DIGITS[:20]), (coloured, DIGITS[10:40].repeat(3, axis=1))):
        batches = ImageBatches("some", len(images), images.shape[1:], "", lambda size, images=images: iter([images]))
        assert sum(map(len, seen.watch(batches).batches(50))) == len(images)
    assert (grey.among(coloured), coloured.among(grey)) == (10, 10)


@pytest.mark.parametrize(("shared", "noted"), [(0, False), (2, False), (3, True), (200, True)])
def test_images_of_the_reference_have_a_note(run, shared, noted):
    as_npz(DIGITS[1000 - shared : 1200 - shared])
    as_npz(DIGITS[:1000], "others.npz")
    words = "eval", "samples.npz", "--features", "digits", "--json", "result.json"
    code, _, err = run(*words, "--reference", "others.npz", "--save-stats", "stats.npz")
    assert (code, json.loads(Path("result.json").read_text())["in_reference"]) == (0, shared), err
    assert (f"note: {shared} of 200 images are in the reference itself: their FID is lower" in err) == noted
    assert noted or "in the reference" not in err
    _, _, err = run(*words, "--reference", "stats.npz")
    assert json.loads(Path("result.json").read_text())["in_reference"] is None
    assert "in the reference" not in err


@pytest.mark.parametrize(("brightest", "noted"), [(0, True), (1, True), (2, False)])
def test_floats_cut_to_whole_numbers_have_a_note(run, brightest, noted):
    samples = np.zeros((700, 1, 8, 8), np.uint8)
    samples[0, 0, 3, 4] = brightest  # the batches after it are darker
    as_npz(samples)
    code, _, err = run("eval", "samples.npz", "--reference", "digits", "--quiet", "--json", "result.json")
    assert (code, json.loads(Path("result.json").read_text())["brightest"]) == (0, brightest), err
    assert ("note: no pixel is above 1: floats cut to uint8?" in err) == noted
    as_npz(DIGITS[:700], "others.npz")
    err = run("eval", "others.npz", "--reference", "samples.npz", "--features", "digits", "--quiet")[2]
    assert ("note: no pixel of the reference is above 1: floats cut to uint8?" in err) == noted


def test_images_are_at_no_distance_from_themselves(run):
    as_npz(DIGITS[:200])
    found = result(run, "samples.npz", "--reference", "samples.npz", "--features", "digits")
    assert found["fid"] == pytest.approx(0, abs=1e-6)


def test_saved_statistics_take_the_place_of_the_images(run):
    as_npz(DIGITS[:400])
    as_npz(DIGITS[400:], "others.npz")
    direct = result(run, "samples.npz", "--reference", "others.npz", "--features", "digits")
    result(run, "others.npz", "--reference", "digits", "--save-stats", "stats.npz")
    with np.load("stats.npz") as file:
        assert np.allclose(file["mu"], features_of(DIGITS[400:]).mean(0))
        assert np.allclose(file["sigma"], np.cov(features_of(DIGITS[400:]), rowvar=False))
    saved = result(run, "samples.npz", "--reference", "stats.npz", "--features", "digits")
    assert saved["fid"] == pytest.approx(direct["fid"], rel=1e-9)
    assert saved["reference"] == f"statistics {saved['reference_id'][:8]}"


def test_a_sweep_file_names_its_data_set(run):
    as_npz(DIGITS[:100])
    Path("s.yaml").write_text("name: s\ndataset: {name: digits, limit: 300}\ngrid: {w: [0]}\n")
    found = result(run, "samples.npz", "--reference", "s.yaml", "--features", "digits")
    assert found["reference"] == "digits, 300 images"


def test_a_note_says_that_few_images_bias_the_distance(run):
    as_npz(DIGITS[:100])
    as_npz(DIGITS[100:], "others.npz")
    _, _, err = run("eval", "samples.npz", "--reference", "others.npz", "--features", "digits", "--quiet")
    assert err.splitlines()[0] == "note: FID of 100 images is biased upwards; 50,000 are usual"
    _, _, err = run("eval", as_npz(DIGITS[:400]), "--reference", "digits", "--json", "400.json")
    found = re.search(r"note: FID of 400 images is biased upwards, here by about (.+); 50,000 are usual", err)
    scores = json.loads(Path("400.json").read_text())
    assert float(found[1]) == pytest.approx(scores["fid"] - scores["fid_infinity"], rel=0.1)


def balanced(count):
    """So many digits of each class, in classes that go round, as a sweep draws them."""
    order = np.stack([np.flatnonzero(digit == LABELS)[:count] for digit in range(10)], axis=1).ravel()
    return DIGITS[order], LABELS[order]


@pytest.mark.parametrize("wrapped", ["npz", "folder", "zip"])
def test_of_classes_of_as_many_images_the_error_is_that_within_them(run, wrapped):
    images, labels = balanced(60)
    if wrapped == "npz":
        np.savez("samples.npz", images.transpose(0, 2, 3, 1), 7 + 3 * labels.astype(np.uint8))
    else:
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = Path("images", "all", f"class {label}", f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0]).save(path)
        shutil.make_archive("samples", "zip", "images")
    samples = {"npz": "samples.npz", "folder": "images/all", "zip": "samples.zip"}[wrapped]
    found = result(run, samples, "--reference", "digits")
    np.savez("untold.npz", images.transpose(0, 2, 3, 1))
    untold = result(run, "untold.npz", "--reference", "digits")
    assert (found["class_shares"], untold["class_shares"]) == ("equal", None)
    assert found["fid"] == pytest.approx(untold["fid"], rel=1e-9)
    x, reference = torch.from_numpy(features_of(images)), Moments.of(torch.from_numpy(features_of(DIGITS)))
    q = fid_influence(Moments.of(x), reference.mean, factor(reference.covariance))[0].of(x).numpy()
    assert found["fid_se"] == pytest.approx(standard_error(q, labels), rel=1e-6)
    assert untold["fid_se"] == pytest.approx(standard_error(q), rel=1e-6)
    assert found["fid_se"] < untold["fid_se"] / 1.2
    assert found["fid_infinity"] > untold["fid_infinity"]


@pytest.mark.parametrize(
    ("labels", "shares"),
    [
        (lambda n: np.arange(n) % 9, "equal"),  # 100 of them: one has one more
        (lambda n: np.arange(n) % 60, "unequal"),  # some have a single image
        (lambda n: np.arange(n) % 25, "equal"),
        (lambda n: np.arange(n) % 26, "unequal"),  # some have three: no quarter has some of each
        (lambda n: np.minimum(np.arange(n) % 9, 7), "unequal"),
        (lambda n: np.zeros(n, int), None),
        (lambda n: np.arange(n - 1) % 10, None),
        (lambda n: np.arange(n) % 10 / 1.0, None),
        (lambda n: np.array([None] * n), None),
    ],
)
def test_what_the_classes_say_of_their_shares(run, labels, shares):
    np.savez("samples.npz", DIGITS[:100].transpose(0, 2, 3, 1), labels(100))
    code, _, err = run("eval", "samples.npz", "--reference", "digits", "--json", "result.json", "--quiet")
    assert (code, json.loads(Path("result.json").read_text())["class_shares"]) == (0, shares), err
    assert ("errors are of images drawn at random" in err) == (shares != "equal")
    assert ("taken for fixed, and errors for those within them" in err) == (shares == "equal")


@pytest.mark.parametrize(
    ("place", "stray", "shares"),
    [
        (lambda n: f"{n}.png", False, None),
        (lambda n: f"{n % 4}/{n}.png", False, "equal"),
        (lambda n: f"{n % 4}/{n}.png", True, "unequal"),
        (lambda n: f"n{n % 4}/images/{n}.png", False, "equal"),
        (lambda n: f"run{n % 2}/n{n // 2 % 4}/{n}.png", False, "equal"),
        (lambda n: f"run{n % 3 // 2}/n{n // 3 % 4}/{n}.png", False, "unequal"),
    ],
)
def test_sub_folders_part_the_images(place, stray, shares):
    for number in range(48):
        path = Path("parted", place(number))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(DIGITS[number][0]).save(path)
    if stray:
        Image.fromarray(DIGITS[0][0]).save("parted/grid.png")
    assert open_images(Path("parted"), channels=1).shares == shares


@pytest.mark.parametrize(
    ("samples", "fid_infinity", "fid_se", "said"),
    [
        (50_000, 275.0, 3.0, "FID of 50,000 images is biased upwards, here by about 125; 50,000 are usual"),
        (10_000, 399.0, 0.9, "FID of 10,000 images is biased upwards, here by about 1; 50,000 are usual"),
        (10_000, 399.0, 1.1, None),
        (10_000, None, 1.1, None),
        (9_999, 401.0, 1.1, "FID of 9,999 images is biased upwards; 50,000 are usual"),
    ],
)
def test_a_bias_beyond_the_error_is_said_of_many_images_too(samples, fid_infinity, fid_se, said):
    fields = dict.fromkeys(ImageScores.__dataclass_fields__) | {"ignored": 0, "copies": 0, "brightest": 255}
    known = {"fid": 400.0, "fid_infinity": fid_infinity, "fid_se": fid_se, "samples": samples, "dimensions": 64}
    notes = ImageScores(**fields | known).notes
    assert [note for note in notes if "biased" in note] == ([said] if said else [])


def published(dimensions=2048, **more):
    generator = np.random.default_rng(0)
    factor = generator.normal(size=(dimensions, 8))
    np.savez("reference.npz", **{"mu": generator.normal(size=dimensions), "sigma": factor @ factor.T} | more)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent.npz", "--reference", "digits"], "absent.npz: no such file or folder"),
        (["samples.npz", "--reference", "absent"], "no such file or folder, and no data set's"),
        (["samples.npz", "--reference", "digits", "--features", "digit"], "--features digit: should be one of"),
        (["samples.npz", "--reference", "reference.npz", "--features", "digits"], "names no extractor, so its 2048"),
        (["stats.pkl", "--reference", "digits"], "stats.pkl: neither a folder nor a whole zip file"),
        (["empty", "--reference", "digits"], "empty: no PNG or JPEG in it"),
        (["one.npz", "--reference", "digits"], "one.npz: 1 image; FID needs at least 2"),
        (["float.npz", "--reference", "digits"], "of float64, where images [n, height, width, 1 or 3] of uint8"),
        (["other.npz", "--reference", "digits"], "has no array arr_0 of images; it has images"),
        (["object.npz", "--reference", "digits"], "object.npz: arr_0 cannot be read"),
        (["cut.npz", "--reference", "digits"], "cut.npz: not a whole .npz file"),
        (["large.npz", "--reference", "digits"], "looks at 8 x 8 pixels, not (16, 16)"),
        (["colour.npz", "--reference", "digits"], "colour.npz: arr_0: coloured, where these features look at grey"),
        (["samples.npz", "--reference", "digits", "--features", "inception-768", "--inception-weights", "none.pth"],
         "weights-inception-2015-12-05-6726825d.pth (SHA-256 begins 6726825d)"),
        (["samples.npz", "--reference", "digits", "--feature-precision", "bf16"],
         "--feature-precision bf16: the features digits have fp32 only; leave it out, or take --features inception"),
        (["samples.npz", "--reference", "digits", "--feature-precision", "half"], "'half': should be fp32 or bf16"),
        (["mixed", "--reference", "digits"], "pixels, where"),
        (["coloured", "--reference", "digits"], "coloured, where these features look at grey images"),
        (["broken", "--reference", "digits"], "1.png: cannot be read as an image"),
        (["samples.npz"], "Missing option '--reference'"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_one_line_and_nothing_is_written(run, words, said):
    as_npz(DIGITS[:20])
    published()
    Path("empty").mkdir()
    Path("stats.pkl").write_bytes(b"no zip")
    as_npz(DIGITS[:1], "one.npz")
    np.savez("float.npz", DIGITS[:4].transpose(0, 2, 3, 1) / 255)
    np.savez("other.npz", images=DIGITS[:4])
    np.savez("object.npz", np.array([None, 1], dtype=object))
    Path("cut.npz").write_bytes(Path("samples.npz").read_bytes()[:500])
    as_npz(np.kron(DIGITS[:4], np.ones((1, 1, 2, 2), np.uint8)), "large.npz")
    coloured = DIGITS[:4].repeat(3, axis=1) + np.arange(3, dtype=np.uint8).reshape(1, 3, 1, 1)
    as_npz(coloured, "colour.npz")
    as_folder(coloured, "coloured")
    for name, pixels in (("mixed", np.zeros((9, 8), np.uint8)), ("broken", None)):
        Path(name).mkdir()
        Image.fromarray(DIGITS[0, 0]).save(f"{name}/0.png")
        Path(name, "1.png").write_bytes(b"no image")
        if pixels is not None:
            Image.fromarray(pixels).save(f"{name}/1.png")
    before = sorted(Path().rglob("*"))
    code, _, err = run("eval", *words, "--json", "out.json", "--save-stats", "out.npz", "--quiet")
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before


IMAGES = "where images [n, height, width, 1 or 3] of uint8 belong"
NHWC = np.ascontiguousarray(DIGITS[:20].transpose(0, 2, 3, 1))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (DIGITS[:20], f"arr_0 (20, 1, 8, 8) of uint8, {IMAGES}; transpose (0, 2, 3, 1)"),
        (DIGITS[:20] / 255, f"(20, 1, 8, 8) of float64, {IMAGES}; transpose (0, 2, 3, 1); multiply by 255 and round"),
        ((NHWC / 255).astype(np.float32), f"of float32, {IMAGES}; multiply by 255 and round"),
        (NHWC[..., 0] / 255, f"(20, 8, 8) of float64, {IMAGES}; multiply by 255 and round"),
        (NHWC / 127.5 - 1, f"{IMAGES}; convert to uint8, 0 to 255"),
        (NHWC * np.linspace(0, 1, 20).reshape(20, 1, 1, 1), f"{IMAGES}; convert to uint8, 0 to 255"),
        (NHWC * np.nan, f"{IMAGES}; convert to uint8, 0 to 255"),
        (NHWC.astype(np.int64), f"of int64, {IMAGES}; convert to uint8, 0 to 255"),
        (NHWC.repeat(4, axis=3), f"(20, 8, 8, 4) of uint8, {IMAGES}; leave out the fourth channel"),
        (NHWC.repeat(5, axis=3), f"(20, 8, 8, 5) of uint8, {IMAGES}"),
        (np.zeros((20, 64)), f"(20, 64) of float64, {IMAGES}"),
        (np.zeros((20, 8, 0, 1)), f"(20, 8, 0, 1) of float64, {IMAGES}; convert to uint8, 0 to 255"),
        (
            NHWC.repeat(3, axis=3).copy(order="F"),
            "arr_0 cannot be read (columns stand before rows; save it in C order)",
        ),
        (np.array([None, 1]), "arr_0 cannot be read (an array (2,) of object, where numbers are expected)"),
    ],
)
def test_arrays_that_hold_images_otherwise_say_the_way_out(run, array, said):
    np.savez("samples.npz", array)
    code, out, err = run("eval", "samples.npz", "--reference", "digits", "--quiet")
    assert (code, out, err[:23]) == (2, "", "cfgbench: samples.npz: "), err
    assert err.endswith(f"{said}\n")


def test_what_is_damaged_is_to_be_fetched_again(run):
    np.savez("samples.npz", NHWC)
    content = bytearray(Path("samples.npz").read_bytes())
    content[content.index(b"NUMPY") + 200] ^= 1
    Path("samples.npz").write_bytes(content)
    assert run("eval", "samples.npz", "--reference", "digits", "--quiet")[2].endswith("; fetch it again\n")


ANEW = "cfgbench eval IMAGES --reference REF --features NAME --save-stats FILE.npz"


@pytest.mark.parametrize(
    ("dimensions", "way_out"),
    [
        (2048, "; set KEY to inception"),
        (64, f"; make it anew with what KEY names: {ANEW}"),
    ],
)
def test_statistics_without_an_extractor_say_what_to_do(run, dimensions, way_out):
    as_npz(DIGITS[:100])
    published(dimensions)
    Path("s.yaml").write_text(
        "name: s\ndataset: {name: digits, limit: 50}\ntraining: {steps: 1}\nevaluation: {reference: reference.npz}\n"
        "grid: {w: [0]}\n"
    )
    measured = ["eval", "samples.npz", "--reference", "reference.npz", "--features", "digits"]
    for words, key in ((measured, "--features"), (["sweep", "s.yaml"], "evaluation.features")):
        code, _, err = run(*words, "--quiet")
        assert code == 2
        assert err.endswith(f"{way_out.replace('KEY', key)}\n")
        assert ("64 dimensions are not Inception's 2048: it was measured with another" in err) == (dimensions == 64)
    Path("reference.npz").unlink()
    assert run("sweep", "s.yaml")[2].startswith("cfgbench: s.yaml: evaluation.reference = reference.npz: No such file")


@pytest.mark.parametrize(
    ("key", "value"), [("reference_id", "x" * 16), ("reference", "a\nb"), ("reference", "a" * 201)]
)
def test_a_file_that_says_otherwise_whose_statistics_it_holds_is_refused(run, key, value):
    as_npz(DIGITS[:100])
    result(run, "samples.npz", "--reference", "digits", "--save-reference", "kept.npz")
    with np.load("kept.npz") as whole:
        np.savez("kept.npz", **dict(whole) | {key: value})
    code, _, err = run("eval", "samples.npz", "--reference", "kept.npz", "--quiet")
    said = "kept.npz: reference_id or reference is none of cfgbench's; make it anew with --save-reference"
    assert (code, err) == (2, f"cfgbench: {said}\n")


def test_rows_measured_against_one_reference_under_two_names_stand_together(run):
    as_npz(DIGITS[:100])
    result(run, "samples.npz", "--reference", "digits", "--save-stats", "one.npz")
    shutil.copy("one.npz", "two.npz")
    for name, w in (("one", "[0]"), ("two", "[0, 1]")):
        Path("s.yaml").write_text(MEASURED.replace("[0, 1]", w) + f"evaluation: {{reference: {name}.npz}}\n")
        assert run("sweep", "s.yaml", "--quiet")[0] == 0
    assert pd.read_parquet("results/s/cells")["protocol_id"].nunique() == 1
    assert "kept apart" not in run("report", "s", "--table", "csv")[2]


def test_for_the_inception_score_alone_the_data_set_is_not_measured(run):
    for metrics in ("is", "fid, is"):
        Path("s.yaml").write_text(MEASURED.replace("[0, 1]", "[0]") + f"evaluation: {{metrics: [{metrics}]}}\n")
        assert run("sweep", "s.yaml", "--quiet")[0] == 0
        assert len(list(Path("results/s/references").glob("*"))) == (metrics != "is")
    alone, both = pd.read_parquet("results/s/cells").sort_values("created").to_dict("records")
    same = ("is_mean", "reference_id", "protocol_id")
    assert [alone[key] for key in same] == [both[key] for key in same]
    assert (np.isnan(alone["fid"]), np.isnan(both["fid"])) == (True, False)


def test_images_are_no_statistics_and_how_to_make_them_is_said(run):
    as_npz(DIGITS[:20])
    Path("s.yaml").write_text(MEASURED + "evaluation: {reference: samples.npz}\n")
    code, _, err = run("sweep", "s.yaml")
    said = "samples.npz: no statistics mu and sigma, it has arr_0, arr_1; make them of images: cfgbench eval IMAGES"
    assert (code, said in err) == (2, True)


def test_what_a_file_is_called_in_capitals_is_the_same(run):
    Path(as_npz(DIGITS[:40])).rename("SAMPLES.NPZ")
    assert run("eval", "SAMPLES.NPZ", "--reference", "digits", "--save-stats", "S.NPZ", "--quiet")[0] == 0
    assert result(run, "SAMPLES.NPZ", "--reference", "S.NPZ")["fid"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"sigma": np.full((2048, 2048), np.nan)}, "not finite"),
        ({"sigma": np.zeros((4, 4))}, "do not fit"),
        ({"sigma": np.triu(np.ones((2048, 2048)))}, "not symmetric"),
        ({"sigma": np.eye(2048) * 1e308}, "mu or sigma has numbers beyond 1e+100"),
        ({"sigma": np.eye(2048) + 2 * np.eye(2048, k=1) + 2 * np.eye(2048, k=-1)}, "negative variances in some dir"),
        ({"features_id": "inception-2048-x", "n": np.inf}, "no statistics mu and sigma (n = inf)"),
        ({"features_id": "inception-2048-x", "n": np.nan}, "(n = nan)"),
        ({"features_id": "inception-2048-x", "n": 2.5}, "(n = 2.5)"),
        ({"features_id": "inception-2048-x", "n": "5"}, "(n = '5')"),
        ({"features_id": "inception-768-x"}, "made with the features inception-768-x"),
    ],
)
def test_a_damaged_or_foreign_reference_is_refused(run, more, said):
    as_npz(DIGITS[:20])
    published(**more)
    code, _, err = run("eval", "samples.npz", "--reference", "reference.npz", "--features", "digits", "--quiet")
    assert code == 2
    assert "reference.npz: " in err
    assert said in err


def test_statistics_are_read_before_a_network_that_may_have_to_be_fetched(run):
    as_npz(DIGITS[:50])
    published(sigma=np.eye(4))
    Path("weights.pth").write_bytes(b"not read")
    code, _, err = run("eval", "samples.npz", "--reference", "reference.npz", "--inception-weights", "weights.pth")
    assert (code, err.count("do not fit")) == (2, 1), err
    Path("s.yaml").write_text(
        "name: s\ndataset: {name: digits, limit: 50}\ntraining: {steps: 1}\ngrid: {w: [0]}\n"
        "evaluation: {features: inception, reference: reference.npz, inception_weights: weights.pth}\n"
    )
    code, _, err = run("sweep", "s.yaml", "--quiet")
    assert (code, err.count("do not fit")) == (2, 1), err


def test_the_whole_path_from_png_to_number_is_torch_fidelitys(run, random_inception, tmp_path):
    """calculate_metrics on the same folders: decoding, resize, network, statistics, distance, Inception Score."""
    import torch_fidelity

    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (24, 3, 20, 20), dtype=np.uint8)
    b = (rng.integers(0, 200, (24, 3, 20, 20)) // 2 + 60).astype(np.uint8)
    for images, name in ((a, "a"), (b, "b")):
        Path(name).mkdir()
        for number, image in enumerate(images):
            Image.fromarray(image.transpose(1, 2, 0)).save(f"{name}/{number}.png")
    words = ["--features", "inception-192", "--inception-weights", random_inception]
    found = result(run, "a", "--reference", "b", *words)
    wanted = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "a"),
        input2=str(tmp_path / "b"),
        fid=True,
        cuda=False,
        verbose=False,
        feature_layer_fid="192",
        feature_extractor_weights_path=str(random_inception),
        cache=False,
        save_cpu_ram=True,
    )["frechet_inception_distance"]
    assert found["fid"] == pytest.approx(wanted, rel=1e-4)
    assert found["is_mean"] is None
    assert "unofficial" in found["protocol"]


def test_the_weights_may_be_named_in_the_environment(run, random_inception, monkeypatch):
    monkeypatch.setenv("CFGBENCH_INCEPTION_WEIGHTS", str(random_inception))
    as_npz(DIGITS[:4])
    as_npz(DIGITS[4:8], "others.npz")
    found = result(run, "samples.npz", "--reference", "others.npz", "--features", "inception-64")
    assert found["features_id"].startswith("inception-64-")


def test_published_statistics_are_those_of_the_published_network(run, random_inception):
    as_npz(DIGITS[:12])
    published()
    words = ["--reference", "reference.npz", "--inception-weights", random_inception]
    found = result(run, "samples.npz", *words)
    assert found["fid"] > 0
    assert found["is_mean"] >= 1
    assert found["classes"] == 1008
    code, _, err = run("eval", "samples.npz", *words, "--features", "inception-768")
    assert code == 2
    assert "set --features to inception" in err


def test_weights_that_end_early_are_not_taken_for_numbers(run, random_inception):
    tensors = torch.load(random_inception, weights_only=True)
    cut = {name: value * float("nan") if name.startswith("Mixed_7") else value for name, value in tensors.items()}
    torch.save(cut, "cut.pth")
    as_npz(DIGITS[:12])
    words = ["samples.npz", "--reference", "samples.npz", "--inception-weights", "cut.pth", "--quiet"]
    code, _, err = run("eval", *words)
    assert code == 2
    assert "not finite, in 12 of 12 images; if these weights end before the last layers, take inception-768" in err
    sweep = "name: s\ndataset: {name: digits, limit: 20}\nmodel: {channels: 8}\ntraining: {steps: 1}\n"
    sweep += "evaluation: {features: inception, inception_weights: cut.pth}\n"
    sweep += "sampling: {samples: 10}\ngrid: {w: [0], T: [2]}\n"
    Path("s.yaml").write_text(sweep)
    code, _, err = run("sweep", "s.yaml", "--quiet")
    assert code == 2
    assert "evaluation.features = inception: features that are not finite" in err


def test_features_in_bfloat16_are_another_protocol_and_another_cell(run, random_inception):
    as_npz(DIGITS[:12])
    words = ["samples.npz", "--reference", "digits.npz", "--features", "inception-64"]
    words += ["--inception-weights", random_inception]
    as_npz(DIGITS[12:24], "digits.npz")
    exact, fast = result(run, *words), result(run, *words, "--feature-precision", "bf16")
    assert exact["protocol"].endswith("; fp32")
    assert fast["protocol"].endswith("; bf16")
    assert fast["features_id"] == f"{exact['features_id']}-bf16"
    assert fast["fid"] == pytest.approx(exact["fid"], rel=0.02)
    assert fast["fid"] != exact["fid"]
    sweep = "name: s\ndataset: {name: digits, limit: 20}\ngrid: {w: [0]}\n"
    sweep += "evaluation: {features: inception-64, metrics: [fid]"
    names = []
    for more in ("", ", precision: fp32", ", precision: bf16"):
        Path("s.yaml").write_text(f"{sweep}, inception_weights: {random_inception}{more}}}\n")
        names.append(make_plan(Path("s.yaml"), Path("results")).cells[0].features)
    digest = file_digest(random_inception)[:8]
    assert names == [f"inception-64 {digest}"] * 2 + [f"inception-64 {digest} bf16"]


def test_what_measures_is_as_the_reference_has_it(run, random_inception, monkeypatch):
    """A sweep file its weights and precision, statistics their precision, unless something else is asked for."""
    as_npz(DIGITS[:12])
    text = "name: s\ndataset: {name: digits, limit: 20}\ngrid: {w: [0]}\n"
    text += f"evaluation: {{features: inception-64, metrics: [fid], inception_weights: {random_inception}, "
    Path("s.yaml").write_text(f"{text}precision: bf16}}\n")
    named = "--features", "inception-64", "--inception-weights", random_inception
    asked = result(run, "samples.npz", "--reference", "s.yaml", *named, "--feature-precision", "bf16")
    assert asked["features_id"].endswith("-bf16")
    assert result(run, "samples.npz", "--reference", "s.yaml", "--save-reference", "bf16.npz") == asked
    exact = result(run, "samples.npz", "--reference", "s.yaml", "--feature-precision", "fp32")
    assert exact["features_id"] == asked["features_id"].removesuffix("-bf16")
    monkeypatch.setenv("CFGBENCH_INCEPTION_WEIGHTS", str(random_inception))
    found = result(run, "samples.npz", "--reference", "bf16.npz")
    assert {key: found[key] for key in ("fid", "features_id")} == {key: asked[key] for key in ("fid", "features_id")}
    code, _, err = run("eval", "samples.npz", "--reference", "bf16.npz", "--feature-precision", "fp32")
    assert (code, "bf16, not with" in err) == (2, True)
    # what the file says of the Inception network means nothing to others
    assert result(run, "samples.npz", "--reference", "s.yaml", "--features", "digits")["features_id"].startswith(
        "digits-"
    )


def test_statistics_that_a_sweep_has_are_not_made_again(run, monkeypatch):
    as_npz(DIGITS[:100])
    Path("s.yaml").write_text(f"{MEASURED}evaluation: {{metrics: [fid]}}\n")
    fresh = result(run, "samples.npz", "--reference", "s.yaml")
    assert run("sweep", "s.yaml", "--quiet", "--results", "others")[0] == 0
    honest, made = external.moments_of, []
    monkeypatch.setattr(external, "moments_of", lambda *given: (made.append(1), honest(*given))[1])
    assert result(run, "samples.npz", "--reference", "s.yaml", "--results", "others") == fresh
    assert fresh["in_reference"] == 100
    assert made == []
    (statistics,) = Path("others/s/references").iterdir()
    statistics.write_bytes(statistics.read_bytes()[:-100])
    assert result(run, "samples.npz", "--reference", "s.yaml", "--results", "others") == fresh
    assert made == [1]


def test_statistics_that_are_kept_of_images_of_another_size_measure_none(run, monkeypatch):
    """A sweep cuts its images to what its features look at, and `eval` does not, whatever is kept."""
    monkeypatch.setattr(external, "kept_in", lambda *_: pytest.fail("it was asked for"))
    for number, image in enumerate(np.pad(DIGITS[:4], ((0, 0), (0, 0), (1, 1), (1, 1)))):
        Path("photos", "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(Path("photos", "ab"[number % 2], f"{number}.png"))
    Path("s.yaml").write_text("name: s\ndataset: {name: folder, path: photos}\ngrid: {w: [0]}\n")
    as_npz(DIGITS[:40])
    code, _, err = run("eval", "samples.npz", "--reference", "s.yaml", "--features", "digits", "--quiet")
    assert (code, "--reference s.yaml: " in err, "looks at 8 x 8 pixels, not (10, 10)" in err) == (2, True, True), err


def test_the_references_statistics_are_a_reference(run):
    as_npz(DIGITS[:100])
    as_npz(DIGITS[100:300], "others.npz")
    for reference in ("digits", "others.npz"):
        words = "--reference", reference, "--features", "digits", "--save-reference", "ref.npz"
        found = result(run, "samples.npz", *words, "--save-stats", "own.npz")
        again = result(run, "samples.npz", "--reference", "ref.npz")
        assert again["fid"] == pytest.approx(found["fid"], rel=1e-9)
        assert result(run, "samples.npz", "--reference", "own.npz")["fid"] == pytest.approx(0, abs=1e-9)
    for path, said in (("ref.npz", "would overwrite --reference"), ("x.npz", "is a file of statistics already")):
        code, _, err = run("eval", "samples.npz", "--reference", "ref.npz", "--save-reference", path)
        assert (code, said in err) == (2, True), err
    code, _, err = run("eval", "samples.npz", "--reference", "digits", "--save-reference", "ref.pt")
    assert (code, "--save-reference ref.pt: name a file that ends in .npz" in err) == (2, True), err
    words = "--save-reference", "x.npz", "--save-stats", "x.npz"
    assert "would overwrite --save-stats" in run("eval", "samples.npz", "--reference", "digits", *words)[2]


def test_the_result_may_stand_beside_the_images_and_be_written_again(run):
    folder = as_folder(DIGITS[:40])
    for _ in range(2):
        code, _, err = run("eval", folder, "--reference", "digits", "--json", f"{folder}/result.json")
        assert code == 0, err


def test_a_reference_of_few_images_has_a_note(run):
    for count, noted in ((64, True), (65, False)):
        as_npz(DIGITS[:count], "few.npz")
        as_npz(DIGITS[100:400])
        code, _, err = run("eval", "samples.npz", "--reference", "few.npz", "--features", "digits", "--json", "it.json")
        said = f"note: the reference has {count} images, of 64 dimensions: FID is biased upwards by that too, and FID∞"
        assert (code, said in err) == (0, noted), err
        assert json.loads(Path("it.json").read_text())["reference_samples"] == count
        saved = "few.npz", "--features", "digits", "--save-reference", f"kept{count}.npz"
        assert run("eval", "samples.npz", "--reference", *saved)[0] == 0
        code, _, err = run("eval", "samples.npz", "--reference", f"kept{count}.npz", "--json", "it.json")
        assert (code, said in err) == (0, noted), err
        assert json.loads(Path("it.json").read_text())["reference_samples"] == count
        Path("s.yaml").write_text(
            "name: s\ndataset: {name: digits, limit: 200}\nmodel: {channels: 8}\ntraining: {steps: 2}\n"
            f"sampling: {{samples: 200}}\ngrid: {{w: [0], T: [2]}}\nevaluation: {{reference: kept{count}.npz}}\n"
        )
        code, _, err = run("sweep", "s.yaml", "--dry-run", "--quiet")
        assert (code, said in err) == (0, noted), err


def test_images_that_have_statistics_beside_them_are_images(run):
    """As ADM's reference batches have them."""
    as_npz(DIGITS[100:200], "plain.npz")
    with np.load("plain.npz") as plain:
        np.savez("both.npz", **plain, mu=np.zeros(4), sigma=np.eye(4))
    wanted, found = (result(run, name, "--reference", "digits")["fid"] for name in ("plain.npz", "both.npz"))
    assert found == wanted
    np.savez("statistics.npz", mu=np.zeros(4), sigma=np.eye(4))
    code, _, err = run("eval", "statistics.npz", "--reference", "plain.npz", "--features", "digits")
    assert (code, "statistics.npz: holds statistics, not images; name it as --reference" in err) == (2, True), err


def test_what_a_sweep_file_names_is_not_overwritten(run):
    as_npz(DIGITS[:50])
    for name in "ab":
        Path("photos", name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(f"photos/{name}/1.png")
    Path("w.pth").write_bytes(b"mine")
    Path("s.yaml").write_text(
        "name: s\ndataset: {name: folder, path: photos}\nmodel: {channels: 8}\ntraining: {steps: 2}\n"
        "sampling: {samples: 20}\ngrid: {w: [0], T: [2]}\nevaluation: {features: inception-64, metrics: [fid], "
        "inception_weights: w.pth, reference: ref.npz}\n"
    )
    np.savez("photos/batch.npz", np.zeros(1))
    of_data = "a file of the data set of s.yaml"
    Path("ref.npz").write_bytes(b"mine")
    places = {"w.pth": "the Inception network's weights", "photos/a/1.png": of_data, "photos/batch.npz": of_data}
    places["ref.npz"] = "evaluation.reference of s.yaml"
    for path, what in places.items():
        code, _, err = run("eval", "samples.npz", "--reference", "s.yaml", "--features", "digits", "--json", path)
        assert (code, f"--json {path}: would overwrite {what}" in err) == (2, True), err
    assert Path("w.pth").read_bytes() == b"mine"


def test_images_of_another_size_than_the_references_have_a_note(run, random_inception):
    as_npz(DIGITS[:40], "small.npz")
    as_npz(DIGITS[:40].repeat(2, axis=2).repeat(2, axis=3), "large.npz")
    words = "--features", "inception-64", "--inception-weights", random_inception, "--quiet", "--json", "result.json"
    said = "note: images of 8 x 8 pixels, a reference of 16 x 16: FID counts the difference in sharpness too"
    for reference, noted in (("large.npz", True), ("small.npz", False)):
        code, _, err = run("eval", "small.npz", "--reference", reference, *words)
        assert (code, said in err) == (0, noted), err
    assert [json.loads(Path("result.json").read_text())[key] for key in ("pixels", "reference_pixels")] == ["8 x 8"] * 2


def test_official_weights_are_known_by_their_digest(tmp_path, random_inception, monkeypatch):
    monkeypatch.setattr(extractors, "file_digest", lambda path: "6726825d" + 56 * "0")
    official = extractors.Inception(64, random_inception, torch.device("cpu"), logits=False)
    assert official.id == "inception-64-6726825d-tf1-bilinear-299"


MEMORY = """
import sys
import torch
from pathlib import Path
from cfgbench.evaluation.features import Features
from cfgbench.models.extractors import Extractor
from cfgbench.sweep import external
from cfgbench.sweep import plan as planning

class Means(Extractor):  # the extractor aside
    id, channels = "means", 3
    def __call__(self, images):
        small = images.float().unfold(2, 16, 16).unfold(3, 16, 16).mean(dim=(4, 5)).flatten(1)
        return Features(small, small[:, :10])

external.packaged_extractor = lambda *_, **__: Means()
result = external.evaluate(Path(sys.argv[1]), sys.argv[1], features="inception", device=torch.device("cpu"),
                           results=Path("results"), progress=lambda *_: None)
print(result.scores.samples)
"""


def test_memory_does_not_grow_with_the_number_of_images(tmp_path, peak):
    """20,000 images of 64x64 (246 MB) against 2,000."""
    peaks = {}
    for count in (2_000, 20_000):
        path = tmp_path / f"{count}.npz"
        np.savez(path, np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8))
        samples, peaks[count] = peak(MEMORY, str(path))
        assert int(samples) == count
        path.unlink()
    assert peaks[20_000] - peaks[2_000] < 100, peaks


def test_the_next_images_are_read_while_those_before_are_looked_at():
    asked = threading.Event()

    def batches(size):
        yield DIGITS[:2]
        asked.set()
        yield DIGITS[2:3]

    images = ImageBatches("digits", 3, (1, 8, 8), "index order", batches)
    extractor = packaged_extractor("digits", None, torch.device("cpu"))
    found = []
    for first, batch in numbered(images, extractor):
        assert asked.wait(20)
        found.append((first, len(batch)))
    assert found == [(0, 2), (2, 1)]


def test_what_reading_meets_is_said_where_it_is_asked_for():
    def batches(size):
        yield DIGITS[:2]
        raise UserError("b.png: gone")

    images = ImageBatches("digits", 4, (1, 8, 8), "index order", batches)
    extractor = packaged_extractor("digits", None, torch.device("cpu"))
    coming = numbered(images, extractor)
    assert next(coming)[0] == 0
    with pytest.raises(UserError, match=r"b\.png: gone"):
        next(coming)


def test_statistics_are_measured_with_the_features_that_they_name(run):
    as_npz(DIGITS[:300], "first.npz")
    as_npz(DIGITS[300:600], "other.npz")
    assert run("eval", "first.npz", "--reference", "digits", "--save-stats", "stats.npz", "--quiet")[0] == 0
    code, out, err = run("eval", "other.npz", "--reference", "stats.npz", "--quiet")
    assert code == 0, err
    assert out == run("eval", "other.npz", "--reference", "stats.npz", "--features", "digits", "--quiet")[1]


def test_what_is_not_the_files_fault_is_not_mended_by_another(run, monkeypatch):
    as_npz(DIGITS[:20])
    Path("folder.npz").mkdir()
    assert run("eval", "folder.npz", "--reference", "digits")[2] == "cfgbench: folder.npz: cannot be read (a folder)\n"
    with zipfile.ZipFile("samples.npz") as whole, zipfile.ZipFile("bz2.npz", "w", zipfile.ZIP_BZIP2) as packed:
        packed.writestr("arr_0.npy", whole.read("arr_0.npy"))
    err = run("eval", "bz2.npz", "--reference", "digits")[2]
    assert "neither stored nor deflated; make the zip anew in the usual way)\n" in err
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_, **__: (_ for _ in ()).throw(MemoryError("none left")))
    assert "fetch it again" not in run("eval", "samples.npz", "--reference", "digits")[2]
