"""What goes wrong on real machines, done to real sweeps: nothing finished is lost, and no number changes."""

import errno
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import kills
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from programs import foreground, seconds_of, seconds_of_ended

from cfgbench import files
from cfgbench.errors import UserError
from cfgbench.evaluation.features import Features
from cfgbench.evaluation.statistics import RunningMoments
from cfgbench.files import identity
from cfgbench.sweep import cell, extractor
from cfgbench.sweep import fill as filling
from cfgbench.sweep.plan import make_plan
from cfgbench.sweep.results import row, shards
from cfgbench.sweep.results.influences import Influences
from cfgbench.sweep.results.store import EXTRACTOR, Store
from cfgbench.sweep.run import clean_up
from cfgbench.tensors import load_tensors, save_tensors
from cfgbench.training import feed

SMALL = """
name: digits
dataset: {name: digits, limit: 200}
model: {channels: 8, multipliers: [1], attention: []}
training: {steps: 60, batch_size: 16, learning_rate: 3e-3}
sampling: {samples: 400, batch_size: 20}
grid: {p_uncond: [0.1, 0.5], w: [0, 1], T: [3]}
"""
PROGRAM = [sys.executable, "-c", "from cfgbench.cli import main; main()"]
root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture(scope="module")
def calm(tmp_path_factory, run_first):
    """The results folder of an undisturbed run of SMALL."""
    folder = tmp_path_factory.mktemp("calm")
    (folder / "small.yaml").write_text(SMALL)
    assert run_first("sweep", folder / "small.yaml", "--results", folder / "results", "--quiet") == 0
    return folder / "results"


class Batches(list):
    """The first image of each batch that was sampled; Ctrl-C comes when there are `most`."""

    most = None


@pytest.fixture
def made(monkeypatch):
    """Takes note of the batches."""
    honest, found = filling.generate, Batches()

    def generate(*all):
        if len(found) == found.most:
            raise KeyboardInterrupt
        found.append(int(all[2][0]))
        return honest(*all)

    monkeypatch.setattr(filling, "generate", generate)
    return found


@pytest.fixture
def mount(tmp_path):
    """mount("size=1m") gives a small disk of its own; mount(..., again=True) changes it.

    mount("ro", over=True) lays a read-only view over it until mount.off().
    """
    place = tmp_path / "disk"
    place.mkdir()

    def call(*command):
        for _ in range(20):
            done = subprocess.run([*command, str(place)], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return
            if "busy" not in done.stderr:
                pytest.skip("mounting is not allowed here")
        pytest.fail(done.stderr)

    def mount(options, again=False, over=False):
        if over:
            # in one: a file that is opened in between, as a lock is, would keep the view from turning read-only
            call("mount", "-o", f"bind,{options}", str(place))
        else:
            call("mount", "-o", f"remount,{options}") if again else call("mount", "-t", "tmpfs", "-o", options, "tmpfs")
        return place

    mount.off = lambda: call("umount")
    yield mount
    while subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False).returncode == 0:
        pass  # one lies over another


def start(small, results, *more):
    command = [*PROGRAM, "sweep", str(small), "--results", str(results), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=foreground)


def wait_for(process, pattern, folder):
    """Until a file is there, while the process works."""
    while not list(Path(folder).glob(pattern)) and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None


def flip(path, randomness):
    """Turns a random bit of the file."""
    content = bytearray(path.read_bytes())
    content[randomness.randrange(len(content))] ^= 1 << randomness.randrange(8)
    path.write_bytes(content)


def same(calm, results):
    assert kills.differences(calm, results) == []
    assert kills.left_behind(results) == []


def test_killed_again_and_again_the_rows_are_those_of_an_undisturbed_run(small, calm, tmp_path):
    fell_on = kills.storm(small, tmp_path / "stormy", 12, (0.1, 1.0), 0)
    assert fell_on.total() >= 3
    same_but_paths = kills.differences(calm, tmp_path / "stormy")
    assert same_but_paths == []
    assert kills.left_behind(tmp_path / "stormy") == []


@root
def test_a_full_disk_stops_the_run_and_with_more_room_it_goes_on(small, calm, mount, run):
    disk = mount("size=200k")
    process = start(small, disk)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "No space left on device); make room, and the same command goes on" in err
    assert "Traceback" not in err
    before = kills.rows(disk)
    mount("size=50m", again=True)
    assert run("sweep", small, "--results", disk, "--quiet")[0] == 0
    assert before.items() <= kills.rows(disk).items()
    same(calm, disk)


