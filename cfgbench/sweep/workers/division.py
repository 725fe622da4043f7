"""How many processes work on a sweep side by side.

It is told by the sweep, its data and the machine, never by what is missing or by the clock: the threads that a network
is trained with decide how its weights are rounded, and the same sweep is to give the same numbers again.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from cfgbench import machine
from cfgbench.errors import UserError, counted
from cfgbench.spec import INCEPTION, Model
from cfgbench.sweep.forecast import flops
from cfgbench.sweep.plan import Plan
from cfgbench.training.facts import image_of

SAMPLING, TRAINING = 100e9, 50e9
"""FLOP/s of a core, about: what the digits' network reached on a server's core without AMX. On faster ones a sweep is
shorter than it is taken for."""
SCALING, SCALES_TO = 0.6, 8
"""So many threads, at most SCALES_TO, do the work of threads ** SCALING processes of one thread: what is between a
small network's layers is done by one of them."""
LARGE = 1e9
"""Operations of an image's pass from which on a network keeps all threads busy by itself."""
STARTING = 10.0
"""Seconds that a process takes to import, load and probe, while others do the same."""
WORTH_STARTING, WORTH_DIVIDING = 60.0, 0.95
"""Seconds of work from which on a sweep is divided, where that takes at most this part of them."""
A_PROCESS = 768 << 20
"""Bytes of memory of its own of a worker, beside the data: libraries, feature maps, a small network in training."""
HOLDS = 2
"""Copies of the data in a process that trains, where they are not mapped from a file."""
SHARE_OF_MEMORY = 0.5


@dataclass(frozen=True)
class Division:
    """`workers` processes of `threads` threads each; 1 is this process alone. `reason` is for a person to read."""

    workers: int
    threads: int
    reason: str

    def __str__(self) -> str:
        if self.workers == 1:
            return f"one process of {counted(self.threads, 'thread')}: {self.reason}"
        return f"{self.workers} processes of {counted(self.threads, 'thread')} each: {self.reason}"


@dataclass(frozen=True)
class Work:
    """`networks` to train of `training` operations each, then `cells` of `sampling` operations each; an image's pass
    through a network is `one_pass`."""

    networks: int
    training: float
    cells: int
    sampling: float
    one_pass: float

    def seconds(self, workers: int, threads: int) -> float:
        """So many processes of so many threads take about so long, in rounds: one makes a network or cell."""
        faster = min(threads, SCALES_TO) ** SCALING
        training = math.ceil(self.networks / workers) * self.training / TRAINING
        sampling = math.ceil(self.cells / workers) * self.sampling / SAMPLING
        return (training + sampling) / faster + (STARTING if workers > 1 else 0.0)


def divide(plan: Plan, device: torch.device, asked: int | None = None) -> Division:
    """Who works on the sweep: `asked` processes, or as many as take the least time. Raises UserError."""
    cores = torch.get_num_threads()  # the machine's, or what this process is allowed, or OMP_NUM_THREADS
    if asked is not None and asked > 1 and device.type != "cpu":
        raise UserError(f"--workers {asked}: a {device.type} is filled by one process; take 1, or --device cpu")
    if asked is not None:
        # those that are missing would not do: weights depend on the threads
        workers, why = min((asked, "as asked"), (len(plan.cells), "one a cell"))
        return Division(workers, max(1, cores // workers) if workers > 1 else cores, why)
    if why := _alone(plan, device, cores):
        return Division(1, cores, why)
    pixels = plan.images.images
    held = 0 if isinstance(pixels, np.memmap) else HOLDS * pixels.nbytes
    return best(work_of(plan), cores, processes=int(SHARE_OF_MEMORY * machine.memory() / (A_PROCESS + held)))


def _alone(plan: Plan, device: torch.device, cores: int) -> str:
    """Why the sweep is not divided, whatever its length; nothing where that decides."""
    if device.type != "cpu":
        return f"it fills a {device.type}"
    if cores == 1:
        return "others would share it"
    if not all(isinstance(cell.model, Model) for cell in plan.cells):
        return "what a network made elsewhere takes is not known"
    if plan.spec.features in INCEPTION:
        return "the Inception network keeps all of them busy"
    return ""


def take_threads(plan: Plan, device: torch.device, asked: int | None = None) -> Division:
    """Leaves this process the threads of one that works on the sweep: what it trains is then what `sweep` would, and
    takes as long. Returns how the sweep is divided."""
    division = divide(plan, device, asked)
    torch.set_num_threads(division.threads)
    return division


def work_of(plan: Plan) -> Work:
    """All that the sweep asks for, whether it is there or not."""
    networks, cells = plan.networks(), plan.cells
    operations = flops.of_sweep(cells, networks, image_of(plan.images))
    training, sampling = operations.training / len(networks), operations.sampling / len(cells)
    return Work(len(networks), training, len(cells), sampling, operations.one_pass)


def best(work: Work, cores: int, *, processes: int) -> Division:
    """As many processes as take the least time, the fewest of several; memory has room for so many."""
    if work.one_pass >= LARGE:
        return Division(1, cores, "its networks keep all of them busy")
    alone = work.seconds(1, cores)
    if alone < WORTH_STARTING:
        return Division(1, cores, "the sweep is short")
    most = max(1, min(cores, work.cells, processes))
    taken = {workers: work.seconds(workers, cores // workers) for workers in range(1, most + 1)}
    workers = min(taken, key=lambda workers: (taken[workers], workers))
    if workers == 1 or taken[workers] > WORTH_DIVIDING * alone:
        return Division(1, cores, "memory has no room for more" if processes < 2 else "more would not be faster")
    return Division(workers, cores // workers, f"about {taken[workers] / alone:.0%} of the time of one")
