"""What stands over a figure: what it shows, and under which conditions."""

from cfgbench.report.captions import spread
from cfgbench.report.slices import Slice
from cfgbench.report.words import named


def title(part: Slice, what: str) -> str:
    return f"{part.setting['dataset']}: {what}" + (f" ({part.differs})" if part.differs else "")


def subtitle(part: Slice) -> str:
    conditions = [
        f"{text} per point" if text == named("samples", part.setting["samples"]) else text for text in part.conditions
    ]
    bars = spread(part, part.metrics)
    return " · ".join([*conditions, f"{part.extractor} features", *([bars] if bars else [])])