@root
def test_a_disk_that_turns_read_only_stops_the_run_and_it_goes_on_later(small, calm, mount, run):
    disk = mount("size=50m")
    process = start(small, disk)
    wait_for(process, "digits/cells/*.parquet", disk)
    mount("ro", over=True)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "Read-only file system" in err
    mount.off()
    assert run("sweep", small, "--results", disk, "--quiet")[0] == 0
    same(calm, disk)


def test_a_results_folder_that_vanishes_is_not_made_anew(small, calm, tmp_path, run):
    results = tmp_path / "results"
    process = start(small, results)
    wait_for(process, "digits/cells/*.parquet", results)
    results.rename(tmp_path / "away")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "vanished" in err
    assert "the same command goes on from there" in err
    assert not results.exists()
    (tmp_path / "away").rename(results)
    assert run("sweep", small, "--results", results, "--quiet")[0] == 0
    same(calm, results)


def test_what_was_left_behind_in_the_instant_of_finishing_is_removed(small, calm, run):
    shutil.copytree(calm, "results")
    folder = Path("results/digits")
    weights, row, reference = (next(folder.glob(f"{name}/*.{kind}")) for name, kind in (
        ("checkpoints", "safetensors"), ("cells", "parquet"), ("references", "npz")))  # fmt: skip
    for key in (weights.stem, row.stem, EXTRACTOR):
        (folder / "locks" / key).touch()
    left = weights.with_suffix(".partial")
    left.write_bytes(b"all steps")
    assert run("train", small)[0] == 0
    assert not left.exists()
    (folder / "locks" / weights.stem).touch()
    left.write_bytes(b"all steps")
    for path in (weights, weights.with_suffix(".losses.csv"), row):
        path.with_name(f".{path.name}.abcdefgh.part").write_bytes(b"half of it")
    shards_of_it = folder / "features" / row.stem
    shards_of_it.mkdir(parents=True)
    (shards_of_it / "0.safetensors").write_bytes(b"features")
    assert len(kills.left_behind(Path("results"))) >= 8
    assert run("sweep", small)[0] == 0
    same(calm, Path("results"))
    for name in (f"references/.{reference.name}", f"references/.{reference.stem}.partial", "classifier/.0.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.abcdefgh.part").write_bytes(b"half of it")
    reference.unlink()
    row.unlink()
    assert run("sweep", small)[0] == 0
    same(calm, Path("results"))


def test_what_was_left_behind_where_nothing_may_be_written_stops_no_finished_sweep(small, calm, run, monkeypatch):
    shutil.copytree(calm, "results")
    left = Path("results/digits/features", next(Path("results/digits/cells").iterdir()).stem, "0.safetensors")
    left.parent.mkdir(parents=True)
    left.write_bytes(b"features")

    def refuse(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(files, "_make_one", refuse)
    code, out, err = run("sweep", small)
    assert (code, "p_uncond" in out, err) == (0, True, "")
    assert left.exists()


def test_where_there_are_no_locks_parts_that_another_process_may_be_writing_are_left(calm, monkeypatch):
    store = Store(calm / "digits")
    part = store.checkpoint("one").with_name(".one.safetensors.xyz.part")
    for locks in (False, True):
        part.touch()
        with monkeypatch.context() as patch:
            if not locks:
                patch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "no locks")))
            with store.claim("one") as held:
                assert (held, part.exists()) == (True, not locks)
                assert store.claimed() == {"one"}


def test_what_another_process_is_at_is_left_to_it(small, calm, run):
    shutil.copytree(calm, "results")
    weights = next(Path("results/digits/checkpoints").glob("*.safetensors"))
    partial = weights.with_suffix(".partial")
    partial.write_bytes(b"some steps")
    with Store(Path("results/digits")).claim(weights.stem) as held:
        assert held
        assert run("sweep", small)[0] == 0
        assert partial.exists()
    assert not Store(Path("results/digits")).claimed()


