"""Train what the grid needs, run what is missing: nothing is done twice, and one failure stops nothing else."""

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress

import torch

from cfgbench.errors import UserError, counted, printable, reason, said
from cfgbench.files import make_folder, write_atomically
from cfgbench.models.fast import Compiled
from cfgbench.models.precision import Compute, lacked_memory, out_of_memory
from cfgbench.progress import Progress, remark, wait_for_others
from cfgbench.spec import Cell, Factory, Pretrained
from cfgbench.sweep.batches import Ready
from cfgbench.sweep.bench import ONE_PROCESS, Bench, Place
from cfgbench.sweep.cell import describe, protocol, run_cell
from cfgbench.sweep.extractor import make_extractor, measures_data
from cfgbench.sweep.fill import Job, fill
from cfgbench.sweep.kept import shards_of
from cfgbench.sweep.networks import ready_for, train_networks
from cfgbench.sweep.plan import Plan
from cfgbench.sweep.probes import check_extractor
from cfgbench.sweep.reference import reference_of
from cfgbench.sweep.results.row import Row
from cfgbench.sweep.results.shards import remove
from cfgbench.sweep.results.store import EXTRACTOR
from cfgbench.training.state import TrainingFailed

STOPS_ALL = OSError, UserError
"""What the system says, as of a full disk, and what cannot be used. By any other error, as those of a user's own
network, a cell fails and the others go on."""

ANY = Exception, SystemExit
"""What a user's own network may raise: it may end the program too."""


