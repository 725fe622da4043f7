"""The command line: parse, call, print. What is heavy is imported by the command that needs it."""

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfgbench import __version__
from cfgbench.errors import UserError, counted, printable, reason
from cfgbench.exits import end, goes_on, note, prepare, say, tell, unprinted
from cfgbench.machine import keep_to_processors
from cfgbench.progress import Lines, Progress, clear, silent
from cfgbench.signals import held_back

if TYPE_CHECKING:
    import pandas as pd

    from cfgbench.models.precision import Compute
    from cfgbench.report import Request
    from cfgbench.sweep.plan import Plan

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

SweepFile = Annotated[Path, typer.Argument(help="A sweep file, such as sweeps/digits.yaml.", show_default=False)]
Results = Annotated[Path, typer.Option(help="Where results are kept, a folder for each sweep.")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1 ...; the first GPU if there is one.", show_default=False)
]
Precision = Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16; auto is bf16 where the machine is good at it.")]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Whether networks go through torch.compile; training does on a GPU only.",
        show_default="where it pays",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]

RESULTS = Path("results")
MOST_WORKERS = 256


def _load_torch() -> None:
    """The import that takes longest; Ctrl-C within it would be an error of some library's."""
    with held_back():
        import torch  # noqa: F401


def _version(wanted: bool) -> None:
    if wanted:
        print(f"cfgbench {__version__}")
        raise typer.Exit


