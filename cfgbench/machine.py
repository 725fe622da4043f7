"""What this process may take of its machine: memory, to refuse at once what can never fit, and processors."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where Linux says what a container, a service or a job may take, and which of them this process is in."""


def memory() -> int:
    """Bytes of memory in this machine, or in this container; as good as endless where the system does not say."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        whole = 1 << 62
    files = [group / file for group in _groups("memory") for file in ("memory.max", "memory.limit_in_bytes")]
    return min([whole, *(int(word) for file in files for word in _words(file) if word != "max")])


def processors() -> int:
    """How many processors this process may run on; fewer where a container has less of their time, rounded up."""
    return math.ceil(min([_processors_seen(), *map(_processors_of, _groups("cpu"))]))


def keep_to_processors() -> None:
    """Lets libraries that are loaded from now on begin no more threads than there are processors. By themselves they
    look at those of the machine; more threads than a container has time for halt together, and wait for each other."""
    if (count := processors()) < _processors_seen():
        os.environ.setdefault("OMP_NUM_THREADS", str(count))


def _processors_seen() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _groups(controller: str) -> Iterator[Path]:
    """The folders of this process's control group and of those around it, of version 2 and of version 1."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:  # no Linux
        return
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if not controllers or controller in controllers.split(","):
            root = GROUPS / controller if controllers else GROUPS
            own = root / path.strip("/")  # a container may not see it, but what is around it
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root))


def _processors_of(group: Path) -> float:
    """How many processors' time the group may take."""
    said = _words(group / "cpu.max") or [*_words(group / "cpu.cfs_quota_us"), *_words(group / "cpu.cfs_period_us")]
    if len(said) != 2 or said[0] in ("max", "-1"):
        return math.inf
    quota, period = map(int, said)
    return quota / period


def _words(path: Path) -> list[str]:
    """What the system says there; nothing where it has no such file."""
    try:
        return path.read_text().split()
    except OSError:
        return []
