"""How much memory the machine has, to refuse at once what can never fit."""

import os


def physical() -> int:
    """Bytes of memory in this machine; as good as endless where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 1 << 62