@app.callback()
def of_all(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Benchmark of guidance in diffusion models: train, sweep, measure FID and IS, draw the trade-off."""


@app.command()
@goes_on()
def train(
    sweep: Annotated[Path | None, typer.Argument(help="A sweep file.", show_default="the digits sweep")] = None,
    p_uncond: Annotated[
        float | None, typer.Option(help="Only the networks with this p_uncond, and no classifier.", show_default=False)
    ] = None,
    results: Results = RESULTS,
    device: Device = None,
    precision: Precision = "auto",
    compile: Compile = None,
    quiet: Quiet = False,
) -> None:
    """Train the networks and classifiers of a sweep that are not trained yet; goes on where a run was stopped.

    Several GPUs train one network together: torchrun --nproc-per-node 8 -m cfgbench train SWEEP.yaml
    """
    _load_torch()
    from cfgbench.models.precision import find_compute
    from cfgbench.sweep.plan import make_plan, prepare_folder

    plan = make_plan(sweep or embedded_sweep(), results, _progress(quiet))
    networks = plan.to_train(p_uncond)
    from cfgbench.sweep.networks import ensure_trained
    from cfgbench.sweep.workers.division import take_threads
    from cfgbench.training.distributed import own_device, process_group
    from cfgbench.training.state import TrainingFailed

    compute = find_compute(own_device(device), precision, compile)
    with process_group(compute.device) as group:
        if group.world == 1:
            take_threads(plan, compute.device)
        if group.leads:
            prepare_folder(plan)
        failed = 0
        for network in networks:
            try:
                path = ensure_trained(plan, network, compute, progress=_progress(quiet), group=group)
            except TrainingFailed as error:
                failed = say(f"{network.label}: {error}", 1)
                continue
            if group.leads:
                print(printable(path))
    if failed:
        raise typer.Exit(failed)


@app.command()
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
        _load_torch()
        from cfgbench.models.precision import find_compute
        from cfgbench.training.distributed import under_torchrun

        if under_torchrun():
            raise UserError("torchrun is for cfgbench train; run cfgbench sweep as one process")
        compute = find_compute(device, precision, compile)
        if dry_run:
            _dry_run(sweep, results, compute, workers, _progress(quiet))
        else:
            _sweep(sweep, results, compute, workers, precision, quiet)


def _sweep(sweep: Path, results: Path, compute: "Compute", workers: int | None, precision: str, quiet: bool) -> None:
    from cfgbench.sweep.plan import make_plan, prepare_folder
    from cfgbench.sweep.results.row import outcome_of, place_of

    progress = _progress(quiet)
    plan = make_plan(sweep, results, progress)
    compute = plan.computed_with(compute)
    from cfgbench.sweep.run import clean_up

    unwritten: OSError | None = None
    prepare_folder(plan)  # where nothing is missing too, for ls: the grid may have become smaller
    if plan.missing:
        from cfgbench.sweep.workers.pool import run_shared

        missing, told = len(plan.missing), set()
        with closing(run_shared(plan, compute, progress=progress, workers=workers)) as rows:
            for row in rows:
                if not told:  # what cannot be used is told by then
                    _tell_notes(plan, compute)
                told.add(row["cell_id"])  # one process may do what another had no memory for
                if not quiet:
                    clear(progress)
                    said = f"{place_of(row, plan.cells[0].axes)}: {outcome_of(row)}"
                    unwritten = unprinted(print, f"{len(told)}/{missing} {printable(said)}") or unwritten
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


def _tell_notes(plan: "Plan", compute: "Compute") -> None:
    """While it is still cheap to change one's mind."""
    from cfgbench.sweep.notes import notes_on

    for line in notes_on(plan, compute.precision):
        note(line)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Looks for no garbage meanwhile, which takes a tenth of the time of what is over in seconds."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@app.command()
@_uncollected()
def report(
    sweeps: Annotated[
        list[str] | None, typer.Argument(help="Names of sweeps, or sweep files.", show_default="the newest")
    ] = None,
    plot: Annotated[
        list[str] | None,
        typer.Option(
            help="tradeoff, strength, steps or samples; may be repeated.",
            show_default="all that the rows allow, with none of --plot, --table and --claims",
        ),
    ] = None,
    table: Annotated[
        list[str] | None, typer.Option(help="md, csv or tex; may be repeated.", show_default="all, likewise")
    ] = None,
    claims: Annotated[
        bool,
        typer.Option("--claims", help="The verdicts on the paper's claims, printed, and of the report them alone."),
    ] = False,
    classes: Annotated[
        list[str] | None,
        typer.Option(help="A class of --plot samples, by name or id; may be repeated.", show_default="all kept"),
    ] = None,
    w: Annotated[
        list[float] | None,
        typer.Option(
            "--w", help="A panel of --plot samples for this w; may be repeated.", show_default="a sheet of all"
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="paper: its tables and figures alone, or beside the sweeps that are named.", show_default=False
        ),
    ] = None,
    mixed: Annotated[
        bool,
        typer.Option("--mixed", help="Put protocols that no axis tells apart into one table and figure, marked."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write; of several sweeps a folder each in it.", show_default="reports/NAME"),
    ] = None,
    results: Results = RESULTS,
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not print each curve's best FID.")] = False,
) -> None:
    """Draw the figures and write the tables of a sweep; prints the paths of what was written.

    On standard error: each curve's best FID; which protocols are kept apart, and what is missing or left over.
    """

    if reference not in (None, "paper"):
        raise UserError(f"--reference {reference}: not known; there are paper")

    def request() -> "Request":
        from cfgbench.report import ImageChoice, Request

        return Request(plot or (), table or (), claims, ImageChoice(classes or (), w or ()))

    if reference is not None and not sweeps:
        _report_published(request(), out or Path("reports/paper"))
    else:
        _report_sweeps(
            sweeps or [], results, request, published=reference is not None, mixed=mixed, out=out, quiet=quiet
        )


def _report_published(request: "Request", out: Path) -> None:
    from cfgbench.report import judge_paper, print_claims, print_paper, write_paper

    written = write_paper(out, request)
    if request.claims:
        print_claims(judge_paper())
    else:
        print_paper()
    for path in written:
        print(printable(path))


def _report_sweeps(
    sweeps: list[str],
    results: Path,
    request: Callable[[], "Request"],
    *,
    published: bool,
    mixed: bool,
    out: Path | None,
    quiet: bool,
) -> None:
    """`request` is asked for once the rows are being read: what it takes is long to import."""
    from cfgbench.sweep.results.folders import chosen_folders
    from cfgbench.sweep.results.store import Store

    stores = [Store(folder) for folder in chosen_folders(sweeps, results, note, with_rows=True)]
    reading = [store.begin_rows() for store in stores]  # while what follows is imported

    with held_back():
        from cfgbench.report import Report, print_claims

    asked = request()
    unread: BrokenPipeError | None = None

    def write(store: Store, read: Callable[[], "pd.DataFrame"]) -> None:
        nonlocal unread
        folder, rows = store.folder, read()
        if rows.empty:
            raise UserError(f"{folder}: no rows yet; run: cfgbench sweep {folder / 'sweep.yaml'}")
        made = Report(folder, rows, mixed=mixed)
        target = Path("reports") / folder.name if out is None else out / folder.name if len(stores) > 1 else out
        written = made.write(target, asked, published=published)
        try:
            if asked.claims:
                print_claims(made.judged)
            for path in written:
                print(printable(path))
        except BrokenPipeError as error:  # the files of the other sweeps are wanted all the same
            unread = error
        for line in [] if quiet else made.best:
            tell(printable(f"{folder.name}: {line}"))
        for line in made.notes:
            note(f"{folder.name}: {line}")
        for path in store.passed_over:
            note(f"{path}: not a row of results, of a cell that the sweep no longer has; delete it")

    _each(partial(write, *one) for one in zip(stores, reading, strict=True))
    if unread:
        raise unread


@app.command()
def eval(
    samples: Annotated[
        Path, typer.Argument(help="An .npz with arr_0, a folder or a zip of PNG or JPEG.", show_default=False)
    ],
    reference: Annotated[
        str,
        typer.Option(
            help="digits, fashion-mnist, a sweep file, images as SAMPLES, or an .npz with mu and sigma.",
            show_default=False,
        ),
    ],
    features: Annotated[
        str | None,
        typer.Option(
            help="inception, inception-768, -192, -64, digits or fashion-mnist.",
            show_default="that of the data set, the sweep file or the statistics, else inception",
        ),
    ] = None,
    inception_weights: Annotated[
        Path | None,
        typer.Option(
            help="The Inception network's weights.",
            show_default="those of the sweep file, else CFGBENCH_INCEPTION_WEIGHTS, else a download",
        ),
    ] = None,
    feature_precision: Annotated[
        str | None,
        typer.Option(
            help="fp32, or bf16: several times as fast, another protocol; inception only.",
            show_default="that of the sweep file or the statistics, else fp32",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Where to write the result.", show_default=False)] = None,
    save_stats: Annotated[
        Path | None, typer.Option(help="Where to write the samples' statistics (.npz).", show_default=False)
    ] = None,
    save_reference: Annotated[
        Path | None,
        typer.Option(
            help="Where to write the reference's statistics (.npz), to name as --reference.", show_default=False
        ),
    ] = None,
    results: Results = RESULTS,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Measure FID and Inception Score of images made anywhere."""
    _load_torch()
    from dataclasses import asdict
    from json import dumps

    from cfgbench.files import write_atomically
    from cfgbench.models.precision import find_device
    from cfgbench.sweep.external import check_outputs, evaluate
    from cfgbench.sweep.results import statistics_files

    outputs = {"--json": json, "--save-stats": save_stats, "--save-reference": save_reference}
    check_outputs(outputs, {"SAMPLES": samples, "--reference": Path(reference)}, inception_weights)
    found = evaluate(
        samples,
        reference,
        features=features,
        weights=inception_weights,
        precision=feature_precision,
        results=results,
        device=find_device(device),
        progress=_progress(quiet),
    )
    result = found.scores
    try:
        print(printable(str(result)))
        for line in result.notes:
            note(line)
    finally:  # whether or not anybody reads them: hours may have gone into the numbers
        content = f"{dumps(asdict(result), indent=2)}\n".encode()
        writing: dict[Path | None, Callable[[Path], None]] = {
            json: lambda path: write_atomically(path, content),
            save_stats: lambda path: statistics_files.save_reference(path, found.samples, result.features_id),
            save_reference: lambda path: statistics_files.save_reference(path, found.reference, result.features_id),
        }
        _each(partial(write, path.resolve()) for path, write in writing.items() if path is not None)


def _each(works: Iterable[Callable[[], None]]) -> None:
    """Does each of them, whether or not another can be done; what is wrong is said, and is exit code 2."""
    failed = 0
    for work in works:
        try:
            work()
        except UserError as error:
            failed = say(str(error), 2)
    if failed:
        raise typer.Exit(failed)


@app.command()
def gaussians(
    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("reports/gaussians"),
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Draw the paper's Figure 2, three Gaussians under growing guidance, with exact scores; prints the files' paths.

    On standard error: the integrals of the densities, and how far the samples are from them.
    """
    _load_torch()
    from cfgbench.data.gaussians import mixture_of
    from cfgbench.files import make_folder
    from cfgbench.models.precision import find_device
    from cfgbench.report.figure2 import run_experiment, summary, write

    make_folder(out)
    made = run_experiment(mixture_of(), device=find_device(device), progress=_progress(quiet))
    for path in write(made, out):
        print(printable(path))
    for line in [] if quiet else summary(made):
        tell(printable(line))


@app.command()
def ls(
    sweep: Annotated[str | None, typer.Argument(help="A sweep's name or file.", show_default="all")] = None,
    results: Results = RESULTS,
) -> None:
    """List the sweeps, or a sweep's cells: what is done, failed, missing."""
    from cfgbench.sweep.results.folders import chosen_folders
    from cfgbench.sweep.results.listing import cells_of, overview

    lines = cells_of(chosen_folders([sweep], results, note)[0]) if sweep else overview(results)
    print("\n".join(map(printable, lines)))


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


def embedded_sweep() -> Path:
    """The digits sweep: in the package where it is installed, in sweeps/ where the package is a checkout."""
    package = Path(__file__).parent
    installed = package / "sweeps" / "digits.yaml"
    return installed if installed.exists() else package.parent / "sweeps" / "digits.yaml"


def main() -> None:
    """The program; its exit codes are those of `exits.end`."""
    keep_to_processors()
    prepare()
    end(lambda: app(standalone_mode=False))


def _progress(quiet: bool) -> Progress:
    return silent if quiet else Lines()
