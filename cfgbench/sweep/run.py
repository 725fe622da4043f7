"""Train what the grid needs, run what is missing: nothing is done twice, and one failure stops nothing else."""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import torch

from cfgbench.errors import reason
from cfgbench.files import write_atomically
from cfgbench.models.fast import Compiled
from cfgbench.models.precision import out_of_memory
from cfgbench.progress import WAITING, Progress
from cfgbench.spec import Cell
from cfgbench.sweep.batches import Ready
from cfgbench.sweep.bench import ALONE, Bench, Place
from cfgbench.sweep.cell import describe, run_cell
from cfgbench.sweep.extractor import make_extractor, reference_of
from cfgbench.sweep.fill import Job, fill
from cfgbench.sweep.networks import SECONDS_BETWEEN_LOOKS, networks_of, train_networks
from cfgbench.sweep.plan import Plan
from cfgbench.sweep.probes import check_extractor
from cfgbench.sweep.shards import Shards, remove
from cfgbench.training.diffusion import TrainingFailed

Row = dict[str, Any]

FAILURES = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, NameError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
"""What a cell may fail by, the others going on: images that are no numbers, and what torch and a user's own network
raise. Not what the system says, as of a full disk: that stops all."""

NOT_TRAINED = TrainingFailed, MemoryError, RuntimeError
"""What may be raised where a network cannot be trained; of the last two, memory that ran out is meant."""


