"""FID and Inception Score of images made anywhere, against a data set, other images, or published statistics."""

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from cfgbench import data
from cfgbench.data.image_batches import ImageBatches, of_images, open_images
from cfgbench.data.seen import Seen
from cfgbench.errors import UserError, brief, counted
from cfgbench.evaluation.measure import Measurement, measure
from cfgbench.evaluation.statistics import Moments
from cfgbench.models.extractors import Extractor
from cfgbench.progress import Progress
from cfgbench.spec import INCEPTION, PACKAGED, Dataset
from cfgbench.sweep.extractor import measuring, moments_of, numbered, packaged_extractor
from cfgbench.sweep.image_scores import ImageScores, Watched, scores_of
from cfgbench.sweep.outputs import sweep_of
from cfgbench.sweep.reference import Reference, kept_in, of_file, of_images_with
from cfgbench.sweep.results.shards import Shards
from cfgbench.sweep.results.statistics_files import Statistics, is_statistics, load_statistics, maker_of


class Evaluated(NamedTuple):
    """What `evaluate` finds: the scores, and the statistics of the samples and of the reference."""

    scores: ImageScores
    samples: Moments
    reference: Moments


def evaluate(
    samples: Path,
    reference: str,
    *,
    features: str | None = None,
    weights: Path | None = None,
    precision: str | None = None,
    results: Path,
    device: torch.device,
    progress: Progress,
) -> Evaluated:
    """Measures the images of `samples` (see `open_images`).

    `reference` is such images too, or a data set's name, a sweep file, or an .npz with mu and sigma. `features` names
    the extractor; `weights` and `precision`, fp32 or bf16, are the Inception network's. What is not given is as the
    reference has it: a data set with features of its own, a sweep file, statistics; else Inception in fp32. A data
    set's statistics that a sweep in the folder `results` has are not made again. Raises UserError.
    """
    name, weights, precision = _measured_with(reference, features, weights, precision)
    images, target = _open(samples, reference, 1 if name in PACKAGED else 3, progress)
    beside = target if isinstance(target, ImageBatches) else None
    extractor = packaged_extractor(
        name,
        weights,
        device,
        crop=False,
        precision=precision,
        ahead=images.count + (beside.count if beside else 0),
    )
    try:
        extractor.check(images.shape)  # before the reference is computed
    except ValueError as error:
        raise UserError(f"{samples}: {error}") from None
    seen, known = Seen(), Seen()
    with measuring(f"--reference {reference}", name):
        against = _statistics(target, known, extractor, results, progress)
    with measuring(samples, name):
        measured = _measure(seen.watch(images), extractor, against.moments, progress)
    others = None if beside is None else Watched(beside, known)
    scores = scores_of(measured, Watched(images, seen), against, others, features_id=extractor.id, precision=precision)
    return Evaluated(scores, measured.moments, against.moments)


def _open(
    samples: Path, reference: str, channels: int, progress: Progress
) -> tuple[ImageBatches, Statistics | ImageBatches]:
    """The images, and what they are measured against: enough of them, and there before anything is computed."""
    images = open_images(samples, channels=channels)
    if images.count < 2:
        raise UserError(f"{samples}: {counted(images.count, 'image')}; FID needs at least 2")
    target = _open_reference(reference, channels, progress)
    if isinstance(target, ImageBatches) and target.count < 2:
        raise UserError(f"--reference {reference}: {counted(target.count, 'image')}; FID needs at least 2")
    return images, target


class _Features(NamedTuple):
    """An extractor's name; of the Inception network the file of weights, if one is named, and the precision."""

    name: str
    weights: Path | None = None
    precision: str = "fp32"


def _measured_with(reference: str, features: str | None, weights: Path | None, precision: str | None) -> _Features:
    """What is asked for, and where nothing is, what the reference is measured with. Raises UserError."""
    usual = _features_of(reference)
    name = usual.name if features is None else features
    if features is None and name == "classifier":
        way_out = "name others, such as --features inception"
        raise UserError(f"--reference {reference}: its features are a classifier that the sweep trains; {way_out}")
    _check_options(precision, weights, name)
    if name not in INCEPTION:
        return _Features(name)
    return _Features(name, weights or usual.weights, precision or usual.precision)