def test_damaged_rows_are_made_again_and_never_believed(small, calm, run):
    shutil.copytree(calm, "results")
    randomness = random.Random(0)
    paths = sorted(Path("results/digits/cells").glob("*.parquet"))
    for trial in range(60):
        path = paths[trial % len(paths)]
        whole = path.read_bytes()
        if trial % 10 == 0:
            path.write_bytes(whole[: randomness.randrange(len(whole))])
        else:
            flip(path, randomness)
        code, out, _ = run("ls", "digits")
        assert code == 0
        # Arrow does not look at every bit: what it does not look at changes nothing
        untouched = "4 of 4 cells done" in out and kills.differences(calm, Path("results")) == []
        assert untouched or "1 damaged" in out
        if trial < 59:
            path.write_bytes(whole)
    assert run("sweep", small)[0] == 0
    same(calm, Path("results"))


def test_a_row_that_ends_early_is_named_by_the_report_and_made_again(small, calm, run):
    shutil.copytree(calm, "results")
    (path, *_) = sorted(Path("results/digits/cells").glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-50])
    assert "3 of 4 cells done, 1 damaged, 0 missing" in run("ls")[1]
    code, _, err = run("report", "digits")
    assert (code, f"{path}: not a row of results" in err) == (2, True)
    code, out, _ = run("sweep", small)
    assert (code, "1/1" in out) == (0, True)
    same(calm, Path("results"))


def test_a_row_that_cannot_be_read_now_is_not_made_again(small, calm, run, monkeypatch):
    shutil.copytree(calm, "results")
    path = sorted(Path("results/digits/cells").glob("*.parquet"))[0]
    kept, honest = path.read_bytes(), row.read_at_most

    def refuse(asked, largest):
        if asked == path:
            raise PermissionError(13, "Permission denied", str(asked))
        return honest(asked, largest)

    monkeypatch.setattr(row, "read_at_most", refuse)
    said = f"{path}: cannot be read (Permission denied); nothing is made in its place"
    for words in (("sweep", small, "--quiet"), ("report",), ("ls", "digits")):
        assert run(*words)[::2] == (2, f"cfgbench: {said}\n")
    assert run("ls")[:2] == (0, f"digits: {said}\n")
    assert path.read_bytes() == kept


def test_a_folder_that_may_not_be_entered_and_is_named_as_no_sweep_is_none(small, run, monkeypatch):
    Path("results/lost+found").mkdir(parents=True)
    honest = Path.stat

    def stat(path, **how):
        if path.parent.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return honest(path, **how)

    monkeypatch.setattr(Path, "stat", stat)
    for words in ("ls", "report"):
        assert "no sweeps yet" in "".join(run(words)[1:])


def test_results_that_vanished_are_not_cleaned_up_in_silence(small, calm):
    shutil.copytree(calm, "results")
    plan = make_plan(small, Path("results"))
    shutil.move("results/digits", "elsewhere")
    with pytest.raises(UserError, match="vanished"):
        clean_up(plan)


@pytest.mark.parametrize("part", ["cells", "checkpoints", ""])
def test_a_folder_that_may_not_be_listed_is_not_taken_for_empty(small, calm, run, monkeypatch, part):
    shutil.copytree(calm, "results")
    shutil.copytree(calm / "digits", "results/other")
    shut, honest_list, honest_stat = Path("results/digits", part), Path.iterdir, Path.stat

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    def stat(path, **how):
        return refuse(path) if part == "" and path.parent == shut else honest_stat(path, **how)

    def listed(path):
        return refuse(path) if shut in (path, path.parent) else honest_list(path)

    monkeypatch.setattr(Path, "iterdir", listed)
    monkeypatch.setattr(Path, "stat", stat)
    said = f"{shut if part else shut / 'cells'}: cannot be read (Permission denied); make it readable"
    reading = [("ls", "digits"), ("report", "digits"), ("sweep", small, "--quiet")]
    for words in reading[:1] if part == "checkpoints" else reading:
        assert run(*words)[::2] == (2, f"cfgbench: {said}\n")
    code, out, _ = run("ls")
    assert (code, f"digits: {said}\n" in out, "other: 4 of 4 cells done" in out) == (0, True, True)
    assert run("report", "--table", "csv")[0] == 0  # of the one that can be read
    monkeypatch.setattr(Path, "iterdir", refuse)
    for words in (("ls",), ("report",)):
        assert run(*words)[::2] == (2, "cfgbench: results: cannot be read (Permission denied); make it readable\n")


