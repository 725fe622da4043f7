"""Shapes of public tensor functions are checked while the tests run; commands are run as users type them."""

import os
import signal
import subprocess
import sys

import pytest
from jaxtyping import install_import_hook

# two tests run side by side, and some start programs of their own: threads that wait for each other's cores crawl
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("PYTHONUNBUFFERED", None)  # streams with a buffer, as users have them

# begun with &, or by nohup, Ctrl-C is ignored, and tests that send it would fail
signal.signal(signal.SIGINT, signal.default_int_handler)

install_import_hook(["cfgbench.diffusion", "cfgbench.evaluation"], "beartype.beartype")


def exit_code(*words):
    """Of the command `cfgbench words`, run here."""
    from cfgbench import cli

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cfgbench", *map(str, words)])
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
    return 0


@pytest.fixture(scope="session")
def run_first():
    """run_first("sweep", path, ...) gives the exit code of a command whose results many tests look at."""
    return exit_code


@pytest.fixture
def run(capsys):
    """run("sweep", path, ...) gives (exit code, standard output, standard error) of the command."""

    def run(*words):
        capsys.readouterr()
        code = exit_code(*words)
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


@pytest.fixture
def small(request, tmp_path, monkeypatch):
    """The sweep file SMALL of the test's module, in a folder of its own, which is the working folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(request.module.SMALL)
    return path


@pytest.fixture(scope="session")
def random_inception(tmp_path_factory):
    """The published network with random weights: the whole path without a download."""
    import torch
    from torch import nn
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path_factory.mktemp("weights") / "random.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_, **__: None)
        patch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *_, **__: {})
        network = FeatureExtractorInceptionV3("random", ["2048"])
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, generator=generator)
    torch.save(network.state_dict(), path)
    return path


WATCHED = """
import re, threading
from pathlib import Path

def own():
    return int(re.search(r"RssAnon:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

def watch():
    while not over.wait(0.002):
        peaks[0] = max(peaks[0], own())

peaks, over = [0], threading.Event()
watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
try:
    exec(code)
finally:
    over.set()
    watcher.join()  # left to the interpreter's end it may abort there
    print(max(peaks[0], own()))
"""


@pytest.fixture
def peak():
    """peak(code, *words) runs a program and gives its standard output and the most memory of its own, in MB.

    Not ru_maxrss, which begins with the peak of whoever started the program; and not what it maps of libraries, 400 MB
    that the system takes and gives as it has room.
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("the peak of memory as Linux tells it")

    def run(code, *words):
        program = f"code = {code!r}\n{WATCHED}"
        done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        out, _, most = done.stdout.rstrip().rpartition("\n")
        return out, int(most) / 1024

    return run
