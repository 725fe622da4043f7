"""What `cfgbench eval` finds, as it is printed and as it is kept."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from cfgbench.data.image_batches import ImageBatches
from cfgbench.data.seen import Seen
from cfgbench.evaluation.accumulator import SPLITS
from cfgbench.evaluation.columns import ERROR_OF, biased
from cfgbench.evaluation.measure import Measurement
from cfgbench.evaluation.metrics import split_score
from cfgbench.files import identity
from cfgbench.sweep.reference import Reference
from cfgbench.sweep.results.row import error_text
from cfgbench.wording import few_in_reference, no_error, passed_over, small_split

MANY_COPIES = 0.01
"""Of the images: data sets have a few by chance, or by oversight."""
NUMBERS = *ERROR_OF, *ERROR_OF.values(), "is_std"


@dataclass(frozen=True)
class ImageScores:
    """What `cfgbench eval` says; null is what cannot be said. `is_together` is the Inception Score of all images as one
    split, `classes` how many it knows; `ignored` counts files that are no images, `copies` images beyond one of each,
    and `in_reference` those that are among the reference's; `class_shares` says whether their sub-folders, or `arr_1`,
    have as many each, which is taken for fixed ("equal", "unequal"; null where there are none); `brightest` is the
    largest pixel; `pixels` are height and width, `reference_pixels` and `reference_brightest` are the reference's,
    where it is images, and `reference_samples` is how many it is of, where that is known."""

    fid: float
    fid_se: float | None
    fid_infinity: float | None
    fid_infinity_se: float | None
    is_mean: float | None
    is_std: float | None
    is_se: float | None
    is_together: float | None
    classes: int | None
    samples: int
    ignored: int
    copies: int
    in_reference: int | None
    class_shares: str | None
    brightest: int
    pixels: str
    reference_pixels: str | None
    reference_brightest: int | None
    reference_samples: int | None
    dimensions: int
    features_id: str
    reference: str
    protocol: str
    protocol_id: str
    reference_id: str

    def __str__(self) -> str:
        numbers = [f"FID {self.fid:.4f}{error_text(self.fid_se)}"]
        if self.fid_infinity is not None:
            numbers.append(f"{self.fid_infinity:.4f}{error_text(self.fid_infinity_se)} of infinitely many")
        if self.is_mean is not None:
            numbers.append(f"IS {self.is_mean:.3f}{error_text(self.is_se)}")
        return f"{', '.join(numbers)} ({self.protocol})"

    @property
    def notes(self) -> list[str]:
        """What a reader should know before quoting the numbers."""
        return [*self._on_images, *self._on_numbers]

    @property
    def _on_images(self) -> list[str]:
        notes = []
        if self.ignored:
            notes.append(passed_over(self.ignored))
        if self.reference_pixels and self.reference_pixels != self.pixels:
            sizes = f"images of {self.pixels} pixels, a reference of {self.reference_pixels}"
            notes.append(f"{sizes}: FID counts the difference in sharpness too; bring both to one size")
        cut = "no pixel{} is above 1: floats cut to uint8? Multiply by 255 before"
        notes += [cut.format("")] if self.brightest <= 1 else []
        dark = self.reference_brightest is not None and self.reference_brightest <= 1
        notes += [cut.format(" of the reference")] if dark else []
        if self.copies > MANY_COPIES * self.samples:
            own = "errors, which take each for a draw of its own, are too small"
            notes.append(f"{self.copies:,} of {self.samples:,} images are copies of others: {own}")
        if (self.in_reference or 0) > MANY_COPIES * self.samples:
            itself = "their FID is lower than that of new images"
            notes.append(f"{self.in_reference:,} of {self.samples:,} images are in the reference itself: {itself}")
        return notes

    @property
    def _on_numbers(self) -> list[str]:
        notes = []
        excess = math.nan if self.fid_infinity is None else self.fid - self.fid_infinity
        if biased(self.samples, excess, math.nan if self.fid_se is None else self.fid_se):
            by = f", here by about {excess:.3g}" if excess > 0 else ""
            notes.append(f"FID of {self.samples:,} images is biased upwards{by}; 50,000 are usual")
        if self.reference_samples is not None and self.reference_samples <= self.dimensions:
            notes.append(few_in_reference(self.reference_samples, self.dimensions))
        if self.samples < SPLITS:
            notes.append(f"no Inception Score: its {SPLITS} splits take {SPLITS} images or more")
        if self.classes is not None and self.samples // SPLITS < self.classes:
            notes.append(small_split(self.samples // SPLITS, self.classes))
        if self._looks_sorted:
            splits = f"that of {SPLITS} splits in the images' order"
            together = f"all images together have {self.is_together:.2f}: these look sorted by class"
            notes.append(f"the Inception Score is {splits}, and {together}")
        if self.class_shares == "equal":
            notes.append(
                "as many images in each sub-folder, or by arr_1: taken for fixed, and errors for those within them"
            )
        elif self.fid_se is not None or self.fid_infinity is not None:
            fixed = "where each class has its fixed share, and a sub-folder or number in arr_1, they are less"
            notes.append(f"errors are of images drawn at random; {fixed}, and FID∞ is higher")
        if self.fid_se is None:
            flat = (
                "no error of the FID: the images do not vary, or hardly, in some directions in which the reference does"
            )
            notes.append(no_error(self.dimensions) if self.samples <= self.dimensions else flat)
        return notes

    @property
    def _looks_sorted(self) -> bool:
        r"""Whether the splits have fewer of the classes than chance leaves them.

        log IS of all images exceeds the splits' mean by the spread of their p_mean. Of m images drawn at random that is
        at most E KL(p_mean || p) <= log(1 + E chi^2) <= log(1 + (classes - 1) / m), by Jensen, whatever the extractor
        predicts. Of a set in order of two classes the splits have half as much.
        """
        if self.is_mean is None or self.is_together is None or self.classes is None:
            return False
        by_chance = 1 + self.classes / (self.samples // SPLITS)
        return self.is_together > max(1.5, by_chance) * self.is_mean


class Watched(NamedTuple):
    """Images, and what was seen of them as they passed by."""

    images: ImageBatches
    seen: Seen

    @property
    def pixels(self) -> str:
        """`64 x 64`: height and width."""
        return " x ".join(map(str, self.images.shape[1:]))


def scores_of(
    measured: Measurement,
    samples: Watched,
    reference: Reference,
    others: Watched | None,
    *,
    features_id: str,
    precision: str,
) -> ImageScores:
    """The scores of samples that were measured against the reference, which was made of the `others` where it is no
    file of statistics."""
    images, predictions = samples.images, measured.predictions
    protocol = (
        f"features {features_id}; reference {reference.name}; {images.count} samples; "
        f"IS {SPLITS} splits in {images.order}; {precision}"
    )
    return ImageScores(
        **{column: measured.numbers.get(column) for column in NUMBERS},
        is_together=None if predictions is None else split_score(predictions).item(),
        classes=None if predictions is None else len(predictions.sum_p),
        samples=measured.moments.n,
        ignored=images.ignored + (others.images.ignored if others else 0),
        copies=samples.seen.copies,
        class_shares=images.shares,
        in_reference=samples.seen.among(others.seen) if others else None,
        brightest=samples.seen.brightest,
        pixels=samples.pixels,
        reference_pixels=others.pixels if others else None,
        reference_brightest=others.seen.brightest if others else None,
        reference_samples=reference.images,
        dimensions=len(measured.moments.mean),
        features_id=features_id,
        reference=reference.name,
        protocol=protocol,
        protocol_id=identity(protocol),
        reference_id=reference.id,
    )
