"""Processes that work on one sweep side by side, each in the loop of `run`: this one begins them, hands on what they
say, and ends them.

Each is a program of its own. A copy of this process could not use the threads that it has begun already, and what
multiprocessing begins anew would run the user's own program once more.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from multiprocessing import Pipe, connection
from multiprocessing.connection import Connection
from typing import Any

from cfgbench.errors import UserError
from cfgbench.models.precision import Compute
from cfgbench.progress import Progress, end_worker, of_worker, remark
from cfgbench.sweep.bench import Place
from cfgbench.sweep.plan import Plan
from cfgbench.sweep.results.row import Row
from cfgbench.sweep.run import make_bench, run
from cfgbench.sweep.workers.division import Division, divide
from cfgbench.sweep.workers.process import SECONDS_TO_END, Task
from cfgbench.wording import GOES_ON

PROGRAM = """
import sys
sys.path[:] = {path!r}
from cfgbench.sweep.workers.process import work
work({descriptor})
"""
SECONDS_BETWEEN_POLLS = 1.0
"""After which, where no process says anything, each is asked whether it lives."""


@dataclass(frozen=True)
class Worker:
    """A worker's process, and our end of the pipe to it, which is closed when either of us ends."""

    process: subprocess.Popen
    pipe: Connection


def run_shared(
    plan: Plan, compute: Compute, *, progress: Progress, workers: int | None = None
) -> Generator[Row, None, None]:
    """Does what `run` does, by so many processes side by side; None leaves it to what is faster (`division`).

    The processes end when the generator is closed, or when this process dies: what they have made is kept. Raises what
    `run` does, and UserError where all of them are killed.
    """
    if not plan.missing:
        return
    division = divide(plan, compute.device, workers)
    if division.workers == 1:
        yield from run(plan, compute, progress=progress)
        return
    remark(progress, str(division))
    begun: list[Worker] = []
    try:
        for _ in range(min(division.workers, len(plan.missing))):
            begun.append(_begin(division))
        make_bench(plan, compute, progress)  # what all need is made by one, with all threads
        for number, worker in enumerate(begun):
            place = Place(number, len(begun))
            task = Task(replace(plan, images=None), plan.images.content, compute, place)
            with contextlib.suppress(OSError):  # it is gone already, which is found out below
                worker.pipe.send(task)
        yield from _relay(begun, progress)
    finally:
        _end(begun)


def _begin(division: Division) -> Worker:
    ours, theirs = Pipe()
    program = PROGRAM.format(path=sys.path, descriptor=theirs.fileno())
    environment = os.environ | {"OMP_NUM_THREADS": str(division.threads)}
    # Ctrl-C, and the end of a terminal, reach all its processes: this one says so, and ends the others
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        with theirs:
            command, passed = [sys.executable, "-c", program], [theirs.fileno()]
            process = subprocess.Popen(command, env=environment, pass_fds=passed, stdin=subprocess.DEVNULL)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return Worker(process, ours)


def _relay(begun: list[Worker], progress: Progress) -> Iterator[Row]:
    """Hands on what the workers say until each has ended. One that dies leaves its work to the others."""
    live, finished = {worker.pipe: number for number, worker in enumerate(begun)}, 0
    while live:
        ready = connection.wait(list(live), SECONDS_BETWEEN_POLLS)
        dead = [] if ready else [pipe for pipe in live if begun[live[pipe]].process.poll() is not None]
        for pipe in [*ready, *dead]:
            kind, *said = _heard(pipe)
            if kind == "row":
                yield said[0]
            elif kind == "progress":
                of_worker(progress, live[pipe])(*said)
            elif kind == "error":
                raise said[0]
            else:
                number, finished = live.pop(pipe), finished + (kind == "end")
                end_worker(progress, number)
                if kind == "gone" and (live or finished):
                    remark(progress, f"a process {_how_it_ended(begun[number])}; the others go on")
    if not finished:
        last = _how_it_ended(begun[-1])
        raise UserError(
            f"all {len(begun)} processes ended before their work, the last one {last}; {GOES_ON}; "
            "--workers 1 takes less memory"
        )


def _heard(pipe: Connection) -> tuple[Any, ...]:
    """What a worker says (`work`), or ("gone",)."""
    try:
        return pipe.recv() if pipe.poll() else ("gone",)
    except (EOFError, OSError):
        return ("gone",)


def _how_it_ended(worker: Worker) -> str:
    code = worker.process.wait()
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + " (memory may have run out)" * (name == "SIGKILL")


def _end(begun: list[Worker]) -> None:
    """Lets the workers save what they have, and waits for that; a second Ctrl-C waits no longer."""
    for worker in begun:
        worker.pipe.close()
        worker.process.terminate()
    try:
        for worker in begun:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(SECONDS_TO_END)
    finally:
        for worker in begun:
            worker.process.kill()
            worker.process.wait()
