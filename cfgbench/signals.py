"""Signals that wait until what must not be left half done is done."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def held_back() -> Iterator[list[int]]:
    """Ctrl-C, SIGTERM and SIGHUP wait until this is over: what must not be left half done. Gives those that wait.

    A mask would not do: where there are other threads, one of them takes the signal. In these nothing is held back, and
    nothing raised.
    """
    came: list[int] = []
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if callable(handler := signal.getsignal(number)):
                    handlers[number] = handler
                    signal.signal(number, lambda number, _: came.append(number))
        yield came
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)
