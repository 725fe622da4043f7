"""Several processes train one network: through torchrun, as users start it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from programs import alive
from torch import distributed

from cfgbench.errors import UserError
from cfgbench.files import try_lock
from cfgbench.tensors import load_tensors
from cfgbench.training.distributed import Group, own_device, process_group

# Adam does not see a gradient's scale; where some of the gradients are clipped it matters
SWEEP = """
name: digits
dataset: {name: digits, limit: 200}
model: {channels: 8, multipliers: [1, 2], attention: [4]}
training: {steps: 20, batch_size: 32, learning_rate: 3e-3, gradient_clip: 1.8, MORE}
sampling: {samples: 20}
grid: {p_uncond: [0.2], w: [0], T: [3]}
"""
ALONE = os.environ | {"OMP_NUM_THREADS": "1"}
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def words(*launcher, command="train", precision="fp32"):
    exact = ["--device", "cpu", "--precision", precision]
    return [sys.executable, *launcher, "-m", "cfgbench", command, "small.yaml", *exact]


def train(folder: Path, *launcher, more="seed: 0", command="train"):
    folder.mkdir()
    (folder / "small.yaml").write_text(SWEEP.replace("MORE", more))
    done = subprocess.run(
        [*words(*launcher, command=command), "--quiet"],
        cwd=folder,
        env=ALONE,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done, list((folder / "results/digits/checkpoints").glob("*.safetensors"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The checkpoint of one process."""
    done, (path,) = train(tmp_path_factory.mktemp("alone") / "one")
    assert done.returncode == 0, done.stderr
    return path


TORCHRUNS = {"WORLD_SIZE": "8", "RANK": "11", "LOCAL_RANK": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.mark.parametrize(("device", "after_an_error"), [("cuda", 0), ("cpu", 1)])
def test_a_group_of_gpus_is_left_alone_after_an_error(monkeypatch, device, after_an_error):
    """To end it, NCCL waits for the others, who wait for this one: nobody would see what went wrong."""
    ended = []
    for name, value in TORCHRUNS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(distributed, "init_process_group", lambda _: None)
    monkeypatch.setattr(distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: ended.append(1))
    with process_group(torch.device(device)) as group:
        assert (group.rank, group.world) == (0, 2)
    assert len(ended) == 1
    with pytest.raises(OSError, match="full"), process_group(torch.device(device)):
        raise OSError("full")
    assert len(ended) == 1 + after_an_error


@pytest.mark.parametrize("more", ["seed: 0", "micro_batch_size: 5"])
def test_two_processes_train_the_weights_of_one(alone, tmp_path, more):
    together, (two,) = train(tmp_path / "two", *TORCHRUN, more=more)
    assert together.returncode == 0, together.stderr
    assert together.stderr == "", "torch warns of nothing"
    assert together.stdout.count("safetensors") == 1, "one process speaks"
    assert alone.name == two.name
    wanted, found = load_tensors(alone)[0], load_tensors(two)[0]
    assert max((wanted[name] - found[name]).abs().max().item() for name in wanted) < 1e-5
    losses = [path.with_suffix(".losses.csv").read_text().splitlines() for path in (alone, two)]
    assert len(losses[0]) == len(losses[1]) == 21
    numbers = [[float(line.split(",")[1]) for line in lines[1:]] for lines in losses]
    assert numbers[1] == pytest.approx(numbers[0], rel=1e-4)


def test_processes_wait_together_for_a_network_that_another_trains(alone, tmp_path):
    folder = tmp_path / "one"
    shutil.copytree(alone.parents[3], folder)
    path = folder / alone.relative_to(alone.parents[3])
    trained = path.rename(folder / "trained")
    with try_lock(folder / "results/digits/locks" / path.stem) as held:
        assert held
        with subprocess.Popen(words(*TORCHRUN), cwd=folder, env=ALONE, stderr=subprocess.PIPE, text=True) as together:
            said = next(line for line in together.stderr if "waiting for another process" in line or "loss" in line)
            trained.rename(path)  # the other is done
            rest = together.stderr.read()
    assert "waiting" in said
    assert "loss" not in rest
    assert together.returncode == 0, rest


SLOW = """
import sys, time
from cfgbench import cli
from cfgbench.training import diffusion

honest = diffusion.save
diffusion.save = lambda *state: (time.sleep(3), honest(*state))
cli.main()
"""


def test_one_that_is_told_to_stop_stops_all_after_the_same_step(tmp_path):
    """The one that leads would wait within a step for another that has left, and save nothing; or be killed by torchrun
    while it saves, for the other has gone."""
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "small.yaml").write_text(SWEEP.replace("MORE", "").replace("steps: 20", "steps: 100000"))
    launcher = [word for word in words(*TORCHRUN, precision="bf16") if word != "cfgbench"]
    launcher[launcher.index("-m", 2)] = "slow.py"
    launched = subprocess.Popen(launcher, cwd=tmp_path, env=ALONE, stderr=subprocess.PIPE, text=True)
    with launched as together:
        said = together.stderr.readline()
        children = Path(f"/proc/{together.pid}/task/{together.pid}/children").read_text().split()
        (other,) = (pid for pid in children if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes())
        os.kill(int(other), signal.SIGTERM)
        while alive([other]):
            time.sleep(0.01)
        (partial,) = (tmp_path / "results/digits/checkpoints").glob("*.partial")
        rest = together.stderr.read()
    assert "loss" in said, "torch warns of nothing"
    assert "cfgbench: stopped; " in rest
    tensors, header = load_tensors(partial)
    assert header["step"] >= 20
    assert [int(loss != 0) for loss in tensors["losses"][header["step"] - 1 :][:2]] == [1, 0]


