"""Processes side by side: the rows are those of one, and whatever happens to one of them nothing is lost."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import kills
import pytest
import torch
from programs import alive, foreground

from cfgbench.errors import UserError
from cfgbench.models.precision import Compute
from cfgbench.progress import silent
from cfgbench.sweep import networks
from cfgbench.sweep.bench import Place
from cfgbench.sweep.plan import make_plan, prepare_folder
from cfgbench.sweep.run import run as run_alone
from cfgbench.sweep.workers import division
from cfgbench.sweep.workers import pool as worker_pool
from cfgbench.sweep.workers.division import Work, best, divide

SMALL = """
name: digits
dataset: {name: digits, limit: 200}
model: {channels: 8, multipliers: [1], attention: []}
training: {steps: 40, batch_size: 16, learning_rate: 3e-3}
sampling: {samples: 100, batch_size: 20}
grid: {p_uncond: [0.1, 0.5], w: [0, 1], T: [3]}
"""
LONG = SMALL.replace("steps: 40", "steps: 100000")
DIGITS = Path(__file__).parents[2] / "sweeps" / "digits.yaml"
TWO = "--workers", "2", "--precision", "fp32"


@pytest.fixture
def program():
    """program(words, begun) is a program in a session of its own, as on a terminal of its own; what it says goes to
    the files out and err. Returns when all of `begun` stand in err."""
    started = []

    def start(words, begun):
        with Path("out").open("w") as out, Path("err").open("w") as err:
            command = [sys.executable, *words]
            process = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True, preexec_fn=foreground)
        started.append(process)
        while not all(word in Path("err").read_text() for word in begun) and process.poll() is None:
            time.sleep(0.01)
        assert process.poll() is None, Path("err").read_text()
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def first_worker_killed(monkeypatch):
    """The first worker that this process begins is killed once two of them are at work."""
    begun, honest, over = [], worker_pool._begin, threading.Event()

    def wait_and_kill():
        while len(locks()) < 2 and not over.wait(0.01):
            pass
        if begun:
            begun[0].process.kill()

    monkeypatch.setattr(worker_pool, "_begin", lambda *how: begun.append(honest(*how)) or begun[-1])
    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.fixture
def workers_killed(monkeypatch):
    """All workers that this process begins are killed at once."""
    honest = worker_pool._begin

    def begin(*how):
        worker = honest(*how)
        worker.process.kill()
        return worker

    monkeypatch.setattr(worker_pool, "_begin", begin)


def locks():
    """What is trained or sampled now."""
    return [path for path in Path("results/digits/locks").glob("[!.]*") if path.name != "extractor"]


def children(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def partials():
    return list(Path("results/digits/checkpoints").glob("*.partial"))


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked for in /proc")


def test_rows_and_failures_of_two_workers_are_those_of_one_process(small, run):
    good, bad = "{p_uncond: [0.1], w: [0, 1], T: [3]}", "{p_uncond: [0.5], learning_rate: [1e9], w: [0, 1], T: [3]}"
    small.write_text(SMALL.partition("grid")[0].replace("40", "20") + f"grid: [{good}, {bad}]\n")
    assert run("sweep", small, "--workers", 1, "--precision", "bf16", "--results", "one", "--quiet")[0] == 1
    code, out, err = run("sweep", small, "--workers", 2, "--precision", "bf16", "--no-compile")
    assert code == 1
    assert kills.differences(Path("one"), Path("results")) == []
    assert kills.left_behind(Path("results")) == []
    assert {row["precision"] for row in kills.rows(Path("results")).values()} == {"bf16"}
    lines = [line for line in out.splitlines() if line.split("/")[0] in "1234"]
    assert sorted(line.split()[0] for line in lines) == ["1/4", "2/4", "3/4", "4/4"]
    assert sum(": FID " in line for line in lines) == 2
    assert sum("failed: TrainingFailed: the loss is nan at step 20" in line for line in lines) == 2
    assert err.startswith("2 processes of 1 thread each: as asked\n")
    assert "not compiled: as asked" in err
    assert err.endswith("2 cells failed; their rows say why, and the same command tries them again\n")


@linux
@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_or_the_end_of_the_terminal_is_one_line_and_each_worker_keeps_its_training(small, program, name):
    small.write_text(LONG)
    process = program(["-m", "cfgbench", "sweep", "small.yaml", *TWO], ["train p_uncond 0.1", "train p_uncond 0.5"])
    begun, asked = children(process), time.monotonic()
    assert len(begun) == 2
    os.killpg(process.pid, name)
    assert process.wait(timeout=30) == 130
    assert time.monotonic() - asked < 10
    said = [line for line in Path("err").read_text().splitlines() if "images/s" not in line]
    assert said[1:] == ["cfgbench: stopped; what is finished is kept, and the same command goes on from here"]
    assert Path("out").read_text() == ""
    assert alive(begun) == []
    assert len(partials()) == 2
    assert locks() == []


SCRIPT = """
print("begun", flush=True)
from pathlib import Path
import torch
from cfgbench.models.precision import Compute
from cfgbench.progress import Lines
from cfgbench.sweep.plan import make_plan, prepare_folder
from cfgbench.sweep.workers.pool import run_shared
plan = make_plan(Path("small.yaml"), Path("results"))
prepare_folder(plan)
print(list(run_shared(plan, Compute(torch.device("cpu"), "fp32"), progress=Lines(), workers=2)))
"""


@linux
def test_workers_do_not_run_the_users_script_and_end_when_it_is_killed(small, program):
    small.write_text(LONG)
    Path("script.py").write_text(SCRIPT)
    process = program(["script.py"], ["train p_uncond 0.1", "train p_uncond 0.5"])
    begun = children(process)
    assert len(begun) == 2
    process.kill()
    killed = time.monotonic()
    while alive(begun) and time.monotonic() - killed < 20:
        time.sleep(0.05)
    assert time.monotonic() - killed < 10
    assert Path("out").read_text() == "begun\n"
    assert "Traceback" not in Path("err").read_text()
    assert len(partials()) == 2
    assert locks() == []


def test_a_killed_worker_leaves_its_work_to_the_other(small, run, first_worker_killed, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # each worker is told its share of this process's one
    code, _, err = run("sweep", small, *TWO)
    assert code == 0
    assert run("sweep", small, "--results", "calm", "--precision", "fp32", "--quiet")[0] == 0
    assert err.count("a process was killed by SIGKILL (memory may have run out); the others go on\n") == 1
    assert kills.differences(Path("calm"), Path("results")) == []
    assert kills.left_behind(Path("results")) == []
    wrong_for_a_worker(run, small)


def test_the_places_are_those_of_the_processes_that_were_begun(small, run, monkeypatch):
    """Of four that were asked for one: what is ahead is its own, and no part of it another's."""
    assert run("sweep", small, "--quiet", "--workers", "1")[0] == 0
    next(Path("results/digits/cells").glob("*.parquet")).unlink()
    plan, sent = make_plan(small, Path("results")), []
    nobody = SimpleNamespace(pipe=SimpleNamespace(send=lambda task: sent.append(task.place)))
    monkeypatch.setattr(worker_pool, "_begin", lambda _: nobody)
    monkeypatch.setattr(worker_pool, "_end", lambda _: None)
    monkeypatch.setattr(worker_pool, "_relay", lambda *_: iter(()))
    list(worker_pool.run_shared(plan, Compute(torch.device("cpu"), "fp32"), progress=silent, workers=4))
    assert sent == [Place(0, 1)]


