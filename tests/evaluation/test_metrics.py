import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cfgbench.evaluation import metrics
from cfgbench.evaluation.metrics import factor, frechet_distance, inception_score
from cfgbench.evaluation.statistics import Moments, Predictions


def _set(n: int, d: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, d)) @ generator.normal(size=(d, d)) + generator.normal(size=d)


def _fid(x: np.ndarray, y: np.ndarray) -> float:
    return frechet_distance(Moments.of(torch.from_numpy(x)), Moments.of(torch.from_numpy(y)))


def _gaussian(mean: np.ndarray, covariance: np.ndarray, n: int = 1000) -> Moments:
    return Moments(n, torch.from_numpy(mean), torch.from_numpy(covariance) * (n - 1))


def _by_the_nuclear_norm(x: np.ndarray, y: np.ndarray) -> float:
    """The distance from the data themselves: no covariance is made and no root taken."""
    centred_x, centred_y = ((z - z.mean(axis=0)) / np.sqrt(len(z) - 1) for z in (x, y))
    root = np.linalg.svd(centred_x @ centred_y.T, compute_uv=False).sum()
    delta = x.mean(axis=0) - y.mean(axis=0)
    return delta @ delta + (centred_x**2).sum() + (centred_y**2).sum() - 2 * root


RANKS = pytest.mark.parametrize(("n", "d"), [(200, 12), (12, 12), (13, 12), (7, 30), (2, 5)])


@RANKS
def test_shifted_data_are_as_far_as_the_shift_squared(n, d):
    x, delta = _set(n, d, 0), np.linspace(1, 2, d)
    assert _fid(x, x + delta) == pytest.approx(delta @ delta, rel=1e-9)


@RANKS
def test_data_scaled_about_their_mean_have_a_closed_form_at_every_rank(n, d):
    x = _set(n, d, 0)
    y = x.mean(axis=0) + 3 * (x - x.mean(axis=0))  # S_y = 9 S_x, so the distance is tr S_x (1 - 3)^2
    assert _fid(x, y) == pytest.approx(4 * np.trace(np.cov(x, rowvar=False)), rel=1e-9)


@RANKS
def test_a_set_is_at_no_distance_from_itself_and_never_below(n, d):
    x = _set(n, d, 1)
    for y in (x, x[::-1].copy()):
        assert 0 <= _fid(x, y) < 1e-8 * np.cov(x, rowvar=False).trace()


@settings(deadline=None, max_examples=100)
@given(n=st.integers(2, 9), d=st.integers(1, 8), copies=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_no_distance_is_negative_whatever_is_degenerate(n, d, copies, seed):
    x = np.repeat(np.round(_set(n, d, seed)), copies, axis=1)  # repeated features, and by rounding some dead ones
    y = np.concatenate([x, x[:1]])
    assert 0 <= _fid(x, x.copy()) < 1e-6
    assert 0 <= _fid(x, y) < np.inf


def test_what_is_no_covariance_is_said_and_gives_no_distance_of_zero():
    broken, whole = _gaussian(np.zeros(2), np.diag([1.0, -5.0])), _gaussian(np.zeros(2), np.eye(2))
    for both in ((broken, whole), (whole, broken)):
        with pytest.raises(ValueError, match="one of the covariances is none; its file is damaged"):
            frechet_distance(*both)


@pytest.mark.parametrize("rotated", [False, True])
def test_gaussians_with_common_axes_have_a_closed_form(rotated):
    generator = np.random.default_rng(0)
    mean_a, mean_b = generator.normal(size=(2, 6))
    sd_a, sd_b = generator.uniform(0.1, 3, size=(2, 6))
    axes = np.linalg.qr(generator.normal(size=(6, 6)))[0] if rotated else np.eye(6)
    a, b = (_gaussian(m, axes @ np.diag(s**2) @ axes.T) for m, s in ((mean_a, sd_a), (mean_b, sd_b)))
    expected = ((mean_a - mean_b) ** 2).sum() + ((sd_a - sd_b) ** 2).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_the_covariance_is_the_unbiased_one():
    assert _fid(np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]])) == pytest.approx(2, rel=1e-12)  # n would give 1


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 16), (40, 300, 32)])
def test_distance_agrees_with_scipys_matrix_root(n, m, d):
    x, y = _set(n, d, 0), _set(m, d, 1)
    s_x, s_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(s_x @ s_y)
    delta = x.mean(axis=0) - y.mean(axis=0)
    expected = delta @ delta + np.trace(s_x) + np.trace(s_y) - 2 * np.trace(root).real
    assert _fid(x, y) == pytest.approx(expected, rel=1e-8)
    assert _fid(y, x) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("n", "m", "d"), [(10, 25, 40), (40, 40, 40), (5, 500, 40)])
