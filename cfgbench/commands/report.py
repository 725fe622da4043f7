"""cfgbench report."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfgbench.commands.options import RESULTS, Pdf, Results
from cfgbench.errors import UserError, printable
from cfgbench.exits import each, note, tell
from cfgbench.signals import held_back
from cfgbench.wording import run_again

if TYPE_CHECKING:
    import pandas as pd

    from cfgbench.report import Request


@contextmanager
def _uncollected() -> Iterator[None]:
    """Looks for no garbage meanwhile, which takes a tenth of the time of what is over in seconds."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@_uncollected()
def report(
    sweeps: Annotated[
        list[str] | None, typer.Argument(help="Names or folders of sweeps, or sweep files.", show_default="the newest")
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
    pdf: Pdf = False,
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

    if pdf and (table or claims) and not plot:
        raise UserError("--pdf is of figures: add --plot, or leave it out")

    def request() -> "Request":
        from cfgbench.report import ImageChoice, Request

        return Request(plot or (), table or (), claims, ImageChoice(classes or (), w or ()), pdf)

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
            raise UserError(f"{folder}: no rows yet; run: {run_again(folder)}")
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

    each(partial(write, *one) for one in zip(stores, reading, strict=True))
    if unread:
        raise unread
