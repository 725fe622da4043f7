"""Makes the feature extractor of a name (the Inception network, a classifier that is shipped, or one that is trained
here) and puts images through it."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

from cfgbench.data.image_batches import ImageBatches
from cfgbench.errors import UserError
from cfgbench.evaluation.statistics import Moments, RunningMoments
from cfgbench.files import file_digest
from cfgbench.models import feature_classifier
from cfgbench.models.extractors import (
    ClassifierFeatures,
    Coordinates,
    Extractor,
    Inception,
    inception_id,
    inception_weights,
    layer_of,
)
from cfgbench.models.feature_classifier import FeatureClassifier
from cfgbench.models.gaussians import clean_posterior
from cfgbench.models.meta_device import shapes_only
from cfgbench.models.precision import Compute
from cfgbench.progress import Progress
from cfgbench.spec import INCEPTION, PACKAGED
from cfgbench.sweep.fits import against_images
from cfgbench.sweep.plan import Plan
from cfgbench.sweep.results.shards import SECONDS
from cfgbench.sweep.results.statistics_files import kept_elsewhere, reference_id
from cfgbench.training.feature_classifier import classifier_of, train_classifier

INCEPTION_LOGITS = 1008
GIVES_LOGITS = "inception"
"""Features beside which logits cost hardly anything: these come whether or not the Inception Score is asked for, which
it may be later where features are kept."""


def packaged_extractor(
    name: str,
    weights: Path | None,
    device: torch.device,
    *,
    crop: bool = True,
    precision: str = "fp32",
    ahead: int = 0,
    compiled: bool | None = None,
) -> Extractor:
    """The extractor of a name that needs no training: the published network, or a classifier that is shipped.

    `precision`, fp32 or bf16, is the network's; `ahead` says how many images are to come, which decides whether it is
    compiled where `compiled` is None. Raises UserError.
    """
    if name in INCEPTION:
        return Inception(
            layer_of(name),
            inception_weights(weights),
            device,
            logits=name == GIVES_LOGITS,
            fast=precision == "bf16",
            compiled=compiled,
            ahead=ahead,
        )
    if name not in PACKAGED:
        known = ", ".join((*INCEPTION, *PACKAGED))
        raise UserError(f"--features {name}: should be one of {known}")
    return _classifier(name, feature_classifier.packaged(name), device, crop=crop)


def make_extractor(plan: Plan, compute: Compute, progress: Progress) -> Extractor:
    """The sweep's feature extractor; a classifier of the data set's own is trained once and kept with the results."""
    name, device = plan.spec.features, compute.device
    if name in (*INCEPTION, *PACKAGED):
        evaluation = plan.spec.evaluation
        ahead = sum(cell.sampling.samples for cell in plan.missing)
        ahead += len(plan.images.images) if measures_data(plan) else 0
        how = {"precision": evaluation.precision, "ahead": ahead, "compiled": compute.compiled}
        return packaged_extractor(name, evaluation.inception_weights, device, **how)
    mixture = plan.images.mixture
    if name == "gaussians":
        return Coordinates(clean_posterior(mixture, device), f"{name}-{mixture.digest[:8]}", device=device)
    path = plan.feature_classifier
    assert path is not None
    begun_in = path.with_suffix(".partial")
    if not path.exists():
        if (other := _trained_elsewhere(plan)) is not None:
            plan.store.take_over(path, other)
        else:
            network = train_classifier(plan.images, device=device, begun_in=begun_in, progress=progress)
            feature_classifier.save(path, network)
    begun_in.unlink(missing_ok=True)
    return _classifier(name, path, device)


def _classifier(name: str, path: Path, device: torch.device, *, crop: bool = True) -> Extractor:
    network = feature_classifier.load(path)
    channels = network.arguments["channels"]
    return ClassifierFeatures(
        network, _id_of(name, path), side=network.side, channels=channels, device=device, crop=crop
    )


def _id_of(name: str, path: Path) -> str:
    """The id of the classifier in this file."""
    return f"{name}-{file_digest(path)[:8]}"


def measures_data(plan: Plan) -> bool:
    """Whether the features of the training images are still to be taken: they are what is measured against, and neither
    this sweep nor another in the results folder has their statistics."""
    if not against_images(plan.spec, plan.images):
        return False
    if (features_id := _known_id(plan)) is None:
        return True
    key = reference_id(plan.images.content, features_id)
    return not plan.store.reference(key).exists() and kept_elsewhere(plan.store, key) is None


def _known_id(plan: Plan) -> str | None:
    """The id of the sweep's extractor, before that is made; None where it is to be trained first."""
    name, evaluation = plan.spec.features, plan.spec.evaluation
    if name in INCEPTION:
        weights = inception_weights(evaluation.inception_weights)
        return inception_id(layer_of(name), weights, fast=evaluation.precision == "bf16")
    if name in PACKAGED:
        return _id_of(name, feature_classifier.packaged(name))
    path = _trained(plan)
    return None if path is None else _id_of(name, path)


