"""Rows as a sweep writes them, with the numbers of the paper's two tables (Ho & Salimans 2022)."""

import pandas as pd
import pytest

W = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 2.0, 3.0, 4.0]
TABLE_1 = {  # p_uncond: (FID, IS) over W
    0.1: (
        [1.8, 1.55, 2.04, 3.03, 4.3, 5.74, 7.19, 8.62, 10.08, 11.41, 12.6, 21.03, 24.83, 26.22],
        [53.71, 66.11, 78.91, 92.8, 106.2, 119.3, 131.1, 141.8, 151.6, 161.0, 170.1, 225.5, 250.4, 260.2],
    ),
    0.2: (
        [1.8, 1.62, 2.1, 2.93, 4.0, 5.19, 6.48, 7.73, 8.9, 10.09, 11.21, 18.79, 22.36, 23.84],
        [52.9, 64.58, 76.99, 88.64, 101.11, 112.15, 122.13, 131.6, 140.82, 150.26, 158.29, 212.98, 237.65, 248.97],
    ),
    0.5: (
        [2.21, 1.91, 2.08, 2.65, 3.44, 4.34, 5.27, 6.23, 7.25, 8.21, 9.13, 16.16, 19.75, 21.48],
        [47.61, 56.1, 65.6, 74.92, 84.27, 92.95, 102.0, 109.8, 116.9, 124.6, 131.1, 183.0, 208.9, 225.1],
    ),
}
TABLE_2 = {  # T: (FID, IS) over W
    128: (
        [8.11, 5.31, 3.7, 3.04, 3.02, 3.43, 4.09, 4.96, 5.93, 6.89, 7.88, 15.9, 19.77, 21.55],
        [81.46, 105.01, 130.79, 156.09, 183.01, 206.94, 227.72, 247.92, 265.54, 280.19, 295.29, 378.56, 409.16, 422.29],
    ),
    256: (
        [7.27, 4.53, 3.03, 2.43, 2.49, 2.98, 3.76, 4.67, 5.74, 6.8, 7.86, 15.93, 19.77, 21.53],
        [82.45, 106.12, 132.54, 158.47, 183.41, 207.98, 228.83, 249.25, 267.99, 283.41, 297.98, 377.37, 407.44, 421.03],
    ),
    1024: (
        [7.22, 4.5, 3.0, 2.43, 2.48, 2.96, 3.73, 4.69, 5.71, 6.81, 7.8, 15.75, 19.56, 21.45],
        [81.54, 104.67, 130.09, 156.0, 180.88, 204.31, 226.76, 247.89, 265.52, 281.14, 294.56, 373.18, 405.68, 419.06],
    ),
}


def make_rows(numbers, key, **fixed):
    points = [
        {key: value, "w": w, "fid": fid, "is_mean": score}
        for value, (fids, scores) in numbers.items()
        for w, fid, score in zip(W, fids, scores, strict=True)
    ]
    rows = pd.DataFrame(points).assign(
        sweep="paper",
        status="ok",
        reason=None,
        dataset="digits",
        sampler="ancestral",
        v=0.3,
        guidance="cfg",
        seed=0,
        samples=50_000,
        fid_se=None,
        is_std=1.0,
        is_se=None,
        nfe=512,
        seconds=1.0,
        images_per_second=1.0,
        protocol="clip on; fp32",
        features_id="digits-0123456789ab",
        reference_id="fedcba",
        device="cpu",
        precision="fp32",
        cfgbench_version="0.1.0",
        created="2024-01-01T00:00:00.000+00:00",
        **fixed,
    )
    rows["checkpoint_id"] = [f"model-{p}" for p in rows["p_uncond"]]
    rows["cell_id"] = [f"cell{number:03}" for number in range(len(rows))]
    return rows


@pytest.fixture
def table1():
    """64x64, T = 256, a column per p_uncond."""
    return make_rows(TABLE_1, "p_uncond", T=256)


@pytest.fixture
def table2():
    """128x128, p_uncond = 0.1, a column per T."""
    return make_rows(TABLE_2, "T", p_uncond=0.1)


@pytest.fixture
def both(table1):
    """p_uncond and T vary."""
    parts = [table1.assign(T=T, fid=table1["fid"] + 64 / T, cell_id=table1["cell_id"] + f"-{T}") for T in (8, 16, 32)]
    return pd.concat(parts, ignore_index=True)


def fail(rows, number, reason):
    """Turns one row into that of a failed cell."""
    rows.loc[number, ["status", "reason"]] = ["failed", reason]
    rows.loc[number, ["fid", "is_mean", "is_std"]] = None
    return rows


@pytest.fixture
def with_failures(table1):
    """Two cells (w 0.1 and w 0.5 at p_uncond 0.1) failed for one reason, one (w 0 at 0.2) for another."""
    for number, reason in ((1, "out of memory | 50% of a_b & c"), (5, "out of memory | 50% of a_b & c"), (14, "NaN")):
        fail(table1, number, reason)
    return table1
