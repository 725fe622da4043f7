"""Training on several devices at once: which part of the batch is whose. `torchrun` says who is who."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from cfgbench.errors import UserError, brief, reason
from cfgbench.models.precision import out_of_memory
from cfgbench.signals import held_back


class StoppedTogether(KeyboardInterrupt):
    """All processes of a group stop after the same step."""


@dataclass(frozen=True)
class Group:
    """This process among `world` that train one network together."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, batch: int) -> range:
        """This process's part of a batch, 0 .. batch - 1 in consecutive ranges as even as can be. Raises UserError."""
        if batch < self.world:
            raise UserError(f"training.batch_size = {batch}: {self.world} processes need an image each at least")
        return range(self.rank * batch // self.world, (self.rank + 1) * batch // self.world)

    def total(self, value: Tensor) -> Tensor:
        """The sum of every process's `value`."""
        if self.world > 1:
            with _exchanging():
                distributed.all_reduce(value)
        return value

    def as_leader(self, answer: bool, device: torch.device) -> bool:
        """What the process that leads answers, for all of them: files may change between their looks."""
        if self.world == 1:
            return answer
        told = torch.tensor(answer, dtype=torch.uint8, device=device)
        with _exchanging():
            distributed.broadcast(told, src=0)
        return bool(told)

    @contextmanager
    def stopping_together(self, device: torch.device) -> Iterator[Callable[[], None]]:
        """Gives what all of them call after each step: it raises StoppedTogether after the same step in all, once one
        of them is told to stop. One that left alone would leave the others within a step, waiting for it."""
        if self.world == 1:
            yield lambda: None
            return
        with held_back() as came:
            asked = self._any(False, device)

            def check() -> None:
                nonlocal asked
                asked, answered = self._any(bool(came), device), asked
                if answered():  # what was asked after the step before: nobody waits for a device
                    asked()  # until all are through what they exchange
                    came.clear()
                    raise StoppedTogether

            yield check

    def wait(self, device: torch.device) -> None:
        """Until all of them are here."""
        self.total(torch.zeros((), device=device)).item()

    def _any(self, answer: bool, device: torch.device) -> Callable[[], bool]:
        """Asks whether one of them answers yes; returns what waits to know."""
        told = torch.full((), answer, dtype=torch.uint8, device=device)
        with _exchanging():
            distributed.all_reduce(told, distributed.ReduceOp.MAX)
        here = told.to("cpu", non_blocking=True)
        if device.type != "cuda":
            return lambda: bool(here)
        copied = torch.cuda.Event()
        copied.record()

        def wait() -> bool:
            copied.synchronize()
            return bool(here)

        return wait


@contextmanager
def _exchanging() -> Iterator[None]:
    """Raises UserError where the others are not reached any more: they have ended, each with a line that says why."""
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        what = f"another process of the group has ended, and says why if it could ({reason(error)})"
        raise UserError(what) from None


ALONE = Group()
TORCHRUNS = "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"


def under_torchrun() -> bool:
    """Whether torchrun started this process as one of several. Raises UserError for half of its variables, and for
    what is no number."""
    world, missing = os.environ.get("WORLD_SIZE", "1"), [name for name in TORCHRUNS if name not in os.environ]
    if not world.isdecimal():
        raise UserError(f"WORLD_SIZE = {brief(world)}: should be a number of processes, as torchrun sets it")
    if int(world) > 1 and missing:
        raise UserError(f"WORLD_SIZE = {world}: {', '.join(missing)} missing; begin with torchrun, or unset WORLD_SIZE")
    for name in ("RANK", "LOCAL_RANK", "MASTER_PORT") if int(world) > 1 else ():
        if not os.environ[name].isdecimal():
            raise UserError(f"{name} = {brief(os.environ[name])}: should be a number, as torchrun sets it")
    return int(world) > 1


def own_device(asked: str | None) -> str | None:
    """The device to compute on, before any is touched: of processes that torchrun started each has a GPU of its own,
    unless a processor is asked for. Each would else take memory on the first GPU too."""
    on_gpu = torch.cuda.is_available() if asked is None else asked.startswith("cuda")
    return f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu and under_torchrun() else asked


@contextmanager
def process_group(device: torch.device) -> Iterator[Group]:
    """This process's place in its group, which computes on this device; one process alone where torchrun did not start
    it."""
    if not under_torchrun():
        yield ALONE
        return
    # imported later, its functions' defaults would keep the group: gloo's threads would outlive it, and one that lets
    # go of a tensor while Python ends is the end of the process (`terminate called without an active exception`)
    import torch.distributed.nn.functional  # noqa: F401

    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    done = False
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
        done = True
    finally:
        # after an error NCCL would wait for the others, who wait for this one, and nobody would see it
        if done or device.type != "cuda":
            distributed.destroy_process_group()