@pytest.mark.parametrize(("precision", "trainings"), [("fp32", 1), ("bf16", 2)])
def test_a_training_that_failed_elsewhere_meanwhile_is_not_tried_again(small, monkeypatch, precision, trainings):
    """Of two processes one waits for the network that the other trains, whose loss is no number; in another precision
    it may be one."""
    small.write_text(SMALL.replace("p_uncond: [0.1, 0.5]", "p_uncond: [0.1]").replace("3e-3", "1e30"))
    plan, compute = make_plan(small, Path("results")), Compute(torch.device("cpu"), "fp32")
    prepare_folder(plan)
    (network,), honest, begun = plan.networks(), networks.train, []

    def train(*all, **options):
        begun.append(1)
        return honest(*all, **options)

    monkeypatch.setattr(networks, "train", train)
    other = run_alone(plan, compute, progress=silent)
    held = plan.store.claim(network.id)
    assert held.__enter__()

    def first_fails(*_):
        held.__exit__(None, None, None)
        assert next(other)["status"] == "failed"  # its first row is there, and not yet its second

    monkeypatch.setattr("cfgbench.sweep.run.wait_for_others", first_fails)
    rows = list(run_alone(replace(plan), replace(compute, precision=precision), progress=silent))
    assert len(begun) == trainings
    assert [row["status"] for row in rows] == ["failed"]
    assert "the loss is nan at step" in rows[0]["reason"]
    assert list(other) == []


