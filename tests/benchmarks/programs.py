"""Whole programs: their wall time and peak memory, and the sweep files that they run."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_WATCH = """
import json, os, sys, time
began = time.perf_counter()
_, status, usage = os.wait4(os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ), 0)
numbers = time.perf_counter() - began, usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status)
json.dump(numbers, open(sys.argv[1], "w"))
"""
"""A small process between us and the program: a child's peak memory begins with that of its parent."""


@dataclass(frozen=True)
class Ran:
    """Wall `seconds`, `peak` memory in bytes, what was printed."""

    seconds: float
    peak: int
    output: str


def python(*words: object) -> Ran:
    """Runs this Python with these arguments, this checkout first on its path. Raises RuntimeError where it fails."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    with tempfile.NamedTemporaryFile() as numbers:
        words = [sys.executable, "-S", "-c", _WATCH, numbers.name, sys.executable, *map(str, words)]
        process = subprocess.run(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        seconds, peak, code = json.load(numbers)
    if code:
        raise RuntimeError(f"{' '.join(words[5:])}: exit code {code}: {process.stdout[-300:]}")
    return Ran(seconds, peak, process.stdout)


def cfgbench(*words: object) -> Ran:
    """The command line of this checkout."""
    return python("-m", "cfgbench", *words)


def write_sweep(path: Path, **sections: Any) -> Path:
    """A sweep file of these sections, named as the file."""
    import yaml

    path.write_text(yaml.safe_dump({"name": path.stem} | sections, default_flow_style=None, width=10_000))
    return path


def tiny(samples: int, steps: int) -> dict[str, Any]:
    """Sections of a sweep of digits whose network is as good as untrained: what it costs is what matters."""
    return {
        "dataset": {"name": "digits"},
        "model": {"channels": 16, "multipliers": [1, 2], "blocks": 1, "attention": [4]},
        "training": {"steps": 2, "batch_size": 32},
        "sampling": {"samples": samples, "batch_size": 500, "T": steps},
    }


def bytes_in(folder: Path) -> int:
    """What the files below a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
