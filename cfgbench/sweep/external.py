"""FID and Inception Score of images made anywhere, against a data set, other images, or published statistics."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cfgbench import data
from cfgbench.data.stream import Stream, of_images, open_stream
from cfgbench.errors import UserError
from cfgbench.evaluation.extractors import FeatureExtractor
from cfgbench.evaluation.metrics import frechet_distance, inception_score
from cfgbench.evaluation.reference import is_statistics, load_reference, save_reference
from cfgbench.evaluation.statistics import Moments
from cfgbench.evaluation.stream import SPLITS, Accumulator
from cfgbench.files import write_atomically
from cfgbench.progress import Progress
from cfgbench.spec import PACKAGED, Dataset, load_sweep
from cfgbench.sweep.extractor import moments_of, numbered, packaged_extractor, unreached

ENOUGH = 10_000
"""Images under which the FID's bias is as large as many differences that people report."""


@dataclass(frozen=True)
class Evaluation:
    """What `cfgbench eval` says; null is what cannot be said. Standard errors are not built yet."""

    fid: float
    fid_se: float | None
    is_mean: float | None
    is_std: float | None
    samples: int
    features_id: str
    reference: str
    protocol: str

    def as_json(self) -> dict[str, Any]:
        """Plain JSON content."""
        return asdict(self)

    @property
    def notes(self) -> list[str]:
        """What a reader should know before quoting the numbers."""
        few = f"FID of {self.samples:,} images is biased upwards; {ENOUGH:,} or more are usual"
        return [few] if self.samples < ENOUGH else []


def default_features(reference: str) -> str:
    """The extractor of the reference's data set where it has one of its own, else Inception."""
    return reference if reference in PACKAGED else "inception"


def evaluate(
    samples: Path,
    reference: str,
    *,
    features: str | None = None,
    weights: Path | None = None,
    save_stats: Path | None = None,
    device: torch.device,
    progress: Progress,
) -> Evaluation:
    """Measures the images of `samples` (see `open_stream`) and writes their statistics to `save_stats`.

    `reference` is such images too, or a data set's name, a sweep file, or an .npz with mu and sigma. Raises UserError.
    """
    name = features or default_features(reference)
    channels = 1 if name in PACKAGED else 3
    images = open_stream(samples, channels=channels)
    if images.count < 2:
        raise UserError(f"{samples}: {images.count} images; FID needs at least 2")
    target = _open_reference(reference, channels, progress)
    extractor = packaged_extractor(name, weights, device, logits=name in ("inception", *PACKAGED), crop=False)
    try:
        against, moments = _statistics(target, extractor, progress)
        accumulator = _accumulate(images, extractor, progress)
        fid = frechet_distance(accumulator.moments, moments)
        is_mean, is_std = _inception_score(accumulator)
    except ValueError as error:
        raise UserError(f"{samples}: {error}{unreached(name)}") from None
    if save_stats is not None:
        write_atomically(save_stats, lambda path: save_reference(path, accumulator.moments, extractor.id))
    protocol = (
        f"features {extractor.id}; reference {against}; {images.count} samples; "
        f"IS {SPLITS} splits in {images.order}; fp32"
    )
    return Evaluation(fid, None, is_mean, is_std, images.count, extractor.id, against, protocol)


def _accumulate(images: Stream, extractor: FeatureExtractor, progress: Progress) -> Accumulator:
    accumulator = Accumulator(images.count)
    for first, batch in numbered(images, extractor):
        progress(f"features of {images.name}", first, images.count, "")
        accumulator.add(first, extractor(batch))
    progress(f"features of {images.name}", images.count, images.count, "")
    return accumulator


def _inception_score(accumulator: Accumulator) -> tuple[float | None, float | None]:
    if accumulator.total < SPLITS or not all(split.n for split in accumulator.predictions):
        return None, None
    return inception_score(accumulator.predictions)


def _open_reference(reference: str, channels: int, progress: Progress) -> Path | Stream:
    """A file of statistics, or images: known to be there before anything is computed."""
    path = Path(reference)
    if reference in PACKAGED:
        return of_images(data.load(Dataset(name=reference)))
    if path.suffix in (".yaml", ".yml"):
        return of_images(data.load(load_sweep(path).dataset, progress))
    if not path.exists():
        known = ", ".join(PACKAGED)
        raise UserError(f"--reference {reference}: no such file or folder, and no data set's name ({known})")
    if path.suffix == ".npz" and is_statistics(path):
        return path
    return open_stream(path, channels=channels)


def _statistics(target: Path | Stream, extractor: FeatureExtractor, progress: Progress) -> tuple[str, Moments]:
    """(what it is in words, its statistics)."""
    if isinstance(target, Path):
        return f"statistics {target.name}", load_reference(target, extractor.id)
    return f"{target.name}, {target.count} images", moments_of(target, extractor, progress)
