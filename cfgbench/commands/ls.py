"""cfgbench ls."""

from typing import Annotated

import typer

from cfgbench.commands.options import RESULTS, Results
from cfgbench.errors import printable
from cfgbench.exits import note


def ls(
    sweep: Annotated[str | None, typer.Argument(help="A sweep's name, folder or file.", show_default="all")] = None,
    results: Results = RESULTS,
) -> None:
    """List the sweeps, or a sweep's cells: what is done, failed, missing."""
    from cfgbench.sweep.results.folders import chosen_folders
    from cfgbench.sweep.results.listing import cells_of, overview

    lines = cells_of(chosen_folders([sweep], results, note)[0]) if sweep else overview(results)
    print("\n".join(map(printable, lines)))
