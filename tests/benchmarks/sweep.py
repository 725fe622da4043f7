"""A whole sweep by our command, and by the script that a user would write with the peers. One round: it is long."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from networks import SIDE
from photographs import has_logits, photographs, weights, write_folder
from programs import cfgbench, python, write_sweep
from timing import Setup, Timed, table

CLASSES = 10
STRENGTHS = [0, 0.1, 0.3, 1, 2, 4]


@dataclass(frozen=True)
class Work:
    """`images` a cell of `steps`, judged by `layer` (2048, with the Inception Score, or 768) against `references`."""

    folder: Path
    strengths: list[float]
    images: int
    steps: int
    batch: int
    references: int
    layer: int
    weights: Path
    device: str


def run(setup: Setup) -> Iterator[str]:
    """Six cells, T = 8."""
    path, trained = weights()
    layer = 2048 if has_logits(path) else 768
    with tempfile.TemporaryDirectory() as folder:
        sizes = (
            ([0, 1], 20, 2, 10, 40) if setup.quick else (STRENGTHS, setup.images, 8, 250, min(5000, 5 * setup.images))
        )
        work = Work(Path(folder), *sizes, layer, path, str(setup.device))
        images, what = photographs(work.references, SIDE)
        write_folder(work.folder / "reference", images, CLASSES)
        found = [
            _once("cfgbench", partial(_ours, precision="fp32"), work),
            _once("cfgbench, features in bf16", partial(_ours, precision="bf16"), work),
            _once("diffusers, PNG, torch-fidelity", _theirs, work),
        ]
    rates = {"images/s": len(work.strengths) * work.images}
    scores = "FID and IS" if layer == 2048 else "FID of layer 768 alone, for these weights go no further,"
    notes = [
        f"{len(work.strengths)} cells of {work.images:,} images, T = {work.steps}, {scores} against {what[0].lower()}"
        f"{what[1:]} {trained} As subprocesses, start included; one round. Two network calls a step, one at w = 0, for "
        "both. Networks of one size, as good as untrained. Ours has standard errors, influences and sheets besides; "
        "the script lets torch-fidelity keep the reference's features from cell to cell (input2_cache_name). Ours "
        "samples in bf16, as the program decides, with the exact features, and then with features in bf16.",
    ]
    agreed = {one.name: one.result for one in found if one.seconds}
    yield table("A whole sweep", found, rates=rates, agreed=agreed, notes=notes)


def _once(name: str, job: Callable[[Work], Callable[[], str]], work: Work) -> Timed:
    """One round, without a warm-up: whole programs bring none."""
    timed = Timed(name, ours=name.startswith("cfgbench"))
    try:
        start = job(work)
        began = time.perf_counter()
        timed.result = start()
        timed.seconds.append(time.perf_counter() - began)
    except Exception as error:
        timed.error = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return timed


def _ours(work: Work, *, precision: str) -> Callable[[], str]:
    """The sweep, its network trained before for two steps; `precision` is that of the Inception network."""
    evaluation = {"features": "inception" if work.layer == 2048 else "inception-768"}
    evaluation |= {"metrics": ["fid", "is"] if work.layer == 2048 else ["fid"], "inception_weights": str(work.weights)}
    evaluation |= {"precision": precision}
    file = write_sweep(
        work.folder / f"whole-{precision}.yaml",
        dataset={"name": "folder", "path": str(work.folder / "reference"), "resolution": SIDE},
        model={"channels": 64, "multipliers": [1, 2, 2], "blocks": 2, "attention": [16], "head_channels": 64},
        training={"steps": 2, "batch_size": 8},
        sampling={"samples": work.images, "batch_size": work.batch, "T": work.steps},
        evaluation=evaluation,
        grid={"w": work.strengths},
    )
    where = ["--results", work.folder / "results", "--device", work.device, "--quiet"]
    cfgbench("train", file, *where)

    def start() -> str:
        cfgbench("sweep", file, *where)
        return _done(work.folder / "results" / file.stem)

    return start


def _done(results: Path) -> str:
    """Counted in the rows, for a sweep that failed should not look quick."""
    rows = pd.read_parquet(results / "cells").sort_values("w")
    return f"{len(rows)} cells done, FID {', '.join(f'{fid:.2f}' for fid in rows['fid'])}"


def _theirs(work: Work) -> Callable[[], str]:
    script = Path(__file__).parent / "users_script.py"
    out = work.folder / "theirs"
    shutil.rmtree(out, ignore_errors=True)
    words = [out, work.folder / "reference", work.weights, work.layer, work.device, work.images, work.steps, work.batch]
    return lambda: f"{len(python(script, *words, *work.strengths).output.strip().splitlines()[-1].split())} cells done"
