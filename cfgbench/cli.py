"""The command line: its commands, and how it begins and ends."""

import re
import sys
from itertools import pairwise
from typing import Annotated

import typer

from cfgbench import __version__
from cfgbench.commands.eval import eval
from cfgbench.commands.gaussians import gaussians
from cfgbench.commands.ls import ls
from cfgbench.commands.report import report
from cfgbench.commands.sweep import sweep
from cfgbench.commands.train import train
from cfgbench.errors import UserError
from cfgbench.exits import end, prepare
from cfgbench.machine import keep_to_processors

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (train, sweep, report, eval, gaussians, ls):
    app.command()(command)


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


def main() -> None:
    """The program; its exit codes are those of `exits.end`."""
    keep_to_processors()
    prepare()
    end(_run)


def _run() -> int | None:
    """Raises UserError for an empty word, as of a variable that is not set: as a path it would be the folder where the
    user stands."""
    for before, word in pairwise(["cfgbench", *sys.argv[1:]]):
        if not word or re.fullmatch(r"--[\w-]+=", word):
            raise UserError(f"{word or before}: followed by nothing; write what it should be, or leave it out")
    return app(standalone_mode=False)