def wrong_for_a_worker(run, small):
    """What this process does not look at is damaged: it says what a worker finds, of which one is enough."""
    next(Path("results/digits/cells").glob("*.parquet")).unlink()
    for path in Path("results/digits/checkpoints").glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    code, out, err = run("sweep", small, *TWO, "--quiet")
    assert (code, out) == (2, "")
    assert err.startswith("cfgbench: results/digits/checkpoints/")
    assert "not a whole file of cfgbench" in err
    assert err.count("\n") == 1
    assert locks() == []


def test_a_worker_trains_from_a_place_of_its_own_on_and_samples_when_no_training_is_left(small):
    plan, seen = make_plan(small, Path("results")), []
    prepare_folder(plan)
    compute = Compute(torch.device("cpu"), "fp32")
    said = run_alone(plan, compute, progress=lambda task, *_: seen.append(task.split(",")[0]), place=Place(1, 2))
    assert [row["p_uncond"] for row in said] == [0.5, 0.5, 0.1, 0.1]
    order = [task for task in dict.fromkeys(seen) if task.startswith(("train", "cell"))]
    assert order == ["train p_uncond 0.5", "train p_uncond 0.1", "cell p_uncond 0.5", "cell p_uncond 0.1"]


def test_with_all_workers_killed_the_sweep_says_that_it_goes_on_later(small, run, workers_killed):
    code, out, err = run("sweep", small, *TWO)
    assert (code, out) == (2, "")
    (last,) = [line for line in err.splitlines() if line.startswith("cfgbench: ")]
    assert "all 2 processes ended before their work, the last one was killed by SIGKILL" in last
    assert "the same command goes on from here" in last


def test_a_number_of_workers_that_cannot_be_is_refused(small, run, shared):
    code, _, err = run("sweep", small, "--workers", "0")
    assert code == 2
    assert "--workers" in err
    assert err.count("\n") == 1
    with pytest.raises(UserError, match="--workers 2: a meta is filled by one process"):
        shared(SMALL, device="meta", asked=2)


# how many


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """shared(text, cores=2) says how the sweep is divided."""

    def shared(text, cores=2, device="cpu", asked=None):
        path = tmp_path / "sweep.yaml"
        path.write_text(text)
        monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
        found = divide(make_plan(path, tmp_path / "results"), torch.device(device), asked)
        return found.workers, found.threads

    return shared


