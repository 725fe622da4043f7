"""What a reader should know of a sweep's numbers before they are there."""

import numpy as np

from cfgbench.evaluation.accumulator import SPLITS
from cfgbench.evaluation.features import Features
from cfgbench.sweep.extractor import widths
from cfgbench.sweep.fits import against_images, numbered_otherwise
from cfgbench.sweep.plan import Plan
from cfgbench.sweep.results.statistics_files import images_of
from cfgbench.wording import NOTES_APART, few_in_reference, no_error, passed_over, small_split

MANY_TIMES = 2
"""More images in a class than in another: ImageNet's have up to 1.8 times as many, and the paper's FIDs count that."""


def notes_on(plan: Plan, precision: str) -> list[str]:
    """On the cells that are missing, which are to be made in this precision; none where none is."""
    if not plan.missing:
        return []
    return [*_on_numbers(plan), *_on_images(plan), *notes_on_training(plan), *_on_precision(plan, precision)]


def notes_on_training(plan: Plan) -> list[str]:
    """On what is trained for the cells that are missing."""
    return [*_on_null_class(plan), *_on_classifier(plan)]


def note_in_row(plan: Plan, samples: int, features: Features, in_reference: int | None) -> str | None:
    """What the row of a cell of so many images says beside its numbers, each behind the metric's name, for whoever
    reads them in a table; None where there is nothing. `features` are of some images; `in_reference` is how many the
    reference is of, where that is known."""
    classes = 0 if features.logits is None else features.logits.shape[1]
    against = in_reference if "fid" in plan.spec.evaluation.metrics else None
    of_fid = [*_on_reference(against, features.pooled.shape[1]), *_on_shares(plan)]
    lines = [f"IS: {line}" for line in _on_splits(plan, samples, classes)] + [f"FID: {line}" for line in of_fid]
    return NOTES_APART.join(lines) or None


def _on_numbers(plan: Plan) -> list[str]:
    fewest, metrics = min(cell.sampling.samples for cell in plan.missing), plan.spec.evaluation.metrics
    dimensions, classes = widths(plan)
    lines = [f"{fewest:,} images: {no_error(dimensions)}"] if "fid" in metrics and fewest <= dimensions else []
    return [*lines, *_on_splits(plan, fewest, classes)]


def _on_splits(plan: Plan, samples: int, classes: int) -> list[str]:
    """On an Inception Score of so many images, where an extractor knows so many classes."""
    held = samples // SPLITS
    return [small_split(held, classes)] if "is" in plan.spec.evaluation.metrics and held < classes else []


def _on_images(plan: Plan) -> list[str]:
    lines = []
    if numbered_otherwise(plan.spec, plan.images):
        lines.append("ADM's networks number classes otherwise than the npz batches, whose names stand on sheets")
    if plan.images.ignored:
        lines.append(passed_over(plan.images.ignored, "in a class folder"))
    against = _in_reference(plan)
    few = [] if against is None else _on_reference(against, widths(plan)[0])
    return [*lines, *few, *_on_shares(plan)]


def _on_reference(images: int | None, dimensions: int) -> list[str]:
    """On a reference of so many images, where that is known."""
    return [few_in_reference(images, dimensions)] if images is not None and images <= dimensions else []


def _on_shares(plan: Plan) -> list[str]:
    """On classes of very unequal sizes, where FID is measured against them."""
    if not against_images(plan.spec, plan.images):
        return []
    counts = np.bincount(plan.images.labels)
    fewest, most = int(counts.min()), int(counts.max())
    if most <= MANY_TIMES * fewest:
        return []
    shares = f"classes have {fewest:,} to {most:,} images, and samples equally many of each"
    way_out = f"dataset.limit: {len(counts) * fewest} takes equally many"
    return [f"{shares}: FID counts that difference too; {way_out}"]


def _in_reference(plan: Plan) -> int | None:
    """How many images FID is measured against; None where it is not, or where that is not known."""
    if against_images(plan.spec, plan.images):
        return len(plan.images.images)
    file = plan.spec.evaluation.reference
    return images_of(file) if file is not None and "fid" in plan.spec.evaluation.metrics else None


def _on_null_class(plan: Plan) -> list[str]:
    """On networks that are sampled without their class and hardly ever trained so."""
    asked = [cell.denoiser for cell in plan.missing if cell.denoiser and "null" in cell.sampling.calls]
    trained = {(one.training.p_uncond, one.training.steps * one.training.batch_size) for one in asked}
    return [
        f"p_uncond {p:g}: of the {images:,} images of a training fewer than one loses its class: the null class is not "
        "trained"
        for p, images in sorted(trained)
        if p * images < 1
    ]


def _on_classifier(plan: Plan) -> list[str]:
    guides = any(cell.sampling.classified for cell in plan.cells)
    if guides or not plan.spec.classifier.model_fields_set:
        return []
    return ["classifier: trains nothing, as no cell is guided by one"]


def _on_precision(plan: Plan, precision: str) -> list[str]:
    """Rows of two precisions are two protocols, which `--precision auto` may make of one sweep on two machines."""
    others = sorted(plan.precisions - {precision})
    if not others:
        return []
    made = f"cells are there in {', '.join(others)}, and what is missing comes in {precision}, another protocol"
    return [f"{made}; --precision {others[0]} goes on as before"]
