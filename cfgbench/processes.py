"""Work that other processes do while this one goes on: copies of it, which share what is in its memory."""

import contextlib
import gc
import multiprocessing
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar
from weakref import WeakSet

from cfgbench import machine
from cfgbench.signals import held_back

T = TypeVar("T")
_receivers: WeakSet[Connection] = WeakSet()
"""The ends at which this process waits for others."""


def forkable_processors() -> int:
    """How many processors copies of this process may use; 1 where they cannot share what is in memory."""
    return machine.processors() if sys.platform == "linux" else 1


def begin(work: Callable[[], T]) -> Callable[[], T]:
    """Begins the work in another process; returns what waits for its result, which has to be picklable.

    What the work raises is raised then. A process that cannot begin, or that dies, as where memory runs out, leaves its
    work to this one, which does it when it waits.
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    _receivers.add(receiver)
    with sender, held_back() as came:  # what is raised within a fork is lost
        process = multiprocessing.get_context("fork").Process(target=_send, args=(work, sender, came), daemon=True)
        try:
            process.start()
        except OSError:
            return work

    def wait() -> T:
        try:
            done, found = receiver.recv()
        except (EOFError, OSError):  # the end came before the message, or within it
            process.join()
            return work()
        process.join()
        if not done:
            raise found
        return found

    return wait


def _send(work: Callable[[], T], to: Connection, came: list[int]) -> None:
    # Ctrl-C and a terminal that is closed reach both: the other one says so, and ends this one as it leaves
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signal.SIGTERM in came:
        return
    for copy in _receivers:  # while one is open, writing would wait for a process that was killed
        copy.close()
    gc.freeze()  # what was there before is no garbage here; and looking for some takes an eighth of the time
    gc.disable()
    with contextlib.suppress(BrokenPipeError):  # nobody waits any more
        try:
            to.send((True, work()))
        except Exception as error:
            to.send((False, error))