def test_the_digits_are_divided_and_what_is_short_large_or_elsewhere_is_not(shared):
    digits = DIGITS.read_text()
    assert shared(digits) == (2, 1)
    assert shared(digits, cores=1) == (1, 1)
    assert shared(digits, device="cuda") == (1, 2)
    assert shared(SMALL) == (1, 2)
    assert shared(SMALL, asked=2) == (2, 1)
    assert shared(SMALL, cores=16, asked=16) == (4, 4)  # it has four cells
    assert shared(digits, asked=1) == (1, 2)
    assert shared(digits, cores=16, asked=3) == (3, 5)
    assert shared(digits, cores=2, asked=3) == (3, 1)
    assert shared(digits.replace("features: digits", "features: inception-64").replace("fid, is", "fid")) == (1, 2)
    assert shared(digits.replace("channels: 16", "channels: 256")) == (1, 2)
    gaussians = (DIGITS.parent / "gaussians.yaml").read_text()
    assert shared(gaussians.replace("samples: ", "samples: 1000")) == (1, 2)


def test_a_dry_run_says_who_would_work(small, run):
    assert run("sweep", small, "--dry-run")[1].endswith(
        "\nworked on by one process of 1 thread: others would share it\n"
    )
    assert run("sweep", small, "--dry-run", "--workers", 2)[1].endswith(
        "\nworked on by 2 processes of 1 thread each: as asked\n"
    )


@pytest.mark.parametrize("command", [("train", "--p-uncond", 0.5, "--precision", "fp32"), ("sweep", "--dry-run")])
def test_training_and_a_dry_run_take_the_threads_of_a_worker(small, run, monkeypatch, command):
    taken = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.setattr(division, "best", lambda *_, **__: division.Division(3, 2, ""))
    assert run(command[0], small, *command[1:])[0] == 0
    assert taken == [2]


def test_what_is_there_already_changes_nothing(shared, tmp_path):
    text = DIGITS.read_text()
    before = shared(text)
    plan = make_plan(tmp_path / "sweep.yaml", tmp_path / "results")
    found = divide(replace(plan, done=frozenset(cell.id for cell in plan.cells[1:])), torch.device("cpu"))
    assert (found.workers, found.threads) == before


MINUTE, LITTLE = 60 * division.SAMPLING, division.SAMPLING


@pytest.mark.parametrize(("work", "cores", "wanted"), [
    (Work(3, 0, 42, 10 * LITTLE, 1), 2, (2, 1)),
    (Work(1, 10 * MINUTE, 2, LITTLE, 1), 2, (1, 2)),  # one network, which one process trains
    (Work(1, LITTLE, 100, 10 * LITTLE, 1), 2, (2, 1)),  # and its many cells
    (Work(3, 10 * MINUTE, 3, LITTLE, 1), 4, (3, 1)),
    (Work(3, 10 * MINUTE, 3, LITTLE, 1), 16, (3, 5)),
    (Work(100, MINUTE, 100, LITTLE, 1), 16, (15, 1)),  # 7 rounds, as of 16
    (Work(1, 0, 1, 100 * MINUTE, 1), 16, (1, 16)),  # one cell
    (Work(8, 0, 59, LITTLE, 1), 1, (1, 1)),
    (Work(8, 0, 3, LITTLE, 1), 16, (1, 16)),  # short
    (Work(8, MINUTE, 99, MINUTE, division.LARGE), 16, (1, 16)),
])  # fmt: skip
def test_as_many_processes_as_take_the_least_time(work, cores, wanted):
    found = best(work, cores, processes=1000)
    assert (found.workers, found.threads) == wanted


@pytest.mark.parametrize("cores", [2, 3, 7, 16, 64, 192])
def test_no_more_threads_than_cores_and_no_more_processes_than_memory_has_room_for(cores):
    work = Work(7, MINUTE, 500, 3 * LITTLE, 1)
    for processes in (0, 1, 2, 5, 1000):
        found = best(work, cores, processes=processes)
        assert 1 <= found.workers <= max(1, processes)
        assert found.workers * found.threads <= cores
    assert best(work, cores, processes=1000).workers > 1
    assert "memory" in best(work, cores, processes=1).reason