def test_a_checkpoint_of_someone_else_is_not_called_damaged(small, calm, run, monkeypatch):
    shutil.copytree(calm, "results")
    path = sorted(Path("results/digits/checkpoints").glob("*.safetensors"))[0]
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda asked, mode: Path(asked).name != path.name and allowed(asked, mode))
    said = f"cfgbench: {path}: cannot be read (permission denied); nothing is made in its place\n"
    assert run("train", small, "--quiet")[::2] == (2, said)


def test_a_shard_of_someone_else_is_not_called_damaged(tmp_path, monkeypatch):
    first = shards.Shards(tmp_path / "features" / "cell", 4, "key", like={})
    first.add(0, Features(torch.ones(4, 2), None), torch.zeros(0))
    first.flush()
    (path,) = (tmp_path / "features" / "cell").glob("*.safetensors")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match="permission denied"):
        shards.Shards(tmp_path / "features" / "cell", 4, "key", like={})
    assert path.exists()


def test_damaged_checkpoints_references_and_influences_are_refused_or_made_again(small, calm, run):
    shutil.copytree(calm, "results")
    randomness = random.Random(0)
    for path in Path("results/digits/cells").glob("*.parquet"):
        path.unlink()
    (first, *_) = sorted(Path("results/digits/checkpoints").glob("*.safetensors"))
    whole = first.read_bytes()
    for trial in range(21):
        flip(first, randomness) if trial < 20 else first.write_bytes(whole[:-50])
        for command in ("sweep", "train"):
            code, _, err = run(command, small, "--quiet")
            assert (code, f"{first}: not a whole file of cfgbench" in err) == (2, True)
        first.write_bytes(whole)
    first.unlink()  # it is trained again
    (reference,) = Path("results/digits/references").glob("*.npz")
    reference.write_bytes(reference.read_bytes()[:-100])
    for path in Path("results/digits/influence").glob("*.parquet"):
        flip(path, randomness)
    assert run("sweep", small, "--quiet")[0] == 0
    same(calm, Path("results"))


@pytest.mark.parametrize("damaged", [False, True])
def test_statistics_of_the_data_set_go_on_where_they_were_stopped(small, run, monkeypatch, damaged):
    small.write_text(SMALL.replace("limit: 200", "limit: 1700").replace("steps: 60", "steps: 2"))
    honest, seen = RunningMoments.add, []

    def add(self, features):
        seen.append(len(features))
        if seen == [500, 500, 500]:
            raise KeyboardInterrupt
        honest(self, features)

    monkeypatch.setattr(RunningMoments, "add", add)
    monkeypatch.setattr(extractor, "SECONDS", -1.0)
    assert run("sweep", small, "--quiet")[0] == 130
    (partial,) = Path("results/digits/references").iterdir()
    if damaged:
        partial.write_bytes(partial.read_bytes()[:-100])
    assert run("sweep", small, "--quiet")[0] == 0
    assert seen[3:7] == [500, 500, 500, 200] if damaged else seen[3:5] == [500, 200]
    assert run("sweep", small, "--quiet", "--results", "calm")[0] == 0
    (stopped,), (whole,) = (list(Path(results, "digits/references").iterdir()) for results in ("results", "calm"))
    with np.load(stopped) as one, np.load(whole) as other:
        assert one.files == other.files
        assert all(np.array_equal(one[name], other[name]) for name in one.files)


def test_the_checkpoint_of_another_network_is_refused(small, calm, run):
    shutil.copytree(calm, "results")
    for path in Path("results/digits/cells").glob("*.parquet"):
        path.unlink()
    one, other = Path("results/digits/checkpoints").glob("*.safetensors")
    whole = one.read_bytes()
    shutil.copy(other, one)
    p, q = (
        load_tensors(path)[1]["training"]["p_uncond"] for path in (Path(calm / "digits/checkpoints" / one.name), one)
    )
    for words in (("sweep", small, "--quiet"), ("train", small, "--quiet")):
        code, _, err = run(*words)
        said = f"{one}: the checkpoint of another network (training.p_uncond = {q}, not {p}); delete it, and it is"
        assert (code, said in err) == (2, True)
    one.write_bytes(whole)
    change(one, id="0" * 16)
    assert f"{one}: the checkpoint of another network (trained on other data)" in run("sweep", small, "--quiet")[2]


