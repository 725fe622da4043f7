"""Processes that work while another goes on: whatever becomes of that one, they end, and so does it."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from programs import alive

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="one process works alone there")

KILLED = """
import multiprocessing, os, signal
from cfgbench.processes import begin
waits = [begin(lambda: bytes(1 << 20)) for _ in range(3)]
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def program(code):
    """(exit code, standard output, standard error) of a program; it may leave others that hold them open."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        done = subprocess.run([sys.executable, "-c", code], stdout=out, stderr=err, check=False, timeout=60)
        said = [stream.seek(0) or stream.read() for stream in (out, err)]
    return done.returncode, *said


def test_those_of_a_process_that_is_killed_end():
    code, out, err = program(KILLED)
    pids, began = [int(pid) for pid in out.split()], time.monotonic()
    try:
        while (left := alive(pids)) and time.monotonic() - began < 10:
            time.sleep(0.05)
        assert (code, len(pids), left, err) == (-signal.SIGKILL, 3, [], "")
    finally:
        for pid in left:
            os.kill(pid, signal.SIGKILL)


STOPPED = """
import os, signal
from cfgbench.processes import begin
signal.signal(signal.{name}, signal.default_int_handler)
os.register_at_fork(after_in_{where}=lambda: signal.raise_signal(signal.{name}))
try:
    print(begin(os.getpid)() == os.getpid())
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_stops_this_one_is_not_lost_while_another_begins(name):
    assert program(STOPPED.format(name=name, where="parent")) == (0, "stopped\n", "")


@pytest.mark.parametrize(("name", "here"), [("SIGINT", False), ("SIGTERM", True), ("SIGHUP", False)])
def test_another_is_stopped_by_this_one_alone_as_soon_as_it_has_begun(name, here):
    assert program(STOPPED.format(name=name, where="child")) == (0, f"{here}\n", "")