def test_fewer_images_than_features_agree_with_the_nuclear_norm_of_the_centred_product(n, m, d):
    x, y = _set(n, d, 0), _set(m, d, 1)
    assert _fid(x, y) == pytest.approx(_by_the_nuclear_norm(x, y), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_features_that_depend_on_each_other_in_one_set_only(seed):
    x, y = _set(100, 12, seed), _set(100, 12, seed + 10)
    x[:, 6:] = x[:, :6] @ np.random.default_rng(seed).normal(size=(6, 6))
    expected = _by_the_nuclear_norm(x, y)
    assert _fid(x, y) == pytest.approx(expected, rel=1e-9)
    assert _fid(y, x) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("d", [12, 600])
def test_a_small_distance_of_large_variances_is_exact_where_eigenvalues_are_rounding_error(d, seed):
    """Against a set that is flat in half of its directions, where the other varies little."""
    axes = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]
    sd = np.r_[np.full(d // 2, 1e3), np.full(d // 2, 1e-1)]
    z = np.random.default_rng(seed).normal(size=(d + 100, d))
    x, y = z * sd @ axes, z * np.where(sd < 1, 0, sd) @ axes
    assert _fid(x, y) == pytest.approx(_by_the_nuclear_norm(x, y), rel=1e-6)


def test_full_rank_is_spared_the_slow_factors(monkeypatch):
    x, y = _set(200, 12, 0), _set(200, 12, 1)
    expected = _by_the_nuclear_norm(x, y)
    monkeypatch.delattr(torch.linalg, "svdvals")
    assert _fid(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(20, 300), (300, 20), (20, 30)])
def test_fewer_images_than_features_are_spared_the_slow_factors_too(monkeypatch, n, m):
    x, y = _set(n, 40, 0), _set(m, 40, 1)
    expected = _by_the_nuclear_norm(x, y)
    for slow in ("svdvals", "eigh"):
        monkeypatch.delattr(torch.linalg, slow)
    assert _fid(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("spoil", "pivots"),
    [
        (lambda x: x, False),
        (lambda x: np.maximum(x, 0), False),  # as pooled features are
        (lambda x: np.hstack([x[:, :50], x[:, :50] + 1e-3 * x[:, 50:100], x[:, 100:]]), True),  # nearly two of one
        (lambda x: np.hstack([np.zeros((200, 3)), x[:, 3:]]), True),  # dead features are the first
        (lambda x: np.hstack([x[:, :50], x[:, :50], x[:, 100:]]), True),  # two of the first are one
        (lambda x: np.vstack([x[:100], x[:100]]), True),
    ],
)
def test_the_first_features_of_few_images_tell_the_others_unless_they_cannot(monkeypatch, spoil, pivots):
    x, y, seen = spoil(_set(200, 600, 0)), _set(700, 600, 1) * 1.1, []
    honest = metrics._pivoted_factor
    monkeypatch.setattr(metrics, "_pivoted_factor", lambda s: seen.append(s) or honest(s))
    assert _fid(x, y) == pytest.approx(_by_the_nuclear_norm(x, y), rel=1e-9)
    assert bool(seen) == pivots


@pytest.mark.parametrize(("n", "rank"), [(200, 30), (31, 30), (30, 29), (8, 7), (2, 1)])
def test_a_factor_has_the_rank_of_its_data_and_gives_back_their_covariance(n, rank):
    covariance = Moments.of(torch.from_numpy(_set(n, 30, 0))).covariance
    f = factor(covariance)
    assert f.shape == (30, rank)
    torch.testing.assert_close(f @ f.T, covariance, rtol=1e-10, atol=1e-10)


def test_a_covariance_that_was_kept_in_float32_has_a_factor_as_near_as_that():
    covariance = Moments.of(torch.from_numpy(_set(8, 30, 0))).covariance
    kept = covariance.float().double()
    assert torch.linalg.eigvalsh(kept)[0] < -1e-7  # below zero, where no covariance has anything
    f = factor(kept)
    torch.testing.assert_close(f @ f.T, covariance, rtol=0, atol=1e-6 * covariance.diagonal().max().item())


def test_what_hides_behind_variances_of_zero_is_seen():
    s = torch.zeros(4, 4, dtype=torch.float64)
    s[0, 1] = s[1, 0] = s[2, 2] = 1  # eigenvalues 1, 1, 0 and -1: no covariance, and pivots see only the first
    assert factor(s).shape == (4, 2)


def test_distance_agrees_with_torch_fidelity():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    x, y = _set(500, 64, 0), _set(700, 64, 1)
    statistics = [fid_features_to_statistics(torch.from_numpy(z)) for z in (x, y)]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert _fid(x, y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dead", ["none in either", "one only", "a copy", "another constant"])
def test_dead_features_change_nothing_but_their_mean(dead):
    x, y = _set(100, 6, 0), _set(90, 6, 1)
    more_x, more_y = np.zeros((100, 3)), np.zeros((90, 3))
    expected = _fid(x, y)
    if dead == "one only":
        more_y = np.random.default_rng(2).normal(size=(90, 3))
        affine = np.c_[np.ones(90), y]
        more_y -= affine @ np.linalg.lstsq(affine, more_y)[0]  # of mean 0, uncorrelated with y
        expected += np.cov(more_y, rowvar=False).trace()
    elif dead == "a copy":
        more_x, more_y = x[:, :3], y[:, :3]
        scale = np.diag([2**0.5] * 3 + [1] * 3)  # (x, x) is an isometric image of sqrt(2) x
        expected = _fid(x @ scale, y @ scale)
    elif dead == "another constant":
        more_x, more_y = more_x + 5, more_y + 3
        expected += 3 * 2**2
    assert _fid(np.c_[x, more_x], np.c_[y, more_y]) == pytest.approx(expected, rel=1e-9)


def test_all_features_dead_leaves_the_means():
    assert _fid(np.full((9, 3), 1.0), np.full((9, 3), 3.0)) == 12


def test_distance_ignores_the_order_of_the_sets_and_a_common_rotation():
    x, y = _set(50, 8, 0), _set(60, 8, 1)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))[0]
    assert _fid(y, x) == pytest.approx(_fid(x, y), rel=1e-10)
    assert _fid(x @ rotation, y @ rotation) == pytest.approx(_fid(x, y), rel=1e-10)