def _check_options(precision: str | None, weights: Path | None, features: str) -> None:
    if precision not in (None, "fp32", "bf16"):
        raise UserError(f"--feature-precision {brief(precision)}: should be fp32 or bf16")
    if features in INCEPTION:
        return
    way_out = "leave it out, or take --features inception"
    if precision == "bf16":
        raise UserError(f"--feature-precision bf16: the features {features} have fp32 only; {way_out}")
    if weights is not None:
        raise UserError(f"--inception-weights {weights}: not for the features {features}; {way_out}")


def _measure(images: ImageBatches, extractor: Extractor, reference: Moments, progress: Progress) -> Measurement:
    """Its features pass through the disk: errors need a second look at them, and memory should not grow."""
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(Path(folder) / "features" / "samples", images.count, None, like={})  # none are there
        logits = False
        for first, batch in numbered(images, extractor):
            progress(f"features of {images.name}", first, images.count, extractor.note)
            features = extractor(batch)
            logits = features.logits is not None
            shards.add(first, features, batch[:0].clone())  # a view would keep the batch in memory
        progress(f"features of {images.name}", images.count, images.count, "")
        shards.flush()
        fixed = images.labels if images.shares == "equal" else None
        return measure(shards.blocks, images.count, fid_against=reference, inception=logits, labels=fixed)


def _features_of(reference: str) -> _Features:
    """What measures the data set that is named, or what a sweep file or a file of statistics has; else Inception."""
    if reference in PACKAGED:
        return _Features(reference)
    if (spec := sweep_of(reference)) is None:
        return _maker_in(Path(reference)) or _Features("inception")
    name = "inception" if spec.features == "gaussians" else spec.features
    return _Features(name, spec.evaluation.inception_weights, spec.evaluation.precision)


def _maker_in(path: Path) -> _Features | None:
    """What a file of statistics says that it was made with, where that is to be had."""
    if not is_statistics(path):
        return None
    maker, known = maker_of(path) or "", sorted((*INCEPTION, *PACKAGED), key=len, reverse=True)
    precision = "bf16" if maker.endswith("-bf16") else "fp32"
    return next((_Features(name, precision=precision) for name in known if maker.startswith(f"{name}-")), None)


def _open_reference(reference: str, channels: int, progress: Progress) -> Statistics | ImageBatches:
    """Statistics in a file, or images."""
    path = Path(reference)
    if reference in PACKAGED:
        return of_images(data.load(Dataset(name=reference)))
    if (spec := sweep_of(reference)) is not None:
        try:
            images = data.load(spec.dataset, progress)
        except (UserError, ValueError) as error:
            raise UserError(f"{path}: {error}") from None
        if images.mixture is not None:
            raise UserError(
                f"--reference {reference}: its data set is points, not images; run: cfgbench sweep {reference}"
            )
        return of_images(images)
    if not path.exists():
        known = ", ".join(PACKAGED)
        raise UserError(f"--reference {reference}: no such file or folder, and no data set's name ({known})")
    if is_statistics(path):
        return load_statistics(path, key="--features")
    return open_images(path, channels=channels)


def _statistics(
    target: Statistics | ImageBatches, known: Seen, extractor: Extractor, results: Path, progress: Progress
) -> Reference:
    """What is measured against, whose images `known` sees; of a file or a data set its id is that of a sweep's rows."""
    if isinstance(target, Statistics):
        return of_file(target, extractor.id)
    extractor.check(target.shape)  # a sweep has cut its images to what is looked at, and this does not
    if target.content and (kept := kept_in(results, target.content, target.name, extractor.id)):
        for first, _ in numbered(known.watch(target), extractor):
            progress(f"look at {target.name}, whose statistics are kept", first, target.count, "")
        return kept
    digests: list[bytes] = []

    def batches(size: int) -> Iterator[np.ndarray]:
        for batch in target.batches(size):
            digests.extend(hashlib.sha256(image.tobytes()).digest() for image in batch)
            yield batch

    images = known.watch(target if target.content else replace(target, batches=batches))
    moments = moments_of(images, extractor, progress)
    if target.content:
        return of_images_with(target.content, target.name, target.count, extractor.id, moments)
    # images of files are named by it: what these are called, and the order that this gives them, decide nothing
    content = hashlib.sha256(repr(target.shape).encode() + b"".join(sorted(digests))).hexdigest()
    return of_images_with(content, f"pictures {content[:8]}", target.count, extractor.id, moments)
