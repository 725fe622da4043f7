"""How time, memory and disk grow: measured points, and the exponent of each by least squares in log-log.

python tests/benchmarks/growth.py measure D N     (what a point of the feature dimension runs)
"""

import math
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from programs import bytes_in, cfgbench, python, tiny, write_sweep
from timing import Setup, markdown

MB = 1e6


@dataclass(frozen=True)
class Point:
    """Seconds of the work itself, of the same command with nothing left to do, peak and disk in bytes."""

    size: int
    seconds: float
    idle: float
    peak: int
    disk: int


def run(setup: Setup) -> Iterator[str]:
    """A table an axis."""
    q = setup.quick
    yield _axis("images", [20, 40] if q else [500, 1000, 2000, 4000, 8000], _images, "one cell of digits, T = 8")
    yield _axis("T", [2, 4] if q else [4, 8, 16, 32, 64], _steps, "one cell of digits, 1,000 images")
    yield _axis("cells", [1, 2] if q else [2, 4, 8, 16, 32], _cells, "cells of digits, 100 images, T = 2")
    yield _axis("classes", [2, 4] if q else [10, 100, 1000], _classes, "one cell of Gaussians, 5,000 images, T = 8")
    dimensions, n = ([16, 32], 100) if q else ([64, 192, 768, 2048], 4000)
    yield _axis("dimensions", dimensions, lambda d: _dimension(d, n), f"the statistics of {n:,} images' features")


def _axis(name: str, sizes: Sequence[int], measure: Callable[[int], Point], what: str) -> str:
    points = [measure(size) for size in sizes]
    head = [name, "seconds", "nothing left to do, s", "peak MB", "disk MB"]
    rows = [
        [f"{p.size:,}", f"{p.seconds:.2f}", f"{p.idle:.2f}", f"{p.peak / MB:.0f}", f"{p.disk / MB:.3f}"] for p in points
    ]
    fitted = [exponent(sizes, [getattr(p, field) for p in points]) for field in ("seconds", "idle", "peak", "disk")]
    return markdown(f"Growth with {name}", head, [*rows, ["**exponent**", *fitted]], [f"Of {what}."])


def exponent(sizes: Sequence[int], values: Sequence[float]) -> str:
    """b of value = a size^b; nothing where a value is not positive."""
    if min(values) <= 0:
        return ""
    return f"{np.polyfit([math.log(size) for size in sizes], [math.log(value) for value in values], 1)[0]:.2f}"


@lru_cache
def _trained() -> tempfile.TemporaryDirectory:
    """A results folder with the network of all sweeps of digits here, until this process ends."""
    folder = tempfile.TemporaryDirectory(prefix="cfgbench-growth-")
    file = write_sweep(Path(folder.name) / "growth.yaml", **tiny(10, 2), grid={"w": [1]})
    cfgbench("train", file, "--results", Path(folder.name) / "results", "--quiet")
    return folder


def _sweep(size: int, sections: dict) -> Point:
    """A sweep whose network was trained before; then once more with nothing left to do, which is start, data and rows.

    The seconds are what the first took longer, the disk all that lies there after it."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        file = write_sweep(Path(folder) / "growth.yaml", **sections)
        if "training" in sections:
            shutil.copytree(Path(_trained().name) / "results", results)
        first = cfgbench("sweep", file, "--results", results, "--quiet")
        again = cfgbench("sweep", file, "--results", results, "--quiet")
        return Point(size, first.seconds - again.seconds, again.seconds, first.peak, bytes_in(results))


def _images(n: int) -> Point:
    return _sweep(n, tiny(n, 8) | {"grid": {"w": [1]}})


def _steps(steps: int) -> Point:
    return _sweep(steps, tiny(1000, steps) | {"grid": {"w": [1]}})


def _cells(count: int) -> Point:
    return _sweep(count, tiny(100, 2) | {"grid": {"w": [round(0.1 * i + 0.1, 1) for i in range(count)]}})


def _classes(count: int) -> Point:
    angles = [2 * math.pi * i / count for i in range(count)]
    means = [[round(0.7 * math.cos(angle), 3), round(0.7 * math.sin(angle), 3)] for angle in angles]
    return _sweep(
        count,
        {
            "dataset": {"name": "gaussians", "means": means, "covariance": 0.0025},
            "model": {"name": "gaussians"},
            "sampling": {"samples": 5000, "batch_size": 1000, "T": 8, "clip": False},
            "grid": {"w": [1]},
        },
    )


def _dimension(d: int, n: int) -> Point:
    ran = python(Path(__file__), "measure", d, n)
    return Point(d, float(ran.output), 0.0, ran.peak, 0)


def measure_statistics(d: int, n: int) -> float:
    """Seconds from features to FID with its errors, the reference's moments being there."""
    from cfgbench.evaluation.features import Features
    from cfgbench.evaluation.measure import measure
    from cfgbench.evaluation.statistics import Moments

    randomness = torch.Generator().manual_seed(0)
    factors = torch.randn(d, d, generator=randomness) / d**0.5
    pooled, other = (torch.randn(n, d, generator=randomness) @ factors for _ in range(2))
    reference = Moments.of(other)
    blocks = [(first, Features(pooled[first : first + 500], None)) for first in range(0, n, 500)]
    began = time.perf_counter()
    measure(lambda: iter(blocks), n, fid_against=reference, inception=False)
    return time.perf_counter() - began


if __name__ == "__main__":
    print(measure_statistics(int(sys.argv[2]), int(sys.argv[3])))
