import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric

from cfgbench.evaluation.extractors import ClassifierFeatures, Features
from cfgbench.evaluation.metrics import frechet_distance, inception_score
from cfgbench.evaluation.statistics import Moments, Predictions
from cfgbench.evaluation.stream import Accumulator


def features(n, d, seed=0):
    """Correlated and skewed, as real features are."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.gamma(2.0, size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d))


def fid(a, b):
    return frechet_distance(Moments.of(a), Moments.of(b))


def test_moments_are_numpys():
    x = features(50, 7)
    assert np.allclose(Moments.of(x).mean, x.mean(dim=0), rtol=1e-12)
    assert np.allclose(Moments.of(x).covariance, np.cov(x.numpy(), rowvar=False), rtol=1e-10)  # n - 1


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(1, 39), max_size=6), order=st.randoms(use_true_random=False))
def test_any_split_in_any_order_merges_to_the_whole(cuts, order):
    x = features(40, 5)
    borders = sorted({0, 40, *cuts})
    parts = [x[a:b] for a, b in zip(borders, borders[1:], strict=False)]
    order.shuffle(parts)
    merged, whole = Moments.empty(), Moments.of(x)
    predictions = Predictions.empty()
    for part in parts:
        merged, predictions = merged.merge(Moments.of(part)), predictions.merge(Predictions.of(part))
    assert merged.n == 40
    assert torch.allclose(merged.mean, whole.mean, rtol=1e-12, atol=1e-12)
    assert torch.allclose(merged.scatter, whole.scatter, rtol=1e-10, atol=1e-9)
    assert inception_score([predictions])[0] == pytest.approx(inception_score([Predictions.of(x)])[0], rel=1e-12)


def test_shifted_features_are_the_squared_shift_apart():
    x = features(200, 6)
    delta = torch.arange(6.0, dtype=torch.float64)
    assert fid(x, x + delta) == pytest.approx((delta @ delta).item(), rel=1e-9)
    assert fid(x, x) == pytest.approx(0, abs=1e-9 * x.square().sum().item())


def test_scaled_features_follow_the_closed_form():
    x = features(300, 4) - features(300, 4).mean(dim=0)
    trace = Moments.of(x).covariance.trace().item()
    assert fid(x, 3 * x) == pytest.approx(4 * trace, rel=1e-9)  # tr(S + 9 S - 2 * 3 S)


@pytest.mark.parametrize(("n", "m"), [(300, 400), (300, 20), (15, 20), (15, 400)])
def test_fid_agrees_with_torch_fidelity_sqrtm_and_the_nuclear_norm(n, m):
    a, b = features(n, 32, 1), features(m, 32, 1) * 1.3 + 0.1
    b = b.flip(1)
    found = fid(a, b)
    assert np.isfinite(found)
    assert found >= 0
    centred = [(x - x.mean(dim=0)) / (len(x) - 1) ** 0.5 for x in (a, b)]
    nuclear = np.linalg.svd(centred[0].numpy() @ centred[1].numpy().T, compute_uv=False).sum()
    by_hand = (a.mean(0) - b.mean(0)).square().sum() + sum(x.square().sum() for x in centred) - 2 * nuclear
    assert found == pytest.approx(by_hand.item(), rel=1e-6)
    if min(n, m) > 32:
        root = scipy.linalg.sqrtm(np.cov(a.numpy(), rowvar=False) @ np.cov(b.numpy(), rowvar=False)).real
        assert found == pytest.approx((by_hand + 2 * nuclear - 2 * np.trace(root)).item(), rel=1e-6)
        statistics = [fid_features_to_statistics(x) for x in (a, b)]
        theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
        assert found == pytest.approx(float(theirs), rel=1e-6)


def test_dead_features_change_nothing():
    a, b = features(100, 5, 2), features(100, 5, 3)
    dead = torch.zeros(100, 3, dtype=torch.float64)
    assert fid(torch.cat([a, dead], 1), torch.cat([b, dead], 1)) == pytest.approx(fid(a, b), rel=1e-9)


def test_one_image_has_no_covariance_and_dimensions_must_agree():
    with pytest.raises(ValueError, match="at least 2 images"):
        fid(features(1, 3), features(9, 3))
    with pytest.raises(ValueError, match="3 and of 4 dimensions"):
        fid(features(9, 3), features(9, 4))


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        Moments.of(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(ValueError, match="not finite"):
        Predictions.of(torch.tensor([[1.0, float("inf")]]))


def test_inception_score_of_certain_and_of_constant_predictions():
    certain = Predictions.of(1000 * torch.eye(7).repeat(3, 1))
    assert inception_score([certain, certain]) == pytest.approx((7, 0))
    assert inception_score([Predictions.of(torch.zeros(5, 7))])[0] == pytest.approx(1)
    with pytest.raises(ValueError, match="at least one image"):
        inception_score([Predictions.empty()])


@pytest.mark.parametrize("n", [100, 1003])
def test_inception_score_is_torch_fidelitys_for_any_batch_size(n):
    logits = features(n, 10, 4)
    theirs = isc_features_to_metric(logits, splits=10, shuffle=False)
    for batch in (1, 64, n):
        accumulator = Accumulator(n)
        for first in range(0, n, batch):
            accumulator.add(first, Features(logits[first : first + batch], logits[first : first + batch]))
        mean, std = inception_score(accumulator.predictions)
        assert mean == pytest.approx(float(theirs["inception_score_mean"]), rel=1e-6)
        assert std == pytest.approx(float(theirs["inception_score_std"]), rel=1e-6)
        assert accumulator.moments.n == n


def test_moments_survive_the_disk_and_a_cut_file_is_refused(tmp_path):
    moments = Moments.of(features(20, 3))
    path = tmp_path / "m.npz"
    moments.save(path)
    again = Moments.load(path)
    assert again.n == 20
    assert torch.equal(again.scatter, moments.scatter)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"m\.npz"):
        Moments.load(path)


def test_padded_images_are_cut_to_the_middle_and_small_ones_refused():
    seen = []
    extractor = ClassifierFeatures(
        lambda x: (seen.append(x), (x.flatten(1), None))[1], "x", side=2, device=torch.device("cpu")
    )
    extractor(torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4) * 17)
    assert seen[0].flatten().tolist() == pytest.approx([v * 17 / 127.5 - 1 for v in (5, 6, 9, 10)])
    with pytest.raises(ValueError, match="2 x 2 pixels"):
        extractor(torch.zeros(1, 1, 1, 1, dtype=torch.uint8))
