"""What stands over and under a table: what its numbers are, what follows ±, and what bias to expect."""

import numpy as np

from cfgbench.report.seeds import seeds_phrase
from cfgbench.report.slices import Slice
from cfgbench.report.words import INFINITY, METRICS, Metric, joined

FID, IS = METRICS
MANY_IMAGES = 10_000
"""From here on FID's bias is small beside the differences that people look at."""


def caption(part: Slice, metrics: tuple[Metric, ...]) -> str:
    """One paragraph: data set, what stands in the table, conditions, extractor, reference and protocol, errors."""
    names = joined([metric.long_name for metric in metrics])
    provenance = "; ".join(f"{name}: {value}" for name, value in part.provenance.items())
    sentences = [
        f"{part.setting['dataset']}: {names} over guidance strength w (scale = 1 + w), by {part.columns}.",
        f"{', '.join(part.conditions)}.",
        f"{provenance[:1].upper()}{provenance[1:]}.",
        errors(part, metrics),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def errors(part: Slice, metrics: tuple[Metric, ...]) -> str:
    """A sentence on what an entry's parts are: the mean over seeds and their minimum, or what follows ±."""
    if part.seeds:
        words = seeds_phrase(part.seeds)
        count = words.split()[0]
        extremes = {FID: f"the minimum of {count}", IS: f"for IS the maximum of {count}"}
        best = " and ".join(extremes[metric] for metric in metrics if metric in extremes)
        independent = ", taken as independent" if "pairs" in words else ""
        mean = f"mean over {words} ± its standard error over seeds{independent}"
        return f"Entries: {mean}{', and ' if best else ''}{best}."
    known = [metric for metric in metrics if part.has(metric.se)]
    direct = [f"the {metric.name}" for metric in known if metric != INFINITY]
    sentences = []
    if direct:
        images = f"of {int(part.setting['samples']):,} images"
        sentences.append(f"± one standard error of {joined(direct)} {images} (influence function).")
    if INFINITY in known:
        sentences.append("FID∞: ± one standard error of the extrapolation.")
    return " ".join(sentences)


def bias(part: Slice) -> str:
    """Under 10,000 images: that FID is too high, and by how much where FID∞ was measured beside it; else nothing."""
    count = int(part.setting["samples"])
    if count >= MANY_IMAGES or FID not in part.metrics or not part.has(FID.column):
        return ""
    note = f"FID of {count:,} images is biased upwards"
    if not part.has(INFINITY.column) or part.marks:
        return f"{note}: compare it only with FIDs of as many images."
    excess = float((part.ok[FID.column] - part.ok[INFINITY.column]).mean())
    return (
        f"{note}; here by about {excess:.2g} (FID − FID∞, mean over the table)." if np.isfinite(excess) else f"{note}."
    )


def notes(part: Slice) -> list[str]:
    """The lines under a table that belong to no single entry: the bias, and what the marks mean."""
    return [text for text in [bias(part), *(f"[{mark}] {meaning}" for mark, meaning in part.marks.items())] if text]
