"""What a reader should know of a sweep's numbers before they are there."""

import numpy as np

from cfgbench.evaluation.accumulator import SPLITS
from cfgbench.sweep.extractor import widths
from cfgbench.sweep.fits import against_images, numbered_otherwise
from cfgbench.sweep.plan import Plan
from cfgbench.sweep.results.statistics_files import images_of
from cfgbench.wording import few_in_reference, no_error, passed_over, small_split

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


def _on_numbers(plan: Plan) -> list[str]:
    fewest, metrics, lines = min(cell.sampling.samples for cell in plan.missing), plan.spec.evaluation.metrics, []
    dimensions, classes = widths(plan)
    if "fid" in metrics and fewest <= dimensions:
        lines.append(f"{fewest:,} images: {no_error(dimensions)}")
    if "is" in metrics and fewest // SPLITS < classes:
        lines.append(small_split(fewest // SPLITS, classes))
    return lines


def _on_images(plan: Plan) -> list[str]:
    lines = []
    if numbered_otherwise(plan.spec, plan.images):
        lines.append("ADM's networks number classes otherwise than the npz batches, whose names stand on sheets")
    if plan.images.ignored:
        lines.append(passed_over(plan.images.ignored, "in a class folder"))
    counts = np.bincount(plan.images.labels)
    fewest, most = int(counts.min()), int(counts.max())
    against = _in_reference(plan)
    if against is not None and against <= (dimensions := widths(plan)[0]):
        lines.append(few_in_reference(against, dimensions))
    if against_images(plan.spec, plan.images) and most > MANY_TIMES * fewest:
        shares = f"classes have {fewest:,} to {most:,} images, and samples equally many of each"
        way_out = f"dataset.limit: {len(counts) * fewest} takes equally many"
        lines.append(f"{shares}: FID counts that difference too; {way_out}")
    return lines


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
