"""Programs of their own: as a person starts them, with whoever reads what they print, and whether they have ended."""

import os
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path

NOBODY = "(exec <&-)"
"""The shell's words for a reader that goes away without reading."""


def foreground():
    """For preexec_fn: Ctrl-C as a program in the foreground has it, which one begun by a background suite ignores."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def alive(pids):
    """Those of the processes that have not ended; nobody may be there to notice that they have."""
    states = {pid: Path(f"/proc/{pid}/stat") for pid in pids}
    return [pid for pid, stat in states.items() if stat.exists() and stat.read_text().rpartition(") ")[2][0] != "Z"]


def seconds_of_ended():
    """What those processes took of the processors that this one began, and that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def seconds_of(pid):
    """What the process and those that it began have taken so far."""
    counts = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    begun = [child for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]
    return sum(map(int, counts[11:15])) / os.sysconf("SC_CLK_TCK") + sum(map(seconds_of, begun))


def read_by(reader, *words, **variables):
    """(exit code, standard error) of the command `cfgbench words`, whose standard output goes to `reader`."""
    command = shlex.join([sys.executable, "-m", "cfgbench", *map(str, words)])
    done = subprocess.run(
        ["bash", "-c", f"{command} | {reader}; exit ${{PIPESTATUS[0]}}"],
        **{"capture_output": True, "text": True, "check": False, "env": os.environ | variables},
    )
    return done.returncode, done.stderr
