"""The studies at tiny size, through their own commands: what they print is what closed forms, other programs and what
they found at full size say."""

import hashlib
import io
import re
import signal
import sys
import zipfile
from pathlib import Path

import errors
import inception
import numpy as np
import overhead
import pytest
import scores
import torch
from PIL import Image, ImageFilter
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from cfgbench.sweep import networks, run
from cfgbench.sweep.results.shards import Shards
from cfgbench.sweep.results.store import Store
from cfgbench.training.step import Step

SMALL = """
name: small
dataset: {name: digits, limit: 40}
model: {channels: 8, multipliers: [1], attention: []}
training: {steps: 20, batch_size: 4}
sampling: {samples: 20, batch_size: 20}
grid: {w: [0, 1], T: [2]}
"""


@pytest.fixture
def photos(tmp_path):
    """Twelve photographs of three classes in a zip."""
    random, path = np.random.default_rng(0), tmp_path / "tiny-imagenet.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(4):
            for name in "cab":
                file = io.BytesIO()
                small = Image.fromarray(random.integers(0, 256, (48, 48, 3), dtype=np.uint8))
                small.resize((64, 64), Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
                archive.writestr(f"train/{name}/{name}_{number}.JPEG", file.getvalue())
    return path


@pytest.fixture
def pixels(photos):
    """pixels("c_0", ...) are those of these photographs, uint8 [b, 3, 64, 64]; blurred, if told how much."""

    def pixels(*names, blur=0.0):
        with zipfile.ZipFile(photos) as archive:
            images = [Image.open(io.BytesIO(archive.read(f"train/{name[0]}/{name}.JPEG"))) for name in names]
        blurred = [image.filter(ImageFilter.GaussianBlur(blur)) if blur else image for image in images]
        return torch.from_numpy(np.stack([np.asarray(image) for image in blurred])).permute(0, 3, 1, 2)

    return pixels


@pytest.fixture
def theirs(random_inception):
    """torch-fidelity's own features at layer 64, in float64."""
    network = FeatureExtractorInceptionV3("theirs", ["64"], feature_extractor_weights_path=str(random_inception)).eval()
    return lambda images: network(images)[0].detach().double().numpy()


def refused(capsys, main, *words):
    """The one line that a study ends with, which makes nothing."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([*map(str, words)])
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1), err
    return err


# overhead


@pytest.fixture
def as_before():
    """Ctrl-C and the like as they were before a command ran here."""
    kept = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for name, handler in kept.items():
        signal.signal(name, handler)


class Clock:
    """What `overhead` takes for the time: it stands still but while a slowed function runs."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def slow(self, monkeypatch, place, name, seconds):
        """Makes a function take so long; the list that it gives has an entry a call."""
        honest, calls = getattr(place, name), []

        def slow(*arguments, **keywords):
            calls.append(arguments)
            self.now += seconds
            return honest(*arguments, **keywords)

        monkeypatch.setattr(place, name, slow)
        return calls


@pytest.mark.usefixtures("as_before")
def test_overhead_counts_what_is_clocked_and_nothing_else(small, monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr(overhead, "time", clock)
    clock.slow(monkeypatch, networks, "check_networks", 0.5)  # while a claim is held
    clock.slow(monkeypatch, run, "check_extractor", 0.7)
    claimed = clock.slow(monkeypatch, Store, "claim", 0.3)
    written = clock.slow(monkeypatch, Shards, "flush", 0.4)  # by `add`, which is clocked too
    steps = clock.slow(monkeypatch, Step, "__call__", 0.1)
    before = networks.check_networks
    overhead.main([str(small), "results"])
    *lines, last = re.findall(r"^ *([\d.]+) s +([\d.]+)%  (.+)$", capsys.readouterr().out, re.M)
    counted = {name: 0.0 for name, _, _ in overhead.CLOCKED}
    counted |= {"probes": 1.2, "shards": 0.4 * len(written), "claims": 0.3 * len(claimed)}
    assert min(len(calls) for calls in (claimed, written, steps)) > 1
    assert {name: float(seconds) for seconds, _, name in lines} == pytest.approx(counted, abs=0.006)
    total = sum(counted.values()) + 0.1 * len(steps)
    assert float(last[0]) == pytest.approx(sum(counted.values()), abs=0.006)
    assert last[2] == f"of {total:.1f} s in all"
    shares = [float(share) / 100 for _, share, _ in lines]
    assert shares == pytest.approx([counted[name] / total for *_, name in lines], abs=1e-4)
    assert networks.check_networks is before


@pytest.mark.usefixtures("as_before")
def test_overhead_passes_on_what_the_sweep_says(small, capsys):
    with pytest.raises(SystemExit) as stop:
        overhead.main(["none.yaml", "results"])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, "none.yaml: no such file" in err) == ("", True)


def test_overhead_runs_one_process_and_fails_with_it(monkeypatch, capsys):
    def failed():
        assert sys.argv == ["cfgbench", "sweep", "a.yaml", "--results", "b", "--quiet", "--workers", "1"]
        sys.exit(1)

    monkeypatch.setattr(overhead.cli, "main", failed)
    with pytest.raises(SystemExit) as stop:
        overhead.main(["a.yaml", "b"])
    assert (stop.value.code, capsys.readouterr().out) == (1, "")


def test_overhead_only_begins_a_new_folder(small, capsys):
    Path("results").mkdir()
    assert "results: is there already" in refused(capsys, overhead.main, small, "results")


# scores


def test_scores_finds_what_it_found_before(tmp_path, monkeypatch):
    monkeypatch.setattr(scores, "COUNTS", (500,))
    scores.main(["--repeats", "60", "--out", str(tmp_path / "scores.md")])
    kept = {row[:2]: row[2:] for row in cells(Path(scores.__file__).with_name("scores.md"))}
    found = {row[:2]: row[2:] for row in cells(tmp_path / "scores.md")}
    assert found.keys() == {("500", "drawn"), ("500", "fixed shares")}
    for case, (spread, error, covered) in found.items():
        assert float(spread) == pytest.approx(float(kept[case][0]), rel=0.3)  # known to 9 %
        assert float(error) == pytest.approx(float(kept[case][1]), rel=0.15)  # to 5 %
        assert float(covered.rstrip("%")) == pytest.approx(float(kept[case][2].rstrip("%")), abs=8)


def cells(path):
    """The rows of a table."""
    lines = [line.strip("| ").split(" | ") for line in path.read_text().splitlines() if line.startswith("| ")]
    return [tuple(line) for line in lines[1:]]


def test_a_draw_has_the_shares_that_it_says():
    labels = np.array([7, 3, 3, 5, 7, 7])
    chosen, classes = errors.draw(labels, 3000, True, np.random.default_rng(0))
    assert (labels[chosen] == np.array([3, 5, 7])[np.arange(3000) % 3]).all()
    assert (classes == np.arange(3000) % 3).all()
    assert np.bincount(chosen, minlength=6) == pytest.approx(np.array([333, 500, 500, 1000, 333, 333]), rel=0.15)
    chosen, classes = errors.draw(labels, 3000, False, np.random.default_rng(0))
    assert classes is None
    assert np.bincount(chosen, minlength=6) == pytest.approx(np.full(6, 500), rel=0.15)


# inception


def test_inception_tells_paces_and_the_distance(photos, pixels, theirs, random_inception, monkeypatch, capsys):
    monkeypatch.setattr(inception, "BATCH", {"cpu": 4})
    took = iter([50.0, 9.0, 2.0, 1.0, 4.0, 1.0])  # each way in turn, three batches
    ticks = (tick for seconds in took for tick in (0.0, seconds))
    monkeypatch.setattr(inception, "time", type("Clock", (), {"perf_counter": staticmethod(lambda: next(ticks))}))
    ways = "torch-fidelity", "fp32"
    words = ["--weights", random_inception, "--layer", "64", "--images", "13", "--ways", *ways]
    inception.main([*map(str, [photos, *words])])
    told = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines()[-2:])
    names = [name.split("/")[2].removesuffix(".JPEG") for name in shuffled(photos)]
    features = theirs(pixels(*names))
    distance = frechet(features[::2], features[1::2])
    for name, paces in zip(ways, ("1.3 images/s, 1.00 times", "4.0 images/s, 3.00 times"), strict=True):
        assert told[name].startswith(f"{paces} torch-fidelity")
        assert float(re.search(r"FID ([\d.]+)", told[name])[1]) == pytest.approx(distance, rel=1e-4)
    assert "(2.00 to 4.00)" in told["fp32"]