def run(
    plan: Plan,
    *,
    device: torch.device,
    precision: str,
    progress: Progress,
    compiled: bool | None = None,
    place: Place = ALONE,
) -> Iterator[Row]:
    """Runs the plan's missing cells and yields each row once it is on the disk.

    `compiled` says whether networks go through torch.compile; None leaves it to what that costs and saves. Other
    processes may run the same sweep at the same time: each network and each cell is made by one of them; `place` is
    this one's among those that were begun together. Raises UserError for files that cannot be read or written, and for
    a network or an extractor that a probe finds broken; a cell that fails otherwise is a row with its reason.
    """
    if not plan.missing:
        return
    bench = make_bench(plan, device, precision, compiled, progress, place)
    queue, busy = deque(plan.groups()), 0
    queue.rotate(-(place.number * len(queue) // place.workers))  # each begins with a network of its own
    if place.workers > 1:
        yield from _train_first(plan, queue, bench, progress)
    while queue:
        cells = queue.popleft()
        left = yield from _run_group(plan, cells, bench, progress)
        if left:
            queue.append(left)
        busy = busy + 1 if left == cells else 0
        if busy > len(queue) > 0:  # a whole round without a cell to make
            progress(WAITING, len(plan.cells) - sum(map(len, queue)), len(plan.cells), "")
            time.sleep(SECONDS_BETWEEN_LOOKS)


def make_bench(
    plan: Plan,
    device: torch.device,
    precision: str,
    compiled: bool | None,
    progress: Progress,
    place: Place = ALONE,
) -> Bench:
    """What the cells share, made where it is not there yet. Raises what `run` does."""
    while True:
        with plan.store.claim("extractor") as held:
            if held:
                extractor = make_extractor(plan, device, progress, compiled)
                reference_id, reference_name, reference = reference_of(plan, extractor, progress)
                check_extractor(extractor, plan.images)
                return Bench(
                    plan.images,
                    plan.shown,
                    extractor,
                    reference,
                    reference_id,
                    reference_name,
                    device,
                    precision,
                    compiled,
                    place,
                )
        progress(WAITING, 0, len(plan.cells), "")
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _train_first(
    plan: Plan, queue: Iterable[list[Cell]], bench: Bench, progress: Progress
) -> Generator[Row, None, None]:
    """Trains what nobody else is at, before anything is sampled: a network is trained by one process, while many sample
    with it."""
    for cells in queue:
        if not all(_made_meanwhile(plan, cell) for cell in cells):
            try:
                train_networks(plan, cells[0], bench, progress)
            except NOT_TRAINED as error:
                yield from _without_networks(plan, cells, bench, error)


def _run_group(plan: Plan, cells: list[Cell], bench: Bench, progress: Progress) -> Generator[Row, None, list[Cell]]:
    """Runs those cells of one network that nobody else is at; returns the others."""
    cells = [cell for cell in cells if not _made_meanwhile(plan, cell)]
    if not _claimable(plan, cells):
        return cells
    try:
        ready = networks_of(plan, cells[0], bench, progress)
    except NOT_TRAINED as error:
        yield from _without_networks(plan, cells, bench, error)
        return []
    if ready is None:
        return cells
    left = []
    for batch in ready.batches(cells):
        with ExitStack() as claims:
            held = {cell.id for cell in batch if claims.enter_context(plan.store.claim(cell.id))}
            left += [cell for cell in batch if cell.id not in held]
            mine = [cell for cell in batch if cell.id in held and not _made_meanwhile(plan, cell)]
            _fill_together(plan, mine, ready, bench, progress)
            for cell in mine:
                yield _attempt(plan, cell, ready, bench, progress)
    return left


def _without_networks(plan: Plan, cells: list[Cell], bench: Bench, error: Exception) -> Iterator[Row]:
    """The rows of cells whose network could not be trained or loaded; raises the error where it is another one."""
    if not isinstance(error, TrainingFailed) and not out_of_memory(error):
        raise error
    for cell in cells:
        with plan.store.claim(cell.id) as held:
            if held and not _made_meanwhile(plan, cell):
                yield _put(plan, _failed(cell, bench, error))


def _fill_together(plan: Plan, cells: list[Cell], ready: Ready, bench: Bench, progress: Progress) -> None:
    """Makes the images of cells that share batches. Where that fails nothing is lost: one by one, the cells tell which
    of them it is."""
    if len(cells) > 1:
        jobs = [Job(cell, _shards(plan, cell, ready, bench)) for cell in cells]
        try:
            fill(jobs, ready, bench, progress)
        except FAILURES as error:
            progress(f"{len(cells)} cells do not share batches: {reason(error)}", 0, 0, "")


def _claimable(plan: Plan, cells: list[Cell]) -> bool:
    """Whether nobody is at one of the cells: else there is nothing to load a network for, and to measure."""
    for cell in cells:
        with plan.store.claim(cell.id) as held:
            if held:
                return True
    return False


def _made_meanwhile(plan: Plan, cell: Cell) -> bool:
    """Whether another process has run the cell since this one looked."""
    row = plan.store.find(cell.id)
    return row is not None and row["digest"] != plan.seen.get(cell.id)


def clean_up(plan: Plan) -> None:
    """Removes what processes have left that died before they could: claims, parts of files, the state of a training
    that is over, the shards of a finished cell."""
    store, keep = plan.store, plan.spec.evaluation.keep_features
    shards = set() if keep else {cell.id for cell in plan.cells if store.features(cell.id).exists()}
    for key in sorted(store.claimed() | shards):
        with store.claim(key) as held:
            if held and store.checkpoint(key).exists():
                store.checkpoint(key).with_suffix(".partial").unlink(missing_ok=True)
            if held and key in shards and (store.find(key) or {}).get("status") == "ok":
                remove(store.features(key))


def _shards(plan: Plan, cell: Cell, ready: Ready, bench: Bench) -> Shards:
    compiled = isinstance(ready.networks.denoiser, Compiled)
    key = [cell.id, bench.extractor.id, bench.precision, list(bench.shown), compiled]
    return Shards(plan.store.features(cell.id), cell.sampling.samples, key)


def _attempt(plan: Plan, cell: Cell, ready: Ready, bench: Bench, progress: Progress) -> Row:
    store, shards = plan.store, _shards(plan, cell, ready, bench)
    try:
        result = run_cell(cell, ready, bench, shards, progress=progress)
    except FAILURES as error:
        return _put(plan, _failed(cell, bench, error))
    store.check()
    write_atomically(store.samples(cell.id), result.sheet)
    store.put_influences(cell.id, result.influences)
    row = _put(plan, result.row)
    if not plan.spec.evaluation.keep_features:
        shards.clear()
    return row


def _failed(cell: Cell, bench: Bench, error: BaseException) -> Row:
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
    return describe(cell, bench) | {"status": "failed", "reason": said}


def _put(plan: Plan, row: Row) -> Row:
    plan.store.put(row)
    return row
