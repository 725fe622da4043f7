"""cfgbench sweep, and what it says without running a cell."""

from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfgbench.commands.options import RESULTS, Compile, Device, Precision, Quiet, Results, SweepFile
from cfgbench.commands.starting import load_torch, progress_of
from cfgbench.errors import UserError, counted, printable, reason
from cfgbench.exits import goes_on, note, say, tell, unprinted
from cfgbench.progress import Progress, clear

if TYPE_CHECKING:
    from cfgbench.models.precision import Compute
    from cfgbench.sweep.plan import Plan

MOST_WORKERS = 256


def sweep(
    sweep: SweepFile,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells and their cost; run none.")] = False,
    results: Results = RESULTS,
    device: Device = None,
    precision: Precision = "auto",
    compile: Compile = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_WORKERS,
            help="Processes side by side on a processor, which share its threads (OMP_NUM_THREADS, or all); networks "
            "trained with other numbers of threads differ by rounding.",
            show_default="as many as are fastest",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train what is missing, run the cells that are missing, print the table.

    A sweep of small networks that takes minutes on a processor is divided among several processes. Sweeps that are
    short, or have large networks, the Inception network, networks made elsewhere or a GPU are not.
    """
    with nullcontext() if dry_run else goes_on():
        load_torch()
        from cfgbench.models.precision import find_compute
        from cfgbench.training.distributed import under_torchrun

        if under_torchrun():
            raise UserError("torchrun is for cfgbench train; run cfgbench sweep as one process")
        compute = find_compute(device, precision, compile)
        if dry_run:
            _dry_run(sweep, results, compute, workers, progress_of(quiet))
        else:
            _sweep(sweep, results, compute, workers=workers, precision=precision, quiet=quiet)


def _sweep(sweep: Path, results: Path, compute: "Compute", *, workers: int | None, precision: str, quiet: bool) -> None:
    from cfgbench.sweep.plan import make_plan, prepare_folder
    from cfgbench.sweep.run import clean_up, try_model

    progress = progress_of(quiet)
    plan = make_plan(sweep, results, progress)
    compute = plan.computed_with(compute)
    try_model(plan, compute.device)
    prepare_folder(plan)  # where nothing is missing too, for ls: the grid may have become smaller
    unwritten = _run_missing(plan, compute, progress, workers=workers, quiet=quiet) if plan.missing else None
    clean_up(plan)
    from cfgbench.report import Report, print_tables

    made = plan.rows()
    with suppress(BrokenPipeError):  # the exit code tells of the cells, whether or not the tables are read
        unwritten = unprinted(print_tables, Report(plan.store.folder, made)) or unwritten
    others = sorted(plan.precisions - {compute.precision})
    if others and precision != "auto" and not plan.missing:
        note(f"made before in {', '.join(others)}: --precision {precision} is for cells that are missing")
    if failed := int((made["status"] != "ok").sum()):  # of whichever process: one that died may not have told
        its, it = ("their rows say", "them") if failed > 1 else ("its row says", "it")
        tell(f"{counted(failed, 'cell')} failed; {its} why, and the same command tries {it} again")
        raise typer.Exit(1)
    if unwritten:
        raise UserError(f"standard output: {reason(unwritten)}")


def _run_missing(
    plan: "Plan", compute: "Compute", progress: Progress, *, workers: int | None, quiet: bool
) -> OSError | None:
    """Runs the cells that are missing, a line for each; returns what keeps the lines from being written."""
    from cfgbench.sweep.results.row import outcome_of, place_of
    from cfgbench.sweep.workers.pool import run_shared

    unwritten: OSError | None = None
    missing, told = len(plan.missing), set()
    if trains := any(not plan.store.checkpoint(network.id).exists() for network in plan.networks()):
        _tell_notes(plan, compute)
    with closing(run_shared(plan, compute, progress=progress, workers=workers)) as rows:
        for row in rows:
            if not told and not trains:  # what cannot be used is told by then
                _tell_notes(plan, compute)
            told.add(row["cell_id"])  # one process may do what another had no memory for
            if not quiet:
                clear(progress)
                said = f"{place_of(row, plan.cells[0].axes)}: {outcome_of(row)}"
                unwritten = unprinted(print, f"{len(told)}/{missing} {printable(said)}") or unwritten
    return unwritten


def _tell_notes(plan: "Plan", compute: "Compute") -> None:
    """While it is still cheap to change one's mind."""
    from cfgbench.sweep.notes import notes_on

    for line in notes_on(plan, compute.precision):
        note(line)


def _dry_run(sweep: Path, results: Path, compute: "Compute", workers: int | None, progress: Progress) -> None:
    from cfgbench.sweep.forecast.estimate import forecast, forecast_without_data
    from cfgbench.sweep.plan import make_plan
    from cfgbench.sweep.workers.division import take_threads

    try:
        plan = make_plan(sweep, results, progress, prepare=False)
        compute, division = plan.computed_with(compute), take_threads(plan, compute.device, workers)
        lines = [*forecast(plan, compute, division.workers), f"worked on by {division}"]
        _tell_notes(plan, compute)
    except UserError as error:
        lines = forecast_without_data(sweep, error)
        say(f"{error}; what can be said without it:", 0)
    print("\n".join(map(printable, lines)))
