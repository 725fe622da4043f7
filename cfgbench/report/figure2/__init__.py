"""Figure 2 of the paper: three Gaussians under growing guidance, as densities and as points of the sampler."""

from collections.abc import Sequence
from pathlib import Path

from cfgbench.report.drawing.figure_files import pdf, plainly, png, svg
from cfgbench.report.figure2.experiment import StrengthResult, run_experiment
from cfgbench.report.figure2.figure import draw
from cfgbench.report.figure2.table import csv, markdown
from cfgbench.report.output import save
from cfgbench.wording import strength

__all__ = ["run_experiment", "summary", "write"]


def write(results: Sequence[StrengthResult], out: Path, *, with_pdf: bool = False) -> list[Path]:
    """Writes figure-2.png, .svg, .md, .csv and, `with_pdf`, .pdf into `out`; returns their paths. Raises UserError."""
    with plainly():
        drawn = draw(results)
        figures = {"png": png(drawn), "svg": svg(drawn)} | ({"pdf": pdf(drawn)} if with_pdf else {})
    files = figures | {"md": markdown(results).encode(), "csv": csv(results).encode()}
    return save({f"figure-2.{kind}": content for kind, content in files.items()}, out)


def summary(results: Sequence[StrengthResult]) -> list[str]:
    """A line a strength: that its densities are densities, and how far the points are from them."""
    lines = []
    for one in results:
        integrals = ", ".join(f"{value:.6f}" for value in one.density.integrals)
        apart, chance = one.variations
        lines.append(
            f"{strength(one.w)}: integrals of the densities {integrals}; total variation between samples and density "
            f"{apart:.3f}, by chance alone {chance:.3f}"
        )
    return lines