def shuffled(path):
    """The order in which `eval` takes the files of a zip."""
    names = zipfile.ZipFile(path).namelist()
    outer = len("train/")
    return sorted(names, key=lambda name: hashlib.sha256(name[outer:].encode()).digest())


def frechet(a, b, *, divisor=None):
    """Of sets of features, or of a population whose covariance is over so many: the trace of the root of the product
    is a sum of singular values."""
    ours, other = a - a.mean(0), b - b.mean(0)
    ours, other = ours / np.sqrt(divisor or len(a) - 1), other / np.sqrt(len(b) - 1)
    root = np.linalg.norm(ours @ other.T, "nuc")
    return np.square(a.mean(0) - b.mean(0)).sum() + np.square(ours).sum() + np.square(other).sum() - 2 * root


def test_inception_needs_two_batches(photos, monkeypatch, capsys):
    for size, count in ((5, 9), (8, 600)):  # the zip has twelve
        monkeypatch.setattr(inception, "BATCH", {"cpu": size})
        line = refused(capsys, inception.main, photos, "--weights", "none.pth", "--images", count)
        assert line == f"two batches of {size} are needed: {2 * size} photographs, and --images {2 * size} or more\n"


# errors


def test_errors_takes_features_of_the_photographs_that_it_says(
    photos, pixels, theirs, random_inception, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(errors, "LAYERS", (64,))
    monkeypatch.setattr(errors, "CASES", [])
    Path("inception.pth").symlink_to(random_inception)
    given = ["--photos", "tiny-imagenet.zip", "--weights", "inception.pth", "--cache", "features.npz", "--out", "a.md"]
    errors.main([*given, "--images", "6"])
    features = np.load("features.npz")
    first, second = ["a_0", "b_0", "c_0", "a_1", "b_1", "c_1"], ["a_2", "b_2", "c_2", "a_3", "b_3", "c_3"]
    for kind, names, blur in (("reference", first, 0), ("one", second, 0.5), ("other", second, 0.7)):
        wanted = theirs(pixels(*names, blur=blur))
        near = np.abs(features[f"{kind}-64"] - wanted).mean() / wanted.std()
        assert near < 0.02, kind  # they are made in bf16
        assert features[f"{kind}-classes"].tolist() == ["a", "b", "c", "a", "b", "c"]
    monkeypatch.setattr(errors, "features_of_photos", None)  # they are there
    command = Path("a.md").read_text().split("`")[1]
    assert command.endswith(" --images 6 --repeats 1000 200")
    errors.main([*command.split()[2:], "--out", "b.md"])
    assert Path("b.md").read_bytes() == Path("a.md").read_bytes()
    assert "has features of 6 images, not of 5;" in refused(capsys, errors.main, *given, "--images", "5")
    monkeypatch.setattr(errors, "LAYERS", (64, 192))
    assert "has no features of 192 dimensions;" in refused(capsys, errors.main, *given, "--images", "6")
    np.savez("features.npz", **{key: features[key] for key in features if key not in ("images", "layers")})
    assert "does not say of what" in refused(capsys, errors.main, *given, "--images", "6")


def test_errors_says_so_of_too_few_photographs(photos):
    with pytest.raises(SystemExit, match="12 photographs in train/, where 14 are needed"):
        errors.features_of_photos(photos, Path("none"), 7, (64,))


N, D = 240, 5


@pytest.fixture
def known(tmp_path, monkeypatch):
    """known(*words) is the column of numbers that `errors` finds for a population of three classes that is made here;
    its sets are known.one, known.other and known.reference."""
    random, classes = np.random.default_rng(0), np.arange(N) % 3
    middles, skew = random.normal(size=(3, D)), random.normal(size=(D, D)) / 2 + np.eye(D)
    noise = random.normal(size=(N, D))
    reference = middles[classes] + random.normal(size=(N, D)) @ skew
    one = middles[classes] + 0.8 * noise @ skew + 0.2
    other = one + 0.1 * random.normal(size=(N, D))
    sets = {
        f"{name}-{D}": found.astype(np.float32)
        for name, found in zip(errors.BLURS, (reference, one, other), strict=True)
    }
    named = {f"{kind}-classes": np.array(["c", "a", "b"])[classes] for kind in errors.BLURS}
    np.savez(tmp_path / "features.npz", images=N, layers=[D], **sets, **named)
    monkeypatch.setattr(errors, "LAYERS", (D,))
    monkeypatch.setattr(errors, "CASES", [(D, 200, False)])

    def known(*words):
        given = ["--photos", "none.zip", "--weights", "none.pth", "--cache", "features.npz", "--out", "table.md"]
        given = [word if word.startswith("--") else str(tmp_path / word) for word in given]
        errors.main([*given, "--images", str(N), *words])
        found = dict(cells(tmp_path / "table.md"))
        return {key: float(value) for key, value in found.items() if key != "classes"}

    known.classes = named["one-classes"]
    known.reference, known.one, known.other = (sets[f"{kind}-{D}"].astype(np.float64) for kind in errors.BLURS)
    return known


def test_errors_knows_the_truth_and_counts_how_often_it_is_covered(known):
    found = known("--repeats", "60", "0")
    random = np.random.default_rng([D, 200, False])
    drawn = [random.integers(0, N, 200) for _ in range(60)]
    one, other = (
        np.array([frechet(some[chosen], known.reference) for chosen in drawn]) for some in (known.one, known.other)
    )
    told = {
        "n": 200,
        "repeats": 60,
        "true FID": frechet(known.one, known.reference, divisor=N),
        "mean FID": one.mean(),
        "FID spread": one.std(ddof=1),
        "FID - FID' spread": (one - other).std(ddof=1),
    }
    assert {key: found[key] for key in told} == pytest.approx(told, rel=6e-4)  # four digits are printed
    for name in ("FID", "IS", "FID - FID'", "IS - IS'"):
        assert found[f"{name} se"] == pytest.approx(found[f"{name} spread"], rel=0.3)  # known to 9 %
        assert found[f"{name} covered"] >= 0.87
    assert found["true FID"] == pytest.approx(found["mean FID∞"], abs=0.3 * found["FID spread"])
    assert 0.87 <= found["truth in FID∞ ± 1.96 se"] <= 1


def test_errors_counts_the_paired_differences_alone(known):
    found = known("--paired", "60")
    random = np.random.default_rng([D, N, 2])
    drawn = [errors.draw(known.classes, N, True, random)[0] for _ in range(60)]
    one, other = (
        np.array([frechet(some[chosen], known.reference) for chosen in drawn]) for some in (known.one, known.other)
    )
    assert found["FID - FID' spread"] == pytest.approx((one - other).std(ddof=1), rel=6e-4)
    for name in ("FID - FID'", "IS - IS'"):
        assert found[f"{name} se"] == pytest.approx(found[f"{name} spread"], rel=0.3)
        assert found[f"{name} covered"] >= 0.87
