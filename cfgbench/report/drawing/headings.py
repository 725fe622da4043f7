"""What stands over a figure: what it shows, and under which conditions."""

import textwrap

from cfgbench.report.rows import knobs
from cfgbench.report.rows.slice import Slice
from cfgbench.report.tables.captions import spread
from cfgbench.report.words import joined, named


def title(part: Slice, what: str) -> str:
    """Data set, what is shown, and what tells the slice from its sweep's others."""
    return f"{part.setting['dataset']}: {what}" + (f" ({part.differs})" if part.differs else "")


def subject(part: Slice) -> str:
    """Of what a figure of images is: the data set and, where a sweep has several, the system."""
    return ", ".join([part.setting["dataset"], *([part.setting["system"]] if "system" in part.setting else [])])


def image_conditions(part: Slice, *told: str) -> list[str]:
    """How images came about, without what the title has `told`, what their numbers are, and what the marks mean."""
    images = named("samples", part.setting["samples"])
    told = (*told, part.setting.get("system", ""), images)
    conditions = [text for text in part.conditions if text not in told]
    words = [
        *conditions,
        f"{joined([metric.name for metric in part.metrics])} of {images}, {part.extractor} features",
        *knobs.in_heading(part),
    ]
    return [*words, *(["images of one seed, numbers are means"] if part.seeds else []), *mark_meanings(part).values()]


def mark_meanings(part: Slice) -> dict[str, str]:
    """mark -> `[a] clip on; bf16`, shortened where it is long."""
    return {mark: f"[{mark}] {textwrap.shorten(meaning, 60)}" for mark, meaning in part.marks.items()}


def subtitle(part: Slice) -> str:
    """How the points came about, and what their bars are."""
    conditions = [
        f"{text} per point" if text == named("samples", part.setting["samples"]) else text for text in part.conditions
    ]
    words = [*conditions, f"{part.extractor} features", spread(part, part.metrics)]
    words.append("hollow: of other seeds" if part.ok["hollow"].any() else "")
    return " · ".join(word for word in words if word).replace("± ", "±\N{NO-BREAK SPACE}")  # not at the end of a line
