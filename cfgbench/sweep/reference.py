"""What images are measured against."""

from pathlib import Path
from typing import NamedTuple

import torch

from cfgbench.data.image_batches import of_images
from cfgbench.errors import UserError
from cfgbench.evaluation.statistics import Moments
from cfgbench.files import file_digest, identity
from cfgbench.models.extractors import Extractor
from cfgbench.progress import Progress
from cfgbench.sweep.extractor import measuring, moments_of
from cfgbench.sweep.fits import against_images
from cfgbench.sweep.plan import Plan
from cfgbench.sweep.results.statistics_files import (
    FEATURES,
    Statistics,
    kept_elsewhere,
    load_moments,
    load_statistics,
    reference_id,
    save_moments,
)
from cfgbench.sweep.results.store import Store


class Reference(NamedTuple):
    """Statistics that images are measured against: `id` names the numbers, `name` says in words whose they are, and
    `images` of how many, where that is known. There are no `moments` where no FID is asked for: all images of a data
    set would be measured for nothing."""

    id: str
    name: str
    moments: Moments | None
    images: int | None = None


def of_file(statistics: Statistics, features_id: str) -> Reference:
    """The statistics of a file (see `Statistics.made_with`), named by what it says of whose they are, else by its
    content: what it is called decides nothing. Raises UserError."""
    moments = statistics.made_with(features_id)
    key = identity([file_digest(statistics.path), features_id])
    return Reference(*(statistics.source or (key, f"statistics {key[:8]}")), moments, statistics.images)


def of_images_with(content: str, name: str, count: int, features_id: str, moments: Moments | None) -> Reference:
    """The statistics of so many images, whose content has this hash."""
    return Reference(reference_id(content, features_id), f"{name}, {count} images", moments, count)


def kept_in(results: Path, content: str, name: str, features_id: str) -> Reference | None:
    """The statistics of images whose content has this hash, where a sweep in the results folder has them."""
    store, key = Store(results / name), reference_id(content, features_id)
    path = kept_elsewhere(store, key)
    if path is None:
        return None
    moments = load_moments(path, key)
    return of_images_with(content, name, moments.n, features_id, moments)


def reference_of(plan: Plan, extractor: Extractor, progress: Progress) -> Reference:
    """The sweep's reference: the file that is named, else the law of the data where it is known, else the training
    images, whose statistics are computed once and kept with the results. Raises UserError."""
    file, mixture = plan.spec.evaluation.reference, plan.images.mixture
    if file is not None:
        return of_file(load_statistics(file, key=FEATURES), extractor.id)
    if mixture is not None:
        mean, covariance = torch.from_numpy(mixture.mean), torch.from_numpy(mixture.covariance)
        law = f"{plan.images.name}, exact mean and covariance"
        return Reference(reference_id(mixture.digest, extractor.id), law, Moments.from_covariance(mean, covariance))
    whose = plan.images.content, plan.images.name, len(plan.images.images), extractor.id
    if not against_images(plan.spec, plan.images):
        return of_images_with(*whose, None)
    key = reference_id(plan.images.content, extractor.id)
    path = plan.store.reference(key)
    begun_in, moments = path.with_suffix(".partial"), _kept(path, key)
    if moments is None:
        if (other := kept_elsewhere(plan.store, key)) is not None:
            plan.store.take_over(path, other)
            moments = load_moments(path, key)
        else:
            moments = _measured(plan, extractor, progress, begun_in, key)
            save_moments(path, moments, key)
    begun_in.unlink(missing_ok=True)
    return of_images_with(*whose, moments)


def _kept(path: Path, key: str) -> Moments | None:
    """The statistics in a file; None where it is not there, damaged, or another's: they are made again."""
    try:
        return load_moments(path, key)
    except UserError:
        return None


def _measured(plan: Plan, extractor: Extractor, progress: Progress, begun_in: Path, key: str) -> Moments:
    """The statistics of the training images, from where a process that was stopped has kept them in a file."""
    begun = _kept(begun_in, key)
    if begun is not None and begun.n > len(plan.images.images):
        begun = None
    rest = of_images(plan.images, begun.n if begun else 0)

    def keep(moments: Moments) -> None:
        plan.store.check()
        save_moments(begun_in, moments, key)

    features = plan.spec.features
    with measuring(f"evaluation.features = {features}", features):
        return moments_of(rest, extractor, progress, begun=begun, keep=keep)