@pytest.mark.parametrize("otherwise", [False, True])
def test_rows_of_other_weights_are_not_joined_by_those_of_a_network_that_was_trained_again(
    small, calm, run, monkeypatch, otherwise
):
    """It has the same id, and to the report both would be one network."""
    shutil.copytree(calm, "results")
    rows = kills.rows(Path("results"))
    first, second = (next(cell for cell, r in rows.items() if (r["w"], r["p_uncond"]) == (w, 0.1)) for w in (0, 1))
    checkpoint = Path("results/digits/checkpoints", f"{rows[first]['checkpoint_id']}.safetensors")
    assert rows[first]["checkpoint_digest"] == load_tensors(checkpoint)[1]["ema"]
    checkpoint.unlink()
    Path(f"results/digits/cells/{first}.parquet").unlink()
    if otherwise:  # as another number of threads, or a GPU, would
        honest = feed.noise
        monkeypatch.setattr(feed, "noise", lambda seed, *rest: honest(seed + 1, *rest))
    code, _, err = run("sweep", small, "--quiet")
    assert code == (2 if otherwise else 0), err
    if otherwise:
        said = f"{checkpoint}: 1 cell in results/digits had other weights of this network (p_uncond 0.1), which was"
        assert said in err
        assert f"delete their rows (cells/{second}.parquet; of another digest than " in err
        Path(f"results/digits/cells/{second}.parquet").unlink()
        assert run("sweep", small, "--quiet")[0] == 0
    found = kills.rows(Path("results"))
    assert len({found[cell]["checkpoint_digest"] for cell in (first, second)}) == 1
    assert (found[second]["checkpoint_digest"] == rows[second]["checkpoint_digest"]) == (not otherwise)


def test_checkpoints_of_earlier_versions_are_taken(small, calm, run):
    """They name no id, and lack the keys that they did not know; the precision decides nothing."""
    shutil.copytree(calm, "results")
    for path in Path("results/digits/cells").glob("*.parquet"):
        path.unlink()
    for path in Path("results/digits/checkpoints").glob("*.safetensors"):
        model = load_tensors(path)[1]["model"]
        model.pop("heads")
        change(path, id=None, kind=None, model=model, precision="fp16")
    assert run("sweep", small, "--quiet")[0] == 0
    assert kills.rows(Path("results")).keys() == kills.rows(calm).keys()
    assert run("train", small, "--quiet")[0] == 0


def change(path, **facts):
    """Changes what the header of a file of tensors says; None leaves it out."""
    tensors, header = load_tensors(path)
    save_tensors(path, tensors, {key: value for key, value in (header | facts).items() if value is not None})


def test_influences_of_another_cell_are_not_taken(small, calm):
    shutil.copytree(calm / "digits", "results")
    influences, (one, other, *_) = (
        Influences(Path("results")),
        sorted(path.stem for path in Path("results/cells").iterdir()),
    )
    assert influences.get(one).keys() == {"label", "fid", "is_mean"}
    shutil.copy(influences.path(one), influences.path(other))
    assert (influences.get(other), influences.lost) == ({}, {other})
    earlier = pq.read_table(influences.path(one)).replace_schema_metadata()
    pq.write_table(earlier, influences.path(other))
    assert Influences(Path("results")).get(other).keys() == {"label", "fid", "is_mean"}


def test_a_training_state_with_a_flipped_bit_is_refused(small, run):
    small.write_text(SMALL.replace("steps: 60", "steps: 100000"))
    process = start(small, "results")
    while "train" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    (partial,) = Path("results/digits/checkpoints").glob("*.partial")
    flip(partial, random.Random(0))
    code, _, err = run("sweep", small)
    assert code == 2
    assert f"{partial}: not a whole file of cfgbench" in err


def test_damaged_shards_are_made_again_and_the_others_are_not(small, calm, run, made, monkeypatch):
    shutil.copytree(calm, "results")
    (path, *_) = sorted(Path("results/digits/cells").glob("*.parquet"))
    path.unlink()
    monkeypatch.setattr(shards, "SECONDS", 0.0)
    made.most = 10
    code, _, err = run("sweep", small)
    assert code == 130
    assert "goes on from here" in err
    files = sorted(Path("results/digits/features").glob("*/*.safetensors"))
    assert len(files) == len(made) == 10
    flip(files[3], random.Random(1))
    files[7].write_bytes(files[7].read_bytes()[:-1])
    tensors, header = load_tensors(files[0])  # whole, and with what would fail its cell in each run
    save_tensors(files[0], tensors | {"pooled": tensors["pooled"] / 0}, header)
    made.most = None
    assert run("sweep", small)[0] == 0
    assert sorted(made[10:]) == [0, 60, 140, *range(200, 400, 20)]
    same(calm, Path("results"))


