"""cfgbench train."""

from pathlib import Path
from typing import Annotated

import typer

from cfgbench.commands.options import RESULTS, Compile, Device, Precision, Quiet, Results
from cfgbench.commands.starting import load_torch, progress_of
from cfgbench.errors import printable
from cfgbench.exits import goes_on, note, say


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
    load_torch()
    from cfgbench.models.precision import find_compute
    from cfgbench.sweep.plan import make_plan, prepare_folder
    from cfgbench.training.distributed import own_device, process_group

    compute = find_compute(own_device(device), precision, compile)  # before data is prepared, which may take hours
    plan = make_plan(sweep or _embedded_sweep(), results, progress_of(quiet))
    networks = plan.to_train(p_uncond)
    from cfgbench.sweep.networks import ensure_trained
    from cfgbench.sweep.notes import notes_on_training
    from cfgbench.sweep.run import clean_up
    from cfgbench.sweep.workers.division import take_threads
    from cfgbench.training.state import TrainingFailed

    with process_group(compute.device) as group:
        if group.world == 1:
            take_threads(plan, compute.device)
        if group.leads:
            prepare_folder(plan)
            for line in notes_on_training(plan):
                note(line)
        failed = 0
        for network in networks:
            try:
                path = ensure_trained(plan, network, compute, progress=progress_of(quiet), group=group)
            except TrainingFailed as error:
                failed = say(f"{network.label}: {error}", 1) if group.leads else 1
                continue
            if group.leads:
                print(printable(path))
        if group.leads:
            clean_up(plan)
    if failed:
        raise typer.Exit(failed)


def _embedded_sweep() -> Path:
    """The digits sweep: in the package where it is installed, in sweeps/ where the package is a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "sweeps" / "digits.yaml"
    return installed if installed.exists() else package.parent / "sweeps" / "digits.yaml"
