"""What a sweep will take on the disk."""

from collections.abc import Mapping, Sequence

from cfgbench.spec import Cell, Network
from cfgbench.sweep.extractor import is_trained, measures_data, untrained_classifier, widths
from cfgbench.sweep.plan import Plan

ROW_BYTES = 14_000
"""Of a cell: its row, what is noted of it in asked.json, and what its files leave of their last blocks."""
PULL_BYTES = 10
"""How far an image pulls a metric: a float64, and its place in a parquet file's dictionary."""
LOSS_BYTES = 16
"""The line of a step in a training's history of losses."""
RESUMABLE = 4
"""Weights, their average and Adam's two moments: what a network in training takes, in networks."""


def kept(plan: Plan, cells: Sequence[Cell], networks: Sequence[Network], sizes: Mapping[str, int]) -> int:
    """Bytes of these cells, of these networks (`sizes` by kind), and of what all cells share, when all is done."""
    pixels, images = int(plan.images.images[0].size), sum(cell.sampling.samples for cell in cells)
    total = sum(ROW_BYTES + plan.sheet_of(cell).size * pixels for cell in cells)
    total += PULL_BYTES * len(plan.spec.evaluation.metrics) * images
    total += _features(plan) * images if plan.spec.evaluation.keep_features else 0
    total += sum(sizes[network.kind] + LOSS_BYTES * network.training.steps for network in networks)
    return total + (_shared(plan) if cells else 0)


def passing(plan: Plan, cells: Sequence[Cell], networks: Sequence[Network], sizes: Mapping[str, int]) -> int:
    """Bytes that are there for a time only: the features of a cell in the making, and the one network in training."""
    largest = max((cell.sampling.samples for cell in cells), default=0)
    features = 0 if plan.spec.evaluation.keep_features else _features(plan) * largest
    return features + RESUMABLE * max((sizes[network.kind] for network in networks), default=0)


def _shared(plan: Plan) -> int:
    """Bytes of the training images' statistics, and of the classifier that measures, where they are not there yet."""
    dimensions, _ = widths(plan)
    statistics = 8 * dimensions * (dimensions + 1) if measures_data(plan) else 0
    if plan.feature_classifier is None or is_trained(plan):
        return statistics
    return statistics + sum(4 * tensor.numel() for tensor in untrained_classifier(plan).state_dict().values())


def _features(plan: Plan) -> int:
    """Bytes of an image's features and logits: float32, but float64 of points."""
    return sum(widths(plan)) * (8 if plan.spec.features == "gaussians" else 4)
