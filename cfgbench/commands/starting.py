"""How the commands begin."""

from cfgbench.progress import Lines, Progress, silent
from cfgbench.signals import held_back


def load_torch() -> None:
    """The import that takes longest; Ctrl-C within it would be an error of some library's."""
    with held_back():
        import torch  # noqa: F401


def progress_of(quiet: bool) -> Progress:
    """Where a command tells how far it is."""
    return silent if quiet else Lines()
