"""How much memory the machine has, to refuse at once what can never fit."""

import os
from pathlib import Path

LIMITS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"
"""Where Linux says what a container may take."""


def physical() -> int:
    """Bytes of memory in this machine, or in this container; as good as endless where the system does not say."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        machine = 1 << 62
    return min(machine, *map(_limit, LIMITS))


def _limit(path: str) -> int:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # no such file, or the word max
        return 1 << 62