def test_images_made_in_one_precision_outlive_a_run_in_another(small, calm, run, made):
    shutil.copytree(calm, "results")
    (path, *_) = sorted(Path("results/digits/cells").glob("*.parquet"))
    usual = pq.read_table(path)["precision"][0].as_py()
    path.unlink()
    other = "bf16" if usual == "fp32" else "fp32"
    for made.most, precision in (3, usual), (5, other), (None, usual):
        code, *_ = run("sweep", small, "--quiet", "--precision", precision)
        assert code == (130 if made.most else 0)
    assert made == [0, 20, 40, 0, 20, *range(60, 400, 20)]
    same(calm, Path("results"))


def test_images_of_a_network_that_was_trained_again_to_others_are_not_taken_over(small, calm, run, made):
    shutil.copytree(calm, "results")
    (path, *_) = sorted(Path("results/digits/cells").glob("*.parquet"))
    row = pq.read_table(path).to_pylist()[0]
    path.unlink()
    made.most = 3
    assert run("sweep", small, "--quiet")[0] == 130
    Path(f"results/digits/checkpoints/{row['checkpoint_id']}.safetensors").unlink()
    other = "bf16" if row["precision"] == "fp32" else "fp32"
    assert run("train", small, "--quiet", "--precision", other)[0] == 0
    made.most = None
    assert run("sweep", small, "--quiet")[0] == 0
    assert made == [0, 20, 40, *range(0, 400, 20)]
    assert f"trained in {other}" in pq.read_table(path)["protocol"][0].as_py()


@pytest.mark.parametrize("seconds", [float("nan"), 10**400, -1.0, 0, "x", None])
def test_shards_that_say_what_cannot_be_are_not_taken(tmp_path, seconds):
    assert taken_up(tmp_path, {}, seconds=1.5)
    assert not taken_up(tmp_path, {}, seconds=seconds)


@pytest.mark.parametrize("made", [{"device": "cpu"}, "x", None, []])
def test_shards_that_say_otherwise_how_they_were_made_are_not_taken(tmp_path, made):
    assert not taken_up(tmp_path, {}, seconds=1.5, made=made)


@pytest.mark.parametrize("tensors", [{"pooled": torch.zeros(4, 3)}, {"logits": torch.zeros(4, 2)},
                                     {"pooled": torch.zeros(5, 3, dtype=torch.int64)}, {"kept": None},
                                     {"pooled": None}, {"logits": None}, {"more": torch.zeros(5, 3)},
                                     {"pooled": torch.full((5, 3), torch.nan)}, {"pooled": torch.zeros(5, 4)},
                                     {"pooled": torch.zeros(5, 3).half()}, {"logits": torch.zeros(5, 2).double()},
                                     {"logits": torch.full((5, 2), torch.inf)}, {"kept": torch.zeros(2, 1, 8, 8)},
                                     {"kept": torch.zeros(1, 1, 8, 8, dtype=torch.uint8)}])  # fmt: skip
def test_shards_without_their_features_are_not_taken(tmp_path, tensors):
    assert taken_up(tmp_path, {}, seconds=1.5)
    assert not taken_up(tmp_path, tensors, seconds=1.5)


def taken_up(folder, tensors, **facts):
    """Whether a shard of five images is taken up, whose file holds and says this."""
    kept = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    good = {"pooled": torch.zeros(5, 3), "logits": torch.zeros(5, 2), "kept": kept}
    whole = {name: tensor for name, tensor in (good | tensors).items() if tensor is not None}
    path = folder / "features" / "cell" / f"000000000000-000000000005.{identity(1)}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, whole, {"first": 0, "stop": 5, "key": 1, "made": {}} | facts)
    return list(shards.Shards(path.parent, 5, 1, like=good, shown=[0, 4, 5]).files) == [range(5)]


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_sampling_the_images_so_far_are_kept(small, calm, name, tmp_path):
    shutil.copytree(calm / "digits/checkpoints", "results/digits/checkpoints")
    small.write_text(SMALL.replace("samples: 400", "samples: 1000000"))
    others, process = seconds_of_ended(), start(small, "results")
    while "cell" not in process.stderr.readline():
        pass
    spent = seconds_of(process.pid)
    process.send_signal(name)
    _, err = process.communicate(timeout=60)
    assert seconds_of_ended() - others - spent < 5
    assert process.returncode == 130
    assert "the same command goes on from here" in err
    assert len(list(Path("results/digits/features").glob("*/*.safetensors"))) >= 1


