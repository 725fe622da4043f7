"""What a sweep will cost, for --dry-run: seconds from steps measured on this machine, and bytes on the disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from cfgbench.data import Images
from cfgbench.data.imagenet import CLASSES, SIDES
from cfgbench.errors import Unprepared, UserError, counted, reason
from cfgbench.models.checkpoint import NETWORKS
from cfgbench.models.compile_choice import COMPILE_COSTS
from cfgbench.models.extractors import OFFICIAL_FILE, inception_weights
from cfgbench.models.fast import for_sampling
from cfgbench.models.pace import pace_of, pace_of_passes
from cfgbench.models.precision import Compute, device_name
from cfgbench.spec import INCEPTION, Cell, Model, Network, Pretrained, load_sweep, make_cells, networks_of
from cfgbench.sweep.extractor import is_trained, measures_data
from cfgbench.sweep.forecast import disk, flops
from cfgbench.sweep.networks import trained_elsewhere
from cfgbench.sweep.plan import Plan
from cfgbench.training.facts import ImageFacts, image_of
from cfgbench.training.feature_classifier import BATCH, seconds_of_training, steps_of
from cfgbench.training.feed import Feed
from cfgbench.training.objectives import OBJECTIVES
from cfgbench.training.state import begin
from cfgbench.training.step import Step

SAMPLED, TRAINED = 437e12, 368e12
"""FLOP/s of the GPU that is spoken of: what adm-64 reached on an H200, compiled and in bf16, sampling 256 images at a
time and training 128 (tests/benchmarks/RESULTS.md)."""
GPUS = 1, 8, 64
LARGE = 50e9
"""Operations of a network pass from which on a GPU does them as fast as these networks'."""
AT_ONCE = 512
"""Images that go through the network at a time, at most, when a pass is measured."""


@dataclass(frozen=True)
class Costs:
    """Seconds of one image: `pass_through` a network, and of a step of `training` each kind; of training the
    `feature_classifier`, where it is not there; `size` of each kind in bytes."""

    pass_through: float
    training: Mapping[str, float]
    feature_classifier: float
    size: Mapping[str, int]

    def seconds(self, cell: Cell) -> float:
        """Of sampling a cell, a classifier's passes taken for as long as the denoiser's; features and metrics come on
        top."""
        return cell.total_nfe * self.pass_through

    def training_seconds(self, network: Network) -> float:
        """Of training the network from the beginning."""
        return network.training.steps * network.training.batch_size * self.training[network.kind]


def forecast(plan: Plan, compute: Compute, workers: int = 1) -> list[str]:
    """A line a cell, a line a network, and what is missing in all, for a person to read before it begins.

    Steps are timed with the threads that this process has, which are to be those of one that works on the sweep; so
    many `workers` share the whole.
    """
    missing = plan.missing
    there = {network.id for network in plan.networks() if _is_there(plan, network, compute)}
    untrained = [network for network in networks_of(missing) if network.id not in there]
    costs = costs_of(plan, compute, untrained, workers)
    lines = [_cell_line(plan, cell, costs) for cell in plan.cells]
    for network in plan.networks():
        state = "to train" if network in untrained else "trained" if network.id in there else "not needed"
        lines.append(_network_line(network, state, costs))
    if plan.feature_classifier is not None:
        lines.append(_classifier_line(plan, costs))
    if plan.spec.features in INCEPTION and inception_weights(plan.spec.evaluation.inception_weights) is None:
        lines.append(f"Inception weights: not on this machine; {OFFICIAL_FILE} will be downloaded")
    calls = sum(cell.total_nfe for cell in missing)
    lines.append(f"{counted(len(plan.cells), 'cell')}, {len(missing)} to run, {calls:,} network passes")
    sampling, training = _ahead(costs, missing, untrained, compute)
    sampling, training = sampling * _part(len(missing), workers), training * _part(len(untrained), workers)
    copied = [one for one in networks_of(missing) if one.id in there and not plan.store.checkpoint(one.id).exists()]
    kept = disk.kept(plan, missing, [*untrained, *copied], costs.size)
    megabytes = (kept + disk.passing(plan, missing, untrained, costs.size)) / 1e6
    made = f"from steps measured on {device_name(compute.device)} in {compute.precision}"
    work = f"sampling {_duration(sampling)}, training {_duration(training + costs.feature_classifier)}"
    lines.append(f"{work}, about {megabytes:,.0f} MB on the disk; {made}{_on_top(plan)}")
    ours = [cell for cell in missing if cell.denoiser is not None]  # of a network made elsewhere nothing is known
    return [*lines, *([_operations(ours, untrained, image_of(plan.images))] if ours else [])]


