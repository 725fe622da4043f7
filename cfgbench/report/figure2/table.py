"""Figure 2 in numbers: how far sampled classes are from their densities."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cfgbench.report.figure2.experiment import BIN, CELLS, DRAWS, EDGE, Deviation, StrengthResult, T, V
from cfgbench.report.tables import markup
from cfgbench.report.tables.markup import markdown_table
from cfgbench.report.words import plus_minus


def frame(results: Sequence[StrengthResult]) -> pd.DataFrame:
    """A row a strength and class: the deviations, and where both laws lie; unrounded."""
    return pd.DataFrame([_row(one, deviation) for one in results for deviation in one.deviations])


def _row(one: StrengthResult, deviation: Deviation) -> dict[str, float]:
    (distance, distance_sd), (variation, variation_sd) = deviation.distance_by_chance, deviation.variation_by_chance
    density, points = deviation.of_density, deviation.of_points
    return {
        "w": one.w,
        "scale": 1 + one.w,
        "class": deviation.c,
        "points": points.n,
        "integral": one.density.integrals[deviation.c],
        "frechet_distance": deviation.distance,
        "frechet_distance_by_chance": distance,
        "frechet_distance_by_chance_sd": distance_sd,
        "total_variation": deviation.variation,
        "total_variation_by_chance": variation,
        "total_variation_by_chance_sd": variation_sd,
        "radius_density": density.mean.norm().item(),
        "radius_samples": points.mean.norm().item(),
        "deviation_density": (density.covariance.trace() / 2).sqrt().item(),
        "deviation_samples": (points.covariance.trace() / 2).sqrt().item(),
    }


def csv(results: Sequence[StrengthResult]) -> str:
    """The table, unrounded."""
    return markup.csv(frame(results))


def markdown(results: Sequence[StrengthResult]) -> str:
    """The table under its caption, as GitHub's Markdown."""
    heads = ["w", "scale", "class", "Fréchet distance", "by chance", "total variation", "by chance",
             "radius, density", "radius, samples", "deviation, density", "deviation, samples"]  # fmt: skip
    rows = []
    for row in frame(results).to_dict("records"):
        cells = [f"{row['w']:g}", f"{row['scale']:g}", f"{row['class']}"]
        cells += [f"{row['frechet_distance']:.6f}", _chance(row, "frechet_distance")]
        cells += [f"{row['total_variation']:.4f}", _chance(row, "total_variation")]
        cells += [f"{row[f'{name}_{law}']:.3f}" for name in ("radius", "deviation") for law in ("density", "samples")]
        rows.append(cells)
    return f"{_caption(results)}\n\n{markdown_table(heads, rows)}\n"


def _chance(row: dict[str, float], name: str) -> str:
    return plus_minus(row[f"{name}_by_chance"], row[f"{name}_by_chance_sd"])


def _caption(results: Sequence[StrengthResult]) -> str:
    points = results[0].deviations[0].of_points.n
    error = max(np.abs(one.density.integrals - 1).max() for one in results)
    return (
        f"**Figure 2 in numbers.** Sampled classes against their densities p(z|c) p(c|z)^w, normalised. Points of "
        f"the sampler: {points:,} a class, classifier-free guidance of the exact "
        f"denoiser, ancestral sampler, T {T}, v {V:g}, no clipping. Fréchet distance of their mean and covariance to "
        f"the density's; total variation of shares in squares of {2 * EDGE * BIN / CELLS:g}; both beside what as many "
        f"exact draws of the density give (mean ± standard deviation over {DRAWS} draws). Radius: of the class's mean "
        f"around the mixture's. Deviation: root of the mean variance of a coordinate. At w = 0 the two laws are one; "
        f"under guidance they are not, since the guided scores are not those of the noised density. The densities' "
        f"integrals by another quadrature differ from 1 by at most {error:.1g}."
    )
