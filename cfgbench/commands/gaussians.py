"""cfgbench gaussians."""

from pathlib import Path
from typing import Annotated

import typer

from cfgbench.commands.options import Device, Pdf, Quiet
from cfgbench.commands.starting import load_torch, progress_of
from cfgbench.errors import printable
from cfgbench.exits import tell


def gaussians(
    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("reports/gaussians"),
    pdf: Pdf = False,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Draw the paper's Figure 2, three Gaussians under growing guidance, with exact scores; prints the files' paths.

    On standard error: the integrals of the densities, and how far the samples are from them.
    """
    load_torch()
    from cfgbench.data.gaussians import mixture_of
    from cfgbench.files import make_folder
    from cfgbench.models.precision import find_device
    from cfgbench.report.figure2 import run_experiment, summary, write

    make_folder(out)
    made = run_experiment(mixture_of(), device=find_device(device), progress=progress_of(quiet))
    for path in write(made, out, with_pdf=pdf):
        print(printable(path))
    for line in [] if quiet else summary(made):
        tell(printable(line))
