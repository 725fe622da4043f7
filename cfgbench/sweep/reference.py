"""What images are measured against."""

from pathlib import Path
from typing import NamedTuple

import torch

from cfgbench.data.image_batches import of_images
from cfgbench.errors import UserError
from cfgbench.evaluation.statistics import Moments
from cfgbench.files import file_digest, identity, remove_parts
from cfgbench.models.extractors import Extractor
from cfgbench.progress import Progress
from cfgbench.sweep.extractor import moments_of, unreached
from cfgbench.sweep.plan import Plan
from cfgbench.sweep.results.statistics_files import load_moments, load_reference, save_moments


class Reference(NamedTuple):
    """Statistics that images are measured against: `id` names the numbers, `name` says in words whose they are."""

    id: str
    name: str
    moments: Moments


def of_file(path: Path, features_id: str, *, key: str) -> Reference:
    """The statistics in a file (see `load_reference`). Raises UserError."""
    moments = load_reference(path, features_id, key=key)
    return Reference(identity([file_digest(path), features_id]), f"statistics {path.name}", moments)


def of_images_with(content: str, name: str, features_id: str, moments: Moments) -> Reference:
    """The statistics of images whose content has this hash."""
    return Reference(_id(content, features_id), f"{name}, {moments.n} images", moments)


def _id(content: str, features_id: str) -> str:
    return identity([content, features_id])


def reference_of(plan: Plan, extractor: Extractor, progress: Progress) -> Reference:
    """The sweep's reference: the file that is named, else the law of the data where it is known, else the training
    images, whose statistics are computed once and kept with the results. Raises UserError."""
    file, mixture = plan.spec.evaluation.reference, plan.images.mixture
    if file is not None:
        return of_file(file, extractor.id, key="evaluation.features")
    if mixture is not None:
        mean, covariance = torch.from_numpy(mixture.mean), torch.from_numpy(mixture.covariance)
        law = f"{plan.images.name}, exact mean and covariance"
        return Reference(_id(mixture.digest, extractor.id), law, Moments.from_covariance(mean, covariance))
    reference_id = _id(plan.images.content, extractor.id)
    path = plan.store.reference(reference_id)
    try:
        moments = load_moments(path, reference_id)
    except UserError:  # not there, damaged, or another's: it is made again
        try:
            moments = moments_of(of_images(plan.images), extractor, progress)
        except ValueError as error:
            reason = f"{error}{unreached(plan.spec.features)}"
            raise UserError(f"evaluation.features = {plan.spec.features}: {reason}") from None
        remove_parts(path)
        save_moments(path, moments, reference_id)
    return of_images_with(plan.images.content, plan.images.name, extractor.id, moments)