def test_any_split_into_shards_gives_the_same_row(small, calm, run, monkeypatch):
    for size in (0, 30_000):
        monkeypatch.setattr(shards, "BYTES", size)
        assert run("sweep", small, "--results", str(size), "--quiet")[0] == 0
        assert kills.differences(calm, Path(str(size))) == []


def test_shards_of_another_key_are_kept_until_all_is_done(tmp_path):
    def begun(key):
        like = {"pooled": torch.zeros(0, 3), "kept": torch.zeros(0)}
        return shards.Shards(tmp_path / "features" / "cell", 4, key, like=like)

    for key in ("a", "b"):
        one = begun(key)
        one.add(0, Features(torch.full((2, 3), float(key == "b")), None), torch.zeros(0), 1.5)
        one.flush()
    assert begun("a").missing() == begun("b").missing() == [range(2, 4)]
    last = begun("b")
    last.add(2, Features(torch.ones(2, 3), None), torch.zeros(0), 1.5)
    last.flush()
    ((_, features),) = last.blocks()
    assert features.pooled.equal(torch.ones(4, 3))
    last.clear(keep=True)
    assert begun("a").missing() == [range(4)]
    assert begun("b").missing() == []
    last.clear()
    assert not last.folder.exists()


def test_features_are_kept_where_that_is_asked(small, run):
    small.write_text(SMALL + "evaluation: {keep_features: true}\n")
    assert run("sweep", small, "--quiet")[0] == 0
    files = list(Path("results/digits/features").glob("*/*.safetensors"))
    assert len(files) == 4
    small.write_text(SMALL)  # as after a crash between the last row and the removal of its shards
    code, out, _ = run("sweep", small)
    assert code == 0
    assert "1/" not in out
    assert kills.left_behind(Path("results")) == []