@pytest.mark.parametrize("exchange", ["total", "as_leader"])
def test_of_others_that_are_not_reached_the_word_is_one_line(monkeypatch, exchange):
    """They have ended, each with a line that says why; gloo and NCCL speak of sockets."""

    def fail(*_, **__):
        raise RuntimeError("Connection reset by peer")

    monkeypatch.setattr(distributed, "all_reduce", fail)
    monkeypatch.setattr(distributed, "broadcast", fail)
    given = {"total": [torch.ones(1)], "as_leader": [True, torch.device("cpu")]}[exchange]
    with pytest.raises(UserError, match=r"another process of the group has ended, .*\(Connection reset by peer\)"):
        getattr(Group(1, 2), exchange)(*given)


def test_memory_that_runs_out_here_is_nobody_elses_end(monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(distributed, "all_reduce", fail)
    with pytest.raises(torch.OutOfMemoryError):
        Group(1, 2).total(torch.ones(1))


@pytest.mark.parametrize(("asked", "own"), [(None, "cuda:3"), ("cuda", "cuda:3"), ("cuda:0", "cuda:3"), ("cpu", "cpu")])
def test_each_process_has_a_gpu_of_its_own_before_it_touches_one(monkeypatch, asked, own):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert own_device(asked) == asked
    for name, value in TORCHRUNS.items():
        monkeypatch.setenv(name, value)
    assert own_device(asked) == own
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert own_device(None) is None


THREADS = """
import sys
from pathlib import Path

import torch
from cfgbench.training.distributed import process_group

def gloo():
    return [name for task in Path("/proc/self/task").iterdir() if "gloo" in (name := (task / "comm").read_text())]

with process_group(torch.device("cpu")) as group:
    import torch._dynamo  # as optimisers do, and what wraps a network for several processes
    group.total(torch.ones(3))
    during = gloo()
sys.stdout.write(f"{len(during) > 0} {len(gloo())};")
"""


def test_a_group_that_is_over_leaves_no_threads(tmp_path):
    """One that lives until Python ends may let go of a tensor then, which ends the process by a signal."""
    (tmp_path / "threads.py").write_text(THREADS)
    words = [sys.executable, *TORCHRUN, "threads.py"]
    done = subprocess.run(words, cwd=tmp_path, env=ALONE, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "True 0;" * 2), done.stderr


def test_a_sweep_is_not_for_torchrun(tmp_path, monkeypatch, run):
    (tmp_path / "small.yaml").write_text(SWEEP.replace("MORE", "seed: 0"))
    for name, value in TORCHRUNS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    code, _, err = run("sweep", "small.yaml", "--quiet")
    assert (code, "torchrun is for cfgbench train" in err) == (2, True), err
