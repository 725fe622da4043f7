"""cfgbench eval."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cfgbench.commands.options import RESULTS, Device, Quiet, Results
from cfgbench.commands.starting import load_torch, progress_of
from cfgbench.errors import printable
from cfgbench.exits import each, note


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
    load_torch()
    from dataclasses import asdict
    from json import dumps

    from cfgbench.files import write_atomically
    from cfgbench.models.precision import find_device
    from cfgbench.sweep.external import evaluate
    from cfgbench.sweep.outputs import check_outputs
    from cfgbench.sweep.results import statistics_files

    outputs = {"--json": json, "--save-stats": save_stats, "--save-reference": save_reference}
    check_outputs(outputs, samples, reference, inception_weights)
    found = evaluate(
        samples,
        reference,
        features=features,
        weights=inception_weights,
        precision=feature_precision,
        results=results,
        device=find_device(device),
        progress=progress_of(quiet),
    )
    result = found.scores
    try:
        print(printable(str(result)))
        for line in result.notes:
            note(line)
    finally:  # whether or not anybody reads them: hours may have gone into the numbers
        whose = statistics_files.Source(result.reference_id, result.reference)
        content = f"{dumps(asdict(result), indent=2)}\n".encode()
        writing: dict[Path | None, Callable[[Path], None]] = {
            json: lambda path: write_atomically(path, content),
            save_stats: lambda path: statistics_files.save_statistics(path, found.samples, result.features_id),
            save_reference: lambda path: statistics_files.save_statistics(
                path, found.reference, result.features_id, whose
            ),
        }
        each(partial(write, path.resolve()) for path, write in writing.items() if path is not None)
