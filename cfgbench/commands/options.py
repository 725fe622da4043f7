"""What several commands are given, in the same words."""

from pathlib import Path
from typing import Annotated

import typer

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
Pdf = Annotated[bool, typer.Option("--pdf", help="Figures as PDF too, for LaTeX.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]

RESULTS = Path("results")