def widths(plan: Plan) -> tuple[int, int]:
    """How many features an image has, and how many logits; nothing is trained or downloaded for it."""
    name = plan.spec.features
    if name in INCEPTION:
        return layer_of(name), INCEPTION_LOGITS if name == GIVES_LOGITS else 0
    if name == "gaussians":
        return int(plan.images.images[0].size), plan.images.num_classes
    packaged = feature_classifier.packaged(name) if name in PACKAGED else None
    network = untrained_classifier(plan) if packaged is None else feature_classifier.load(packaged)
    return network.head.in_features, network.head.out_features


def is_trained(plan: Plan) -> bool:
    """Whether the classifier that is trained on the data set to measure it is there, or another sweep has it."""
    return _trained(plan) is not None


def _trained(plan: Plan) -> Path | None:
    own = plan.feature_classifier
    return own if own is None or own.exists() else _trained_elsewhere(plan)


def _trained_elsewhere(plan: Plan) -> Path | None:
    return plan.store.elsewhere(plan.feature_classifier, feature_classifier.load)


def untrained_classifier(plan: Plan) -> FeatureClassifier:
    """The shapes of the classifier that is trained on the data set to measure it."""
    with shapes_only():
        return classifier_of(plan.images)


@contextmanager
def measuring(what: object, features: str) -> Iterator[None]:
    """Raises UserError, which begins with `what`, where images cannot be measured (ValueError)."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{what}: {error}{_unreached(features)}") from None


def _unreached(features: str) -> str:
    """The way out where numbers are not finite: weights that end before the last layers have only the earlier ones."""
    return "; if these weights end before the last layers, take inception-768 and FID alone" * (features == "inception")


def moments_of(
    images: ImageBatches,
    extractor: Extractor,
    progress: Progress,
    *,
    begun: Moments | None = None,
    keep: Callable[[Moments], None] | None = None,
) -> Moments:
    """The statistics of the features of all these images, and of those that were `begun` with. `keep` is given those
    so far whenever another 30 s of work are at stake."""
    running, saved, before = RunningMoments(begun), time.monotonic(), begun.n if begun else 0
    task, total = f"reference features of {images.name}", before + images.count
    for first, batch in numbered(images, extractor):
        progress(task, before + first, total, extractor.note)
        running.add(extractor(batch).pooled)
        if keep is not None and time.monotonic() - saved > SECONDS:
            keep(running.moments)
            saved = time.monotonic()
    return running.moments


def numbered(images: ImageBatches, extractor: Extractor) -> Iterator[tuple[int, torch.Tensor]]:
    """(index of its first image, batch), in batches that suit the extractor; the next one is read meanwhile."""
    first, batches = 0, images.batches(extractor.at_once)
    with ThreadPoolExecutor(1, "read") as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield first, torch.from_numpy(batch)
            first += len(batch)
