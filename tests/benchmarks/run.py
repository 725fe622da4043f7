"""Measures cfgbench against the programs that people would use otherwise, in turn, and prints a table a part.

    python tests/benchmarks/run.py [--only PART]... [--quick] [--rounds 5] [--images 2000] [--device cpu] [--out FILE]

The peers come with `pip install -e ".[bench]"`; one that is missing is said to be in its row.
"""

import argparse
import importlib
import importlib.metadata
import os
import platform
import sys
import time
from pathlib import Path

import torch
from timing import Setup

PARTS = "networks", "frechet", "inception", "sampling", "training", "gpu", "commands", "growth", "sweep"
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "torch-fidelity", "pytorch-fid", "clean-fid", "torchmetrics",
            "diffusers", "denoising-diffusion-pytorch")  # fmt: skip


def main() -> None:
    arguments = _arguments()
    setup = Setup(torch.device(arguments.device), arguments.rounds, arguments.quick, arguments.images)
    began = time.monotonic()
    _say(arguments.out, surroundings(setup), mode="w")
    for part in arguments.only or PARTS:
        try:
            for section in importlib.import_module(part).run(setup):
                _say(arguments.out, section)
        except Exception as error:  # the other parts are still worth having
            _say(arguments.out, f"## {part}\n\nbroke off: {type(error).__name__}: {error}\n")
        print(f"[{part} done after {time.monotonic() - began:.0f} s]", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; may be repeated; all without it")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run? Its numbers mean nothing")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=2000, help="of a cell of the sweep")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="a Markdown file, written part by part")
    return parser.parse_args()


def _say(out: Path | None, section: str, mode: str = "a") -> None:
    print(section, flush=True)
    if out:
        with out.open(mode) as file:
            file.write(f"{section}\n")


def surroundings(setup: Setup) -> str:
    """Command, versions and hardware, in Markdown."""
    gpu = torch.cuda.get_device_name(setup.device) if setup.device.type == "cuda" else "no GPU used"
    amx = ", AMX" if torch.cpu._is_amx_tile_supported() else ""
    load = f"load {os.getloadavg()[0]:.1f} before it began"
    lines = [
        f"# Benchmark{' (quick: the numbers mean nothing)' if setup.quick else ''}",
        f"`python tests/benchmarks/run.py {' '.join(sys.argv[1:])}`, {time.strftime('%Y-%m-%d')}, Python "
        f"{platform.python_version()}",
        f"{_processor()}{amx}, {os.cpu_count()} cores, {torch.get_num_threads()} threads; {gpu}; {load}",
        ", ".join(f"{package} {_version(package)}" for package in PACKAGES),
        f"{setup.rounds} rounds in turn after a warm-up; ratios are medians over rounds of theirs to ours, the fastest "
        "peer's in bold.",
    ]
    return "\n\n".join(lines) + "\n"


def _processor() -> str:
    """The processor's name, with its family and model where the name says little."""
    try:
        pairs = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    except OSError:
        return platform.processor()
    found = {key.strip(): value.strip() for key, _, value in reversed(pairs)}
    return f"{found.get('model name', '?')} (family {found.get('cpu family')}, model {found.get('model')})"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


if __name__ == "__main__":
    main()
