r"""From influences to standard errors: q_i says how far image i pulls a metric, and their spread is the metric's error.

To first order a metric of n images is M + (1/n) sum q_i, with its expectation M. So its standard error is
std(q_i) / sqrt(n), and that of the difference of two metrics whose images share their noise is
std(q_i - q'_i) / sqrt(n).
"""

import math

import numpy as np
from jaxtyping import Float, Int


def standard_error(q: Float[np.ndarray, "n"], labels: Int[np.ndarray, "n"] | None = None) -> float:
    """std(q_i) / sqrt(n), with n - 1; NaN for fewer than two images.

    `labels` are classes whose shares of the images are fixed, so that only the spread inside of each is left to chance
    (Cochran 1977, eq. 5.6, proportional allocation). Where a class has a single image they cannot be used, and are not.
    """
    n = len(q)
    if n < 2:
        return math.nan
    if labels is None:
        return float(q.std(ddof=1)) / math.sqrt(n)
    counts = np.bincount(labels)
    if counts[counts > 0].min() < 2:
        return standard_error(q)
    means = np.bincount(labels, q) / np.maximum(counts, 1)
    squares = np.bincount(labels, (q - means[labels]) ** 2)
    within = squares / np.maximum(counts - 1, 1)
    return math.sqrt(float((counts * within).sum()) / n) / math.sqrt(n)