def test_sets_that_cannot_be_compared():
    with pytest.raises(ValueError, match="3 and of 4 dimensions"):
        _fid(np.ones((5, 3)), np.ones((5, 4)))
    with pytest.raises(ValueError, match="at least 2 images"):
        _fid(np.ones((1, 3)), np.ones((5, 3)))


def _splits(logits: torch.Tensor, splits: int) -> list[Predictions]:
    return [Predictions.of(part) for part in logits.tensor_split(splits)]


def test_certain_and_diverse_predictions_score_the_number_of_classes():
    mean, std = inception_score(_splits(2000 * torch.eye(7).repeat(20, 1), 10))
    assert mean == pytest.approx(7, rel=1e-12)
    assert std == pytest.approx(0, abs=1e-12)


def test_predictions_that_say_nothing_score_one():
    assert inception_score(_splits(torch.ones(50, 7), 10)) == pytest.approx((1, 0), abs=1e-12)
    assert inception_score(_splits(2000 * torch.eye(7)[:1].repeat(50, 1), 10)) == pytest.approx((1, 0), abs=1e-12)


def test_half_certain_predictions_have_a_closed_form():
    p = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    expected = 2 * np.exp(0.9 * np.log(0.9) + 0.1 * np.log(0.1))  # exp(log 2 - entropy)
    assert inception_score([Predictions.of(p.log())])[0] == pytest.approx(expected, rel=1e-12)


def test_splits_are_averaged_after_exp_with_population_deviation():
    one, seven = Predictions.of(torch.ones(7, 7)), Predictions.of(2000 * torch.eye(7))
    assert inception_score([one, seven]) == pytest.approx((4, 3), rel=1e-12)


@pytest.mark.parametrize("n", [100, 1003])
def test_score_agrees_with_torch_fidelity(n):
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = 3 * torch.randn(n, 12, generator=torch.Generator().manual_seed(n))
    expected = isc_features_to_metric(logits, splits=10, shuffle=False)
    splits = [Predictions.of(logits[i * n // 10 : (i + 1) * n // 10]) for i in range(10)]
    found = inception_score(splits)
    assert found[0] == pytest.approx(expected["inception_score_mean"], rel=1e-10)
    assert found[1] == pytest.approx(expected["inception_score_std"], rel=1e-6)


def test_a_split_without_images_has_no_score():
    for splits in ([], [Predictions.of(torch.ones(3, 2)), Predictions.empty()]):
        with pytest.raises(ValueError, match="at least one image in each split"):
            inception_score(splits)
