import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cfgbench.evaluation.statistics import Moments, Predictions, RunningMoments


def _features(n: int, d: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, d)) @ generator.normal(size=(d, d)) + generator.normal(size=d)


def _assert_same(a: Moments, b: Moments) -> None:
    assert a.n == b.n
    torch.testing.assert_close(a.mean, b.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(a.scatter, b.scatter, rtol=1e-11, atol=1e-11)


def test_moments_are_those_of_numpy():
    x = _features(50, 7)
    moments = Moments.of(torch.from_numpy(x))
    np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(x, rowvar=False), rtol=1e-11)


def test_the_covariance_divides_by_n_minus_1():
    assert Moments.of(torch.tensor([[0.0], [2.0]])).covariance.item() == 2


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_have_no_covariance(n):
    with pytest.raises(ValueError, match=f"at least 2 images, not {n}"):
        _ = Moments.of(torch.ones(n, 3)).covariance


def test_float32_features_far_from_zero_keep_their_covariance():
    x = (1e5 + _features(400, 5)).astype(np.float32)  # sums of squares would lose it all: 1e10 * 1e-7 = 1e3
    halves = [Moments.of(torch.from_numpy(half)) for half in np.split(x, 2)]
    expected = np.cov(x.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(halves[0].merge(halves[1]).covariance, expected, rtol=1e-8)


@settings(deadline=None, max_examples=50)
@given(borders=st.lists(st.integers(0, 40), max_size=5), order=st.randoms(use_true_random=False))
def test_any_split_merged_in_any_order_gives_the_whole(borders, order):
    x = torch.from_numpy(_features(40, 4))
    parts = [Moments.of(part) for part in x.tensor_split(sorted(borders))]
    order.shuffle(parts)
    merged = Moments.empty()
    for part in parts:
        merged = merged.merge(part)
    _assert_same(merged, Moments.of(x))


def test_merging_is_associative_and_commutative():
    a, b, c = (Moments.of(torch.from_numpy(_features(n, 3, seed=n))) for n in (2, 9, 30))
    _assert_same(a.merge(b).merge(c), a.merge(b.merge(c)))
    _assert_same(a.merge(b), b.merge(a))


@pytest.mark.parametrize("size", [1, 7, 400])
def test_blocks_that_are_taken_in_give_the_whole_and_leave_what_was_given_out(size):
    x = torch.from_numpy((1e5 + _features(400, 5)).astype(np.float32))
    running, first = RunningMoments(), Moments.of(x[:size])
    for block in x.split(size):
        running.add(block)
        if running.moments.n == size:
            given = running.moments
    running.add(x[:0])
    _assert_same(given, first)
    assert running.moments.n == 400
    torch.testing.assert_close(running.moments.mean, Moments.of(x).mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(running.moments.scatter, Moments.of(x).scatter, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="5 and of 3 dimensions"):
        running.add(x[:, :3])
    later = RunningMoments(given)
    for block in x[given.n :].split(size):
        later.add(block)
    assert torch.equal(later.moments.scatter, running.moments.scatter)
    assert torch.equal(later.moments.mean, running.moments.mean)
    _assert_same(given, first)


def test_different_dimensions_do_not_merge():
    with pytest.raises(ValueError, match="3 and of 1 dimensions"):
        Moments.of(torch.ones(2, 3)).merge(Moments.of(torch.ones(2, 1)))
    with pytest.raises(ValueError, match="3 and of 1 classes"):
        Predictions.of(torch.ones(2, 3)).merge(Predictions.of(torch.ones(2, 1)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("statistic", [Moments, Predictions])
def test_numbers_that_are_not_finite_are_refused(statistic, bad):
    values = torch.ones(5, 3)
    values[1, 2] = values[1, 0] = values[4, 0] = bad
    with pytest.raises(ValueError, match="not finite, in 2 of 5 images"):
        statistic.of(values)


def test_predictions_are_those_of_numpy():
    logits = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32) * 10
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    predictions = Predictions.of(torch.from_numpy(logits))
    assert predictions.n == 20
    np.testing.assert_allclose(predictions.sum_p, p.sum(axis=0), rtol=1e-13)
    assert predictions.sum_p_log_p == pytest.approx((p * np.log(p)).sum(), rel=1e-13)


def test_certain_predictions_have_no_entropy():
    predictions = Predictions.of(torch.tensor([[2000.0, 0.0], [0.0, 2000.0]]))  # p is exactly 0 or 1
    assert predictions.sum_p.tolist() == [1, 1]
    assert predictions.sum_p_log_p == 0


def test_predictions_merge_to_the_whole():
    logits = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    whole, merged = Predictions.of(logits), Predictions.empty()
    for part in reversed(logits.tensor_split([0, 1, 11])):
        merged = merged.merge(Predictions.of(part))
    assert merged.n == whole.n
    torch.testing.assert_close(merged.sum_p, whole.sum_p)
    assert merged.sum_p_log_p == pytest.approx(whole.sum_p_log_p, rel=1e-13)
