"""Shapes of public tensor functions are checked while the tests run; commands are run as users type them."""

import os
import signal
import sys

import pytest
from jaxtyping import install_import_hook

# two tests run side by side, and some start programs of their own: threads that wait for each other's cores crawl
os.environ.setdefault("OMP_NUM_THREADS", "1")

install_import_hook(["cfgbench.diffusion", "cfgbench.evaluation"], "beartype.beartype")


@pytest.fixture
def run(monkeypatch, capsys):
    """run("sweep", path, ...) gives (exit code, standard output, standard error) of the command."""
    from cfgbench import cli

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["cfgbench", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        out = capsys.readouterr()
        return code, out.out, out.err

    return run
