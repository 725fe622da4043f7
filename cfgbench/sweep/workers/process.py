"""One of the processes of the `pool`: it is sent a Task, and says rows and progress."""

import contextlib
import os
import signal
import threading
import time
import traceback
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from cfgbench import data
from cfgbench.data import Images
from cfgbench.errors import UserError, said
from cfgbench.models.precision import Compute
from cfgbench.spec import Dataset
from cfgbench.sweep.bench import Place
from cfgbench.sweep.plan import Plan
from cfgbench.sweep.run import run

SECONDS_TO_END = 60.0
"""After which a process that should end is killed: it ends with its step, and what that leaves to be saved."""


@dataclass(frozen=True)
class Task:
    """What a worker is to do: `plan`, whose images are left out, for they may be larger than memory; it loads them
    itself, if their hash is `content`."""

    plan: Plan
    content: str
    compute: Compute
    place: Place


def work(descriptor: int) -> None:
    """All that the process does, through the pipe of this descriptor.

    It says ("progress", ...) as `Progress` has it, ("row", row), and at last ("end",) or ("error", exception).
    """
    os.set_inheritable(descriptor, False)
    pipe = Connection(descriptor)
    try:
        task: Task = pipe.recv()
    except (EOFError, OSError):  # whoever began this process wants it no more
        return
    try:
        signal.signal(signal.SIGTERM, _stop)
        threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
        plan = replace(task.plan, images=_same_data(task.plan.spec.dataset, task.content))
        for row in run(plan, task.compute, progress=lambda *said: _say(pipe, "progress", *said), place=task.place):
            _say(pipe, "row", row)
        last: tuple[Any, ...] = ("end",)
    except KeyboardInterrupt:
        return
    except BaseException as error:
        last = "error", _sendable(error)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is over anyway
    _say(pipe, *last)


def _stop(number: int, frame: FrameType | None) -> None:
    """Stops the work as Ctrl-C does, once: what is saved then is saved in peace."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_with(pipe: Connection) -> None:
    """Waits for the pipe to be closed, by a process that ends its workers or that died; then ends this one."""
    with contextlib.suppress(EOFError, OSError):
        pipe.recv_bytes()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_END)
    os._exit(1)


def _say(pipe: Connection, *words: Any) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more: `_end_with` knows
        pipe.send(words)


def _same_data(dataset: Dataset, content: str) -> Images:
    """The images of which the sweep was planned. Raises UserError."""
    images = data.load(dataset)
    if images.content != content:
        raise UserError("dataset: its files changed while the sweep began; run the same command again")
    return images


def _sendable(error: BaseException) -> BaseException:
    """The error with where it was raised; what it says, where another process may not know its type."""
    known = isinstance(error, UserError) or type(error).__module__ == "builtins"
    found = error if known else RuntimeError(f"{type(error).__name__}: {said(error)}")
    found.add_note("".join(traceback.format_exception(error)))
    return found