LIMITED = """
import resource, sys
import torch, torch._dynamo, torch.optim.adamw, cfgbench.report, cfgbench.sweep.run
from cfgbench import cli
from cfgbench.models import unet
from cfgbench.sweep import fill
honest = fill.generate
def generate(networks, sampling, indices, *rest):
    print("batch", len(indices), file=sys.stderr)
    return honest(networks, sampling, indices, *rest)
fill.generate = generate
unet.BYTES_A_CORE = 1 << 40  # all of a batch goes through the network at once, as on a GPU
room = int(sys.argv.pop(1)) << 20
in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + room, in_use + room))
cli.main()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory as Linux has them")
def test_out_of_memory_the_batch_is_halved_and_the_images_are_the_same(small, run):
    # many images: what threads and allocators reserve, 100 MB more or less, is to be little beside a batch
    text = SMALL.replace("samples: 400, batch_size: 20", "samples: 16000, batch_size: 16000")
    small.write_text(text.replace("p_uncond: [0.1, 0.5], w: [0, 1], T: [3]", "p_uncond: [0.1], w: [1], T: [2]"))
    assert run("sweep", small, "--results", "calm", "--quiet", "--precision", "fp32")[0] == 0
    found = []
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for room in (475, 425, 525, 475):
        shutil.rmtree("results", ignore_errors=True)  # the shards of an attempt that failed
        shutil.copytree("calm/digits/checkpoints", "results/digits/checkpoints")
        words = [str(room), "sweep", str(small), "--precision", "fp32"]
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, *words], capture_output=True, text=True, check=False, env=environment
        )
        sizes = [int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("batch ")]
        if done.returncode == 0 and len(sizes) > 1:  # memory ran out, but not for good
            break
        found.append(done.stderr[-2000:])
    assert done.returncode == 0, (found, done.stdout)
    assert sizes[:2] == [16000, 8000]
    assert ": out of memory, batches of 8000 from here\n" in done.stderr
    assert sum(sizes) >= 32000  # a batch that failed, and all images
    (one,), (other,) = (kills.rows(folder).values() for folder in (Path("results"), Path("calm")))
    assert one["fid"] == pytest.approx(other["fid"], rel=1e-5)


def test_memory_that_runs_out_on_the_device_halves_the_batch_down_to_one(small, calm, run, monkeypatch):
    shutil.copytree(calm, "results")
    (path, *_) = sorted(Path("results/digits/cells").glob("*.parquet"))
    path.unlink()
    honest, sizes = filling.generate, []

    def small_device(networks, sampling, indices, *rest):
        sizes.append(len(indices))
        if len(indices) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return honest(networks, sampling, indices, *rest)

    monkeypatch.setattr(filling, "generate", small_device)
    assert run("sweep", small, "--quiet")[0] == 0
    assert sizes[:3] == [20, 10, 5]
    assert set(sizes[2:]) == {5}
    (one, other) = (kills.rows(folder)[path.stem]["fid"] for folder in (calm, Path("results")))
    assert one == pytest.approx(other, rel=1e-5)


def test_training_goes_on_with_parts_of_the_batch_where_memory_runs_out(small, run, monkeypatch):
    from cfgbench.tensors import load_tensors
    from cfgbench.training.step import Step

    assert run("train", small, "--results", "calm", "--quiet", "--precision", "fp32")[0] == 0
    honest = Step._loss

    def small_device(step, part):
        if len(part[0]) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return honest(step, part)

    monkeypatch.setattr(Step, "_loss", small_device)
    assert run("train", small, "--quiet", "--precision", "fp32")[0] == 0
    for path in Path("calm/digits/checkpoints").glob("*.safetensors"):
        wanted, found = (load_tensors(p)[0] for p in (path, Path("results/digits/checkpoints") / path.name))
        assert all(torch.allclose(wanted[name], found[name], atol=2e-4) for name in wanted)


def test_nan_in_one_cell_fails_that_cell_alone(small, run):
    small.write_text(SMALL.replace("w: [0, 1]", "w: [0, 3e38]"))
    code, _, err = run("sweep", small, "--quiet")
    assert code == 1
    assert "2 cells failed" in err
    states = {row["w"]: (row["status"], row["reason"]) for row in kills.rows(Path("results")).values()}
    assert states[0][0] == "ok"
    assert states[3e38] == ("failed", "ValueError: the sampler gave values that are not finite")


def test_two_processes_share_a_sweep_and_no_cell_is_lost_or_made_twice(small, calm, tmp_path):
    together = [start(small, tmp_path / "results") for _ in range(2)]
    said = [process.communicate(timeout=200) for process in together]
    assert [process.returncode for process in together] == [0, 0], said
    lines = [line for out, _ in said for line in out.splitlines() if "): FID" in line]
    places = [line.split(" ", 1)[1].split(": FID")[0] for line in lines]
    assert len(places) == 4
    assert len(set(places)) == 4
    same(calm, tmp_path / "results")


def test_a_clock_that_jumps_back_leaves_the_order_of_the_rows(small, run, monkeypatch):
    from datetime import UTC, datetime

    class Jumping(datetime):
        year_of_now = 2099

        @classmethod
        def now(cls, tz=None):
            return datetime(cls.year_of_now, 1, 1, tzinfo=UTC)

    text = SMALL.replace("p_uncond: [0.1, 0.5]", "p_uncond: [0.1]")
    small.write_text(text)
    monkeypatch.setattr(cell, "datetime", Jumping)
    run("sweep", small, "--quiet")
    first = kills.rows(Path("results"))
    Jumping.year_of_now = 1970
    small.write_text(text.replace("steps: 60", "steps: 61"))
    assert run("sweep", small, "--quiet")[0] == 0
    every = kills.rows(Path("results"))
    new = [row["created"] for cell, row in every.items() if cell not in first]
    assert len(new) == 2
    assert len(set(new)) == 2
    assert min(new) > max(row["created"] for row in first.values())


def test_memory_does_not_grow_with_the_images(small, peak):
    text = SMALL.replace("samples: 400, batch_size: 20", "samples: COUNT, batch_size: 500").replace("T: [3]", "T: [2]")
    text = text.replace("p_uncond: [0.1, 0.5], w: [0, 1]", "p_uncond: [0.1], w: [0]")
    peaks = []
    for count in (2000, 20_000):
        small.write_text(text.replace("COUNT", str(count)))
        _, most = peak("from cfgbench.cli import main; main()", "sweep", str(small), "--quiet")
        peaks.append(most)
    assert peaks[1] - peaks[0] < 100, peaks  # MB
