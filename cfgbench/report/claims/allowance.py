"""What repeating a published measurement would change: errors for tables that print none."""

import numpy as np
import pandas as pd

FID_REPEATS = 0.01
FID_THERE = 2.0
"""One standard error of an FID of 50,000 images, and the FID at which it is that part of it.

Dufour et al. (2026, arXiv 2606.20536) found FIDs of ImageNet to vary by 1 to 2 % from training to training, and about a
third of that with the images alone: 1 % is on the safe side. FID is a squared distance d^2, and a repetition moves d by
much the same at any d: so the error goes with sqrt(FID).

The verdicts on Tables 1 and 2 are the same for rounding alone, but for one number: with 1 % at every FID the last of
the points at which p_uncond 0.5 lies above 0.1 (2.4 %, at IS 225.1) could not be told.
"""

IS_REPEATS = 0.004
"""One standard error of an Inception Score as a part of it.

Ho et al. (2020) have 9.46 ± 0.11 over ten splits of 50,000 images: 1.2 %, over sqrt(10) that is 0.4 %.
"""

NOTE = (
    "The table has no errors. Allowed for is what new images would change: one standard error of FID is "
    f"{FID_REPEATS:.0%} at FID {FID_THERE:g} and goes with sqrt(FID), of IS {IS_REPEATS:.1%}; "
    "the two are taken as independent. Another training is not allowed for; rounding (0.01) is less."
)


def with_allowance(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with fid_se and is_se such as 50,000 images have."""
    fid_se = FID_REPEATS * FID_THERE * np.sqrt(rows["fid"] / FID_THERE)
    return rows.assign(fid_se=fid_se, is_se=IS_REPEATS * rows["is_mean"])