def _on_top(plan: Plan) -> str:
    """What the seconds leave out."""
    images = sum(cell.sampling.samples for cell in plan.missing)
    of_data = f", and of the data set's {len(plan.images.images):,}" if measures_data(plan) else ""
    return f"; on top come {plan.spec.features} features of {images:,} images{of_data}" if images else ""


def _ahead(
    costs: Costs, missing: Sequence[Cell], untrained: Sequence[Network], compute: Compute
) -> tuple[float, float]:
    """Seconds of sampling these cells and of training these networks, ours compiled on a GPU where that pays and may
    be."""
    sampling: dict[str, float] = {}
    for cell in missing:
        sampling[cell.checkpoint_id] = sampling.get(cell.checkpoint_id, 0.0) + costs.seconds(cell)
    training = [costs.training_seconds(network) for network in untrained]
    refused = compute.compiled is False
    if compute.device.type == "cuda" and not refused and all(isinstance(cell.model, Model) for cell in missing):
        cost = COMPILE_COSTS["cuda"]
        sampling = {network: cost.expected(seconds) for network, seconds in sampling.items()}
        training = [cost.expected(seconds) for seconds in training]
    return sum(sampling.values()), sum(training)


def _part(works: int, workers: int) -> float:
    """The part of all works' time that so many processes take, each with one work at a time."""
    return -(-works // workers) / max(1, works)


def forecast_without_data(path: Path, error: UserError) -> list[str]:
    """What can be said before the data is there, or prepared: network passes, and of our networks operations, where the
    data set's images are all of one known kind. Raises the error again where that is not what is wrong, or not known.
    """
    spec = load_sweep(path)
    there = spec.dataset.path is not None and spec.dataset.path.exists() and not isinstance(error, Unprepared)
    if there or spec.dataset.name not in SIDES:
        raise error
    image = ImageFacts(image_channels=3, side=SIDES[spec.dataset.name], num_classes=CLASSES)
    cells = make_cells(spec, data="", features="", weights="")
    calls = sum(cell.total_nfe for cell in cells)
    passes = f"{counted(len(cells), 'cell')}, {calls:,} network passes"
    return [passes, *([_operations(cells, networks_of(cells), image)] if isinstance(spec.model, Model) else [])]


def _operations(cells: list[Cell], untrained: list[Network], image: ImageFacts) -> str:
    """Operations, and how long those of large networks take on 1, 8 and 64 GPUs."""
    needed = flops.of_sweep(cells, untrained, image)
    said = (
        f"counted: {needed.one_pass / 1e9:,.4g} GFLOP a network pass; sampling {needed.sampling:.3g} FLOP, training "
        f"{needed.training:.3g} FLOP"
    )
    if needed.one_pass < LARGE:
        return said
    seconds = needed.sampling / SAMPLED + needed.training / TRAINED
    where = ", ".join(f"{_duration(seconds / gpus)} on {gpus}" for gpus in GPUS)
    rates = f"sample at {SAMPLED / 1e12:.0f} and train at {TRAINED / 1e12:.0f} TFLOP/s (an H200, measured)"
    return f"{said}; on GPUs that {rates}: {where}"


def _is_there(plan: Plan, network: Network, compute: Compute) -> bool:
    return plan.store.checkpoint(network.id).exists() or trained_elsewhere(plan, network, compute) is not None


def _cell_line(plan: Plan, cell: Cell, costs: Costs) -> str:
    calls = f"{cell.nfe} network passes an image, {cell.total_nfe:,} in all"
    state = "done" if cell.id in plan.done else "failed" if cell.id in plan.seen else "missing"
    ahead = "" if state == "done" else f", {_duration(costs.seconds(cell))}"
    return f"{cell.id}  {state:7}  {cell.label}: {calls}{ahead}"


def _network_line(network: Network, state: str, costs: Costs) -> str:
    work = f"{network.label}, {network.training.steps:,} steps of {network.training.batch_size}"
    ahead = f", {_duration(costs.training_seconds(network))}" if state == "to train" else ""
    return f"network {network.id}  {state}: {work}{ahead}"


def _classifier_line(plan: Plan, costs: Costs) -> str:
    state = "trained" if is_trained(plan) else "to train" if plan.missing else "not needed"
    work = f"measures the images, {steps_of(plan.images):,} steps of {BATCH}"
    ahead = f", {_duration(costs.feature_classifier)}" if state == "to train" else ""
    return f"classifier of {plan.images.name}  {state}: {work}{ahead}"


def _duration(seconds: float) -> str:
    """How long, in the unit that a person would take."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.{0 if seconds > 10 * length else 1}f} {unit}"
    return f"{seconds:.0f} s"


def costs_of(plan: Plan, compute: Compute, untrained: Sequence[Network], workers: int = 1) -> Costs:
    """Times the sweep's own network: a call, and a training step of each kind that is untrained; and the training of
    the classifier that measures, which has the threads of all `workers`."""
    try:
        return _measured(plan, compute, untrained, workers)
    except (RuntimeError, MemoryError) as error:  # what torch raises where memory ends
        raise UserError(
            f"model: its cost cannot be measured on {compute.device} ({reason(error)}); take a smaller one"
        ) from None


def _measured(plan: Plan, compute: Compute, untrained: Sequence[Network], workers: int) -> Costs:
    if not plan.missing:
        return Costs(0.0, {}, 0.0, {})
    cell, images = plan.cells[0], plan.images
    training, size = {}, {}
    denoiser = None
    if isinstance(cell.model, Pretrained):
        denoiser = plan.pretrained(cell, compute.device)
    for one in {network.kind: network for network in plan.networks()}.values():
        network = NETWORKS[one.kind](one.model, **image_of(images))
        size[one.kind] = sum(4 * parameter.numel() for parameter in network.parameters())
        if any(other.kind == one.kind for other in untrained):
            training[one.kind] = _training(network, one, images, compute)
        denoiser = network.eval() if one.kind == "denoiser" else denoiser
    denoiser = for_sampling(denoiser, compute.precision)
    passes = pace_of_passes(denoiser, images.images.shape[1:], AT_ONCE, compute)
    measures = plan.feature_classifier is not None and not is_trained(plan)
    feature_classifier = _of_feature_classifier(images, compute, workers) if measures else 0.0
    return Costs(passes.seconds, training, feature_classifier, size)


def _of_feature_classifier(images: Images, compute: Compute, workers: int) -> float:
    """Seconds of its training, before the workers have anything to do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads * workers)
    try:
        return seconds_of_training(images, compute.device)
    finally:
        torch.set_num_threads(threads)


def _training(network: nn.Module, one: Network, images: Images, compute: Compute) -> float:
    """Seconds an image of a training step."""
    training, device = one.training, compute.device
    part = training.micro_batch_size or training.batch_size
    state = begin(network, training.model_copy(update={"steps": 1}), device, compute.precision)

    steps: dict[int, Step] = {}

    def work(b: int) -> None:
        if b not in steps:
            while steps:
                steps.popitem()[1].close()
            feed = Feed(images, training.model_copy(update={"batch_size": b}), range(b), device)
            steps[b] = Step(state, feed, compute.precision, objective=OBJECTIVES[one.kind])
        state.step = 0
        steps[b]()

    try:
        return pace_of(work, part, device).seconds
    finally:
        for step in steps.values():
            step.close()
