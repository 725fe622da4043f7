"""FID and Inception Score of images made anywhere, against a data set, other images, or published statistics."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from cfgbench import data
from cfgbench.data.image_batches import ImageBatches, of_images, open_images
from cfgbench.data.pictures import SUFFIXES
from cfgbench.data.seen import Seen
from cfgbench.errors import UserError, brief, counted
from cfgbench.evaluation.measure import Measurement, measure
from cfgbench.evaluation.statistics import Moments
from cfgbench.files import SWEEP_FILES, make_folder
from cfgbench.models.extractors import Extractor, inception_weights
from cfgbench.progress import Progress
from cfgbench.spec import INCEPTION, PACKAGED, Dataset, load_sweep
from cfgbench.sweep.extractor import measuring, moments_of, numbered, packaged_extractor
from cfgbench.sweep.image_scores import ImageScores, Watched, scores_of
from cfgbench.sweep.reference import Reference, kept_in, of_file, of_images_with
from cfgbench.sweep.results.shards import Shards
from cfgbench.sweep.results.statistics_files import Statistics, is_statistics, load_statistics, maker_of

SAVE_REFERENCE = "--save-reference"
STATISTICS = "--save-stats", SAVE_REFERENCE
_DATA = "the data set"
_STREAMS = "/dev/std", "/dev/fd/", "/proc/"


def check_outputs(outputs: Mapping[str, Path | None], samples: Path, reference: str, weights: Path | None) -> None:
    """Raises UserError, before any work, for an output (option -> file) that would overwrite an input, an image in
    a folder that is one, or another output, or that cannot be written; makes their folders. `weights` are the Inception
    network's, where they are named."""
    inputs = {"SAMPLES": samples, "--reference": Path(reference)}
    if Path(reference).suffix.lower() in SWEEP_FILES:
        spec = load_sweep(Path(reference))
        weights = weights or spec.evaluation.inception_weights
        named = {
            _DATA: spec.dataset.path,
            "evaluation.reference": spec.evaluation.reference,
            "model.checkpoint": getattr(spec.model, "checkpoint", None),
        }
        inputs |= {f"{what} of {reference}": file for what, file in named.items() if file is not None}
    used = inception_weights(weights)
    inputs |= {"the Inception network's weights": used} if used else {}
    taken = {os.path.realpath(path): name for name, path in inputs.items() if path.exists()}  # or it is a name
    folders = {place: name for name, path in inputs.items() if path.is_dir() for place in _spellings(path)}
    for name, path in outputs.items():
        if path is None:
            continue
        if other := taken.get(os.path.realpath(path)):
            raise UserError(f"{name} {path}: would overwrite {other}; name another file")
        spellings = _spellings(path)
        around = [other for place, other in folders.items() if any(one.is_relative_to(place) for one in spellings)]
        whole = any(other.startswith(_DATA) for other in around)  # npz batches and IDX files are data too
        if around and (whole or any(one.suffix.lower() in SUFFIXES for one in spellings)) and path.exists():
            what = "a file" if whole else "an image"
            raise UserError(f"{name} {path}: would overwrite {what} of {around[0]}; name another file")
        taken[os.path.realpath(path)] = name
        if name == SAVE_REFERENCE and _holds_statistics(inputs["--reference"]):
            raise UserError(f"{name} {path}: the reference is a file of statistics already; leave it out")
        if name in STATISTICS and path.suffix.lower() != ".npz":  # by which a file of statistics is known
            raise UserError(f"{name} {path}: name a file that ends in .npz")
        if str(path.absolute()).startswith(_STREAMS):  # what lies behind would be replaced, not written to
            raise UserError(f"{name} {path}: cannot be written, for it is a stream; name a file")
        make_folder(path.parent)
        place = Path(os.path.realpath(path))  # a link is left as it is, and what it leads to is written
        if (path.exists() and not path.is_file()) or place.is_symlink() or not os.access(place.parent, os.W_OK):
            raise UserError(f"{name} {path}: cannot be written; name another file")


def _spellings(path: Path) -> tuple[Path, Path]:
    """Where the path leads, and as it is named: a link in a folder of images is one of them."""
    return Path(os.path.realpath(path)), path.absolute()


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
    path = Path(reference)
    if path.suffix.lower() not in SWEEP_FILES:
        return _Features(reference) if reference in PACKAGED else _maker_in(path) or _Features("inception")
    spec = load_sweep(path)
    name = "inception" if spec.features == "gaussians" else spec.features
    return _Features(name, spec.evaluation.inception_weights, spec.evaluation.precision)


def _maker_in(path: Path) -> _Features | None:
    """What a file of statistics says that it was made with, where that is to be had."""
    if not _holds_statistics(path):
        return None
    maker, known = maker_of(path) or "", sorted((*INCEPTION, *PACKAGED), key=len, reverse=True)
    precision = "bf16" if maker.endswith("-bf16") else "fp32"
    return next((_Features(name, precision=precision) for name in known if maker.startswith(f"{name}-")), None)


def _holds_statistics(path: Path) -> bool:
    return path.suffix.lower() == ".npz" and path.exists() and is_statistics(path)


def _open_reference(reference: str, channels: int, progress: Progress) -> Statistics | ImageBatches:
    """Statistics in a file, or images."""
    path = Path(reference)
    if reference in PACKAGED:
        return of_images(data.load(Dataset(name=reference)))
    if path.suffix.lower() in SWEEP_FILES:
        dataset = load_sweep(path).dataset
        try:
            images = data.load(dataset, progress)
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
    if _holds_statistics(path):
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