def run(plan: Plan, compute: Compute, *, progress: Progress, place: Place = ONE_PROCESS) -> Iterator[Row]:
    """Runs the plan's missing cells and yields each row once it is on the disk.

    Other processes may run the same sweep at the same time: each network and each cell is made by one of them; `place`
    is this one's among those that were begun together. Raises UserError for files that cannot be read or written, and
    for a network or an extractor that a probe finds broken; a cell that fails otherwise is a row with its reason.
    """
    if not plan.missing:
        return
    bench = make_bench(plan, compute, progress, place)
    queue, busy = deque(plan.groups()), 0
    queue.rotate(-(place.number * len(queue) // place.workers))  # each begins with a network of its own
    if place.workers > 1:
        yield from _train_first(bench, queue)
    while queue:
        cells = queue.popleft()
        left = yield from _run_group(bench, cells)
        if left:
            queue.append(left)
        busy = busy + 1 if left == cells else 0
        if busy > len(queue) > 0:  # a whole round without a cell to make
            wait_for_others(progress, len(plan.cells) - sum(map(len, queue)), len(plan.cells))


def try_model(plan: Plan, device: torch.device) -> None:
    """Loads a network that was made elsewhere: what is wrong with it is told before the results folder is changed to
    this sweep, and before the data set is measured, which may take hours. Raises UserError."""
    if not plan.missing or not isinstance(plan.missing[0].model, Pretrained):
        return
    make_folder(plan.store.folder.parent)  # told at once, if it cannot be
    to_measure = measures_data(plan)
    if to_measure or not plan.is_kept:
        try:
            plan.pretrained(plan.missing[0], device)
        except (MemoryError, RuntimeError) as error:
            if to_measure or not out_of_memory(error):  # else its cells fail for want of it, and others may go on
                raise


def make_bench(plan: Plan, compute: Compute, progress: Progress, place: Place = ONE_PROCESS) -> Bench:
    """What the cells share, made where it is not there yet. Raises what `run` does."""
    while True:
        with plan.store.claim(EXTRACTOR) as held:
            if held:
                extractor = make_extractor(plan, compute, progress)
                reference = reference_of(plan, extractor, progress)
                plan.check_measures()
                features = check_extractor(extractor, plan.images)
                return Bench(plan, extractor, features, reference, compute, progress, place)
        wait_for_others(progress, 0, len(plan.cells))


def _train_first(bench: Bench, queue: deque[list[Cell]]) -> Iterator[Row]:
    """Trains what nobody else is at, before anything is sampled: a network is trained by one process, while many sample
    with it. Cells that fail for want of theirs leave the queue."""
    for _ in range(len(queue)):
        cells = queue.popleft()
        if not all(_made_meanwhile(bench.plan, cell) for cell in cells):
            try:
                _check_trainable(bench, cells)
                train_networks(bench, cells[0])
            except ANY as error:
                cells = yield from _without_networks(bench, cells, error)
        if cells:
            queue.append(cells)


def _run_group(bench: Bench, cells: list[Cell]) -> Generator[Row, None, list[Cell]]:
    """Runs those cells of one network that nobody else is at; returns the others."""
    plan, every = bench.plan, cells
    cells = [cell for cell in cells if not _made_meanwhile(plan, cell)]
    if not _claimable(plan, cells):
        return cells
    try:
        _check_trainable(bench, every)
        ready = ready_for(bench, cells)
    except ANY as error:
        return (yield from _without_networks(bench, cells, error))
    if ready is None:
        return cells
    _check_weights(bench, cells[0])
    left = []
    for batch in ready.batches(cells):
        with ExitStack() as claims:
            held = {cell.id for cell in batch if claims.enter_context(plan.store.claim(cell.id))}
            left += [cell for cell in batch if cell.id not in held]
            mine = [cell for cell in batch if cell.id in held and not _made_meanwhile(plan, cell)]
            compiled = isinstance(ready.networks.denoiser, Compiled)
            jobs = [Job(cell, shards_of(bench, cell, compiled=compiled)) for cell in mine]
            _fill_together(bench, jobs, ready)
            for job in jobs:
                yield _attempt(bench, job, ready)
    return left


def _check_weights(bench: Bench, cell: Cell) -> None:
    """Raises UserError where other cells have, by the same protocol, other weights of the networks that are loaded for
    this one: trained again these have the same id, and the difference would be taken for that of guidance."""
    plan, cells = bench.plan, {one.id: one for one in bench.plan.cells}
    for network in cell.networks:
        own = bench.weights.get(network.id)
        made_with = plan.made_with.get(network.id, ()) if own else ()
        others = [made for made in made_with if made.digest != own]
        others = [made.cell for made in others if made.protocol == protocol(cells[made.cell], bench)]
        if others:
            few = ", ".join(f"{cell}.parquet" for cell in others[:3]) + ", ..." * (len(others) > 3)
            raise UserError(
                f"{plan.store.checkpoint(network.id)}: {counted(len(others), 'cell')} in {plan.store.folder} had other "
                f"weights of this network ({network.label}), which was trained again since: delete their rows "
                f"(cells/{few}; of another digest than {own[:8]}), which are then made again, or bring its "
                "checkpoint back"
            )


def _without_networks(bench: Bench, cells: list[Cell], error: BaseException) -> Generator[Row, None, list[Cell]]:
    """Yields a failed row for each of these cells, whose networks could not be trained or loaded; returns those that
    another process is at. Raises the error again if it stops all, and unless the training failed, memory ran out, or
    the network is a user's own."""
    known = isinstance(cells[0].model, Factory) or isinstance(error, TrainingFailed) or out_of_memory(error)
    if isinstance(error, STOPS_ALL) or not known:
        raise error
    left = []
    for cell in cells:
        with bench.plan.store.claim(cell.id) as held:
            if not held:
                left.append(cell)
            elif not _made_meanwhile(bench.plan, cell):
                yield _put(bench, _failed(bench, cell, error))
    return left


def _fill_together(bench: Bench, jobs: list[Job], ready: Ready) -> None:
    """Makes the images of cells that share batches. Where that fails nothing is lost: one by one, the cells tell which
    of them it is."""
    if len(jobs) > 1:
        try:
            fill(jobs, ready, bench)
        except STOPS_ALL:
            raise
        except ANY as error:
            remark(bench.progress, f"{len(jobs)} cells do not share batches: {reason(error)}")


def _claimable(plan: Plan, cells: list[Cell]) -> bool:
    """Whether nobody is at one of the cells: else there is nothing to load a network for, and to measure."""
    for cell in cells:
        with plan.store.claim(cell.id) as held:
            if held:
                return True
    return False


def _made_meanwhile(plan: Plan, cell: Cell) -> bool:
    """Whether another process has run the cell since this one looked. Not where that ran out of memory: what it lacked
    this one may hold."""
    row = _new(plan, cell)
    return row is not None and not (row["status"] == "failed" and lacked_memory(str(row["reason"])))


def _new(plan: Plan, cell: Cell) -> Row | None:
    """The cell's row, if another process has put it there since this one looked."""
    row = plan.store.find(cell.id)
    return row if row is not None and row["digest"] != plan.seen.get(cell.id) else None


def _check_trainable(bench: Bench, cells: list[Cell]) -> None:
    """Raises TrainingFailed where that of these cells' networks has failed in another process in the same precision,
    which puts a row a cell: here it would take as long, and end alike."""
    failed = f"{TrainingFailed.__name__}: "
    for row in filter(None, (_new(bench.plan, cell) for cell in cells)):
        alike = row["status"] == "failed" and row.get("precision") == bench.compute.precision
        if alike and str(row["reason"]).startswith(failed):
            raise TrainingFailed(str(row["reason"]).removeprefix(failed))


def clean_up(plan: Plan) -> None:
    """Removes what processes have left that died before they could: claims, parts of files, the state of a training
    that is over, the shards of a finished cell."""
    store = plan.store
    store.check()
    shards = (
        set()
        if plan.spec.evaluation.keep_features
        else {cell.id for cell in plan.cells if store.features(cell.id).exists()}
    )
    for key in sorted(store.claimed() | shards):
        with suppress(OSError, UserError), store.claim(key) as held:  # what may not be removed is in nobody's way
            if held and store.checkpoint(key).exists():
                store.checkpoint(key).with_suffix(".partial").unlink(missing_ok=True)
            if held and key in shards and (store.find(key) or {}).get("status") == "ok":
                remove(store.features(key))


def _attempt(bench: Bench, job: Job, ready: Ready) -> Row:
    store, (cell, shards) = bench.plan.store, job
    try:
        result = run_cell(job, ready, bench)
    except STOPS_ALL:
        raise
    except ANY as error:
        return _put(bench, _failed(bench, cell, error))
    store.check()
    write_atomically(store.samples(cell.id), result.sheet)
    store.influences.put(cell.id, result.influences)
    row = _put(bench, result.row)
    shards.clear(keep=bench.plan.spec.evaluation.keep_features)
    return row


def _failed(bench: Bench, cell: Cell, error: BaseException) -> Row:
    words = printable(f"{type(error).__name__}: {' '.join(said(error).split())}")[:300]
    return describe(cell, bench) | {"status": "failed", "reason": words}


def _put(bench: Bench, row: Row) -> Row:
    bench.plan.store.put(row)
    return row
