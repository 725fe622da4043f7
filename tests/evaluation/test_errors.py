"""Errors in closed form, by numerical derivatives, and against the spread of repeated draws."""

import math

import numpy as np
import pytest
import torch

from cfgbench.evaluation.accumulator import REST, quarters_of
from cfgbench.evaluation.features import Features
from cfgbench.evaluation.influence import QuadraticForm, fid_influence, is_influence
from cfgbench.evaluation.measure import INTERCEPTS, measure
from cfgbench.evaluation.metrics import factor, frechet_distance, inception_score
from cfgbench.evaluation.standard_error import standard_error
from cfgbench.evaluation.statistics import Moments, Predictions


def features(n, d, seed, scale=1.0, shift=0.0):
    """Skewed, correlated feature vectors."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=torch.Generator().manual_seed(99), dtype=torch.float64) / d**0.5
    return torch.relu(scale * torch.randn(n, d, generator=generator, dtype=torch.float64) @ mix + 0.3 + shift)


def influence(x, reference):
    return fid_influence(Moments.of(x), reference.mean, factor(reference.covariance))[0]


def blocks(pooled, logits=None, size=1000):
    firsts = range(0, len(pooled), size)
    return lambda: (
        (i, Features(pooled[i : i + size], None if logits is None else logits[i : i + size])) for i in firsts
    )


def test_the_influence_is_the_derivative_of_the_fid_in_the_weight_of_an_image():
    x, reference = features(400, 6, 0, 1.2), Moments.of(features(500, 6, 1))
    q = influence(x, reference).of(x)

    def fid(weights):
        mean = weights @ x
        centred = x - mean
        covariance = (centred.T * weights) @ centred
        return frechet_distance(Moments(10**9, mean, covariance * (10**9 - 1)), reference)

    uniform = torch.full((400,), 1 / 400, dtype=torch.float64)
    ours = fid_influence(Moments(401, x.mean(0), (x - x.mean(0)).T @ (x - x.mean(0))), reference.mean,
                        factor(reference.covariance))[0].of(x)  # fmt: skip
    for i in (0, 7, 123):
        step = 1e-5
        more = uniform * (1 - step)
        more[i] += step
        less = uniform * (1 + step)
        less[i] -= step
        slope = (fid(more) - fid(less)) / (2 * step)
        assert slope == pytest.approx((ours[i] - ours.mean()).item(), rel=1e-4, abs=1e-6)
    torch.testing.assert_close(q, ours, rtol=0.02, atol=0.02)  # n - 1 for n


@pytest.mark.parametrize(("n", "n0", "d"), [(400, 500, 6), (500, 300, 6), (900, 400, 700), (900, 2000, 700)])
def test_the_eigenvalues_that_the_influence_takes_give_the_same_fid(n, n0, d):
    """Of sets of fewer images than the reference and of more, whose features have another number than theirs of
    dimensions in which they vary."""
    x, reference = Moments.of(features(n, d, 0, 1.2)), Moments.of(features(n0, d, 1))
    _, eigenvalues = fid_influence(x, reference.mean, factor(reference.covariance))
    wanted = frechet_distance(x, reference)
    assert frechet_distance(x, reference, eigenvalues) == pytest.approx(wanted, rel=1e-11)
    assert frechet_distance(reference, x, eigenvalues) == pytest.approx(wanted, rel=1e-11)
    assert frechet_distance(x, reference, 1.001 * eigenvalues) != pytest.approx(wanted, rel=1e-5)


def test_features_of_other_dimensions_are_not_compared():
    x, reference = Moments.of(features(100, 6, 0)), Moments.of(features(100, 5, 1))
    for compared in (lambda: frechet_distance(x, reference), lambda: influence(features(100, 6, 0), reference)):
        with pytest.raises(ValueError, match="features of 6 and of 5 dimensions cannot be compared"):
            compared()


def test_weighted_influences_are_one_form_whatever_they_are_written_about():
    reference, x = Moments.of(features(500, 6, 1)), features(60, 6, 0)
    forms = [influence(features(50, 6, seed, 1.2, shift), reference) for seed, shift in ((2, 0.0), (3, 1.0), (4, -0.5))]
    forms[1] = QuadraticForm(forms[1].centre, forms[1].slope, forms[1].matrix, 3.0)
    weights = 1.0, 0.5, -0.75
    together = QuadraticForm.weighted(list(zip(weights, forms, strict=True)))
    expected = sum(weight * form.of(x) for weight, form in zip(weights, forms, strict=True))
    torch.testing.assert_close(together.of(x), expected, rtol=1e-10, atol=1e-10)
    samples = Moments.of(features(50, 6, 3, 1.2, 1.0))
    mean = forms[1].of(features(50, 6, 3, 1.2, 1.0)).mean().item()
    assert forms[1].mean(samples) == pytest.approx(mean, rel=1e-12)


def test_a_shifted_gaussian_has_its_error_in_closed_form():
    # equal covariances: A = I, q = 2 (x - m)^T delta, so that the error is 2 |delta|_S / sqrt(n)
    x = features(2000, 5, 0)
    delta = torch.linspace(1, 2, 5, dtype=torch.float64)
    moments = Moments.of(x)
    reference = Moments(moments.n, moments.mean - delta, moments.scatter)
    found = measure(blocks(x), 2000, fid_against=reference, inception=False).numbers
    assert found["fid"] == pytest.approx((delta @ delta).item(), rel=1e-9)
    expected = 2 * math.sqrt(delta @ moments.covariance @ delta) / math.sqrt(2000)
    assert found["fid_se"] == pytest.approx(expected, rel=1e-6)


def test_errors_are_the_spread_of_repeated_draws_and_pairs_take_out_what_is_shared():
    reference, found = Moments.of(features(20_000, 8, 1)), []
    for seed in range(2, 202):
        ours, theirs = (measure(blocks(x), 500, fid_against=reference, inception=False)
                        for x in (features(500, 8, seed, 1.3), features(500, 8, seed, 1.25)))  # fmt: skip
        paired = standard_error(ours.influences["fid"] - theirs.influences["fid"])
        found.append([ours.numbers["fid"], ours.numbers["fid_se"], ours.numbers["fid"] - theirs.numbers["fid"], paired])
    fid, se, difference, paired = np.array(found).T
    assert se.mean() == pytest.approx(fid.std(ddof=1), rel=0.15)  # of 200 draws, itself known to 5 %
    assert paired.mean() == pytest.approx(difference.std(ddof=1), rel=0.15)
    assert paired.mean() < se.mean() / 3


def test_the_extrapolated_fid_is_nearer_to_the_truth_and_its_error_holds():
    reference, fake = Moments.of(features(20_000, 16, 1)), features(20_000, 16, 2, 1.1)
    truth = frechet_distance(Moments.of(fake), reference)
    draws = np.random.default_rng(0).integers(0, 20_000, (100, 200))
    found = [measure(blocks(fake[i]), 200, fid_against=reference, inception=False).numbers for i in draws]
    fid, infinity, se = (np.array([one[key] for one in found]) for key in ("fid", "fid_infinity", "fid_infinity_se"))
    assert np.mean(abs(infinity - truth) < abs(fid - truth)) > 0.9
    assert np.mean(abs(infinity - truth) < 1.96 * se) > 0.88


@pytest.mark.parametrize("each", [5, 8, 10])
def test_so_it_is_with_few_images_of_each_of_many_classes(each):
    classes, d = 40, 6
    centres = features(classes, d, 5)
    spread = centres.T.cov(correction=0) + 0.01 * torch.eye(d, dtype=torch.float64)
    reference = Moments.of(features(2000, d, 1, 1.5))
    truth = frechet_distance(Moments(10**9, centres.mean(0), spread * (10**9 - 1)), reference)
    labels = np.arange(each * classes) % classes
    noise = torch.Generator().manual_seed(0)
    draws = [
        centres[labels] + 0.1 * torch.randn(len(labels), d, generator=noise, dtype=torch.float64) for _ in range(100)
    ]
    found = [measure(blocks(x), len(x), fid_against=reference, inception=False, labels=labels).numbers for x in draws]
    infinity, se = (np.array([one[key] for one in found]) for key in ("fid_infinity", "fid_infinity_se"))
    assert abs(infinity.mean() - truth) < 4 * infinity.std() / 10
    assert se.mean() == pytest.approx(infinity.std(ddof=1), rel=0.3)


@pytest.mark.parametrize(("n", "d"), [(400, 6), (90, 20)])
@pytest.mark.parametrize("classes", [1, 7])
def test_the_extrapolations_error_is_that_of_its_parts(n, d, classes):
    """q_i of the part that image i is in, less the part's mean, weighted as the parts' FIDs are; quarters, or halves
    alone, with all images in them or some in none."""
    x, reference, labels = features(n, d, 0, 1.2), Moments.of(features(500, d, 1)), np.arange(n) % classes
    quarters = quarters_of(n, labels)
    dealt = quarters != REST
    assert dealt.all() == (classes == 1 and n % 4 == 0)
    expected, q = 0.0, np.zeros(n)
    weights = INTERCEPTS[4 if dealt.sum() // 4 >= 2 * d else 2]
    for k, weight in weights.items():
        for number in range(k):
            mine = dealt & (quarters % k == number)
            expected += weight / k * frechet_distance(Moments.of(x[mine]), reference)
            of_part = influence(x[mine], reference).of(x[mine])
            q[mine] += weight * (of_part - of_part.mean()).numpy()
    found = measure(blocks(x), n, fid_against=reference, inception=False, labels=labels).numbers
    assert found["fid_infinity"] == pytest.approx(expected, rel=1e-9)
    assert found["fid_infinity_se"] == pytest.approx(standard_error(q[dealt], labels[dealt]), rel=1e-9)


def test_a_line_in_one_over_n_is_continued_exactly(monkeypatch):
    from cfgbench.evaluation import measure as module

    monkeypatch.setattr(module, "frechet_distance", lambda moments, *_: 3 + 5 / moments.n)
    for n in (400, 50):  # halves and quarters; halves alone
        found = measure(blocks(features(n, 8, 0)), n, fid_against=Moments.of(features(n, 8, 1)), inception=False)
        assert found.numbers["fid_infinity"] == pytest.approx(3, rel=1e-9)


@pytest.mark.parametrize(("n", "error", "limit"), [(8, False, False), (9, True, False), (32, True, True)])
def test_with_too_few_images_no_error_is_given(n, error, limit):
    found = measure(blocks(features(n, 8, 0)), n, fid_against=Moments.of(features(99, 8, 1)), inception=False).numbers
    assert (found.get("fid_se") is not None) == error
    assert (found["fid_infinity"] is not None) == limit
    assert (found.get("fid_infinity_se") is not None) == limit


@pytest.mark.parametrize("spread", [2, 6, 8, 10])
def test_the_influence_is_known_whatever_the_variances_are(spread):
    """In closed form where both covariances are diagonal, here turned: q_i = sum (1 - (t/s)^(1/2)) (x - m)^2."""
    d = 12
    turn = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    s, t = torch.logspace(0, -spread, d, dtype=torch.float64), torch.logspace(0.3, -spread - 0.1, d).double()
    samples = Moments(5000, torch.zeros(d).double(), (turn * s) @ turn.T * 4999)
    form, eigenvalues = fid_influence(samples, torch.zeros(d).double(), factor((turn * t) @ turn.T))
    x = turn.T  # a direction each, of length 1
    torch.testing.assert_close(form.of(x) - form.of(0 * x), 1 - (t / s).sqrt(), rtol=0, atol=10.0 ** (spread - 14))
    torch.testing.assert_close(eigenvalues, (s * t).flip(0), rtol=10.0 ** (spread - 14), atol=0)


def test_a_direction_in_which_only_the_reference_varies_leaves_no_error():
    x, reference = features(100, 4, 0), features(100, 4, 1)
    x[:, 0] = 2.0
    assert "fid_se" not in measure(blocks(x), 100, fid_against=Moments.of(reference), inception=False).numbers
    reference[:, 0] = 2.0  # dead in both: nothing that could vary
    assert measure(blocks(x), 100, fid_against=Moments.of(reference), inception=False).numbers["fid_se"] > 0


@pytest.mark.parametrize("there", [200, 399, 401])
def test_other_than_the_announced_images_are_no_result(there):
    x, reference = features(there, 3, 0), Moments.of(features(100, 3, 1))
    with pytest.raises(ValueError, match=r"200 images, not 400|399 images, not 400|images 0 to 400 of 400"):
        measure(blocks(x), 400, fid_against=reference, inception=False)


def test_a_probability_that_is_nothing_on_average_costs_nothing():
    logits = torch.zeros(20, 3, dtype=torch.float64)
    logits[0, 2], logits[1:, 2] = -743.5, -800.0
    numbers = measure(blocks(torch.ones(20, 2), logits), 20, fid_against=None, inception=True).numbers
    assert numbers["is_se"] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_number_that_is_none_is_no_result():
    x, reference = 1e100 * features(100, 3, 0), Moments.of(features(100, 3, 1))
    with pytest.raises(ValueError, match="fid_se is inf"):
        measure(blocks(x), 100, fid_against=reference, inception=False)


def test_the_inception_scores_influence_is_its_derivative():
    logits = 3 * torch.randn(300, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    every = Predictions.of(logits)
    q = is_influence(logits, every)
    score = inception_score([every])[0]
    assert score * math.log(score) == pytest.approx(q.mean().item(), rel=1e-12)  # KL of all to their mean
    p = logits.softmax(dim=1)

    def score_of(weights):
        mean = weights @ p
        return math.exp((weights @ (p * p.log()).sum(dim=1) - (mean * mean.log()).sum()).item())

    for i in (0, 50, 299):
        step, weights = 1e-6, torch.full((300,), 1 / 300, dtype=torch.float64)
        more = weights * (1 - step)
        more[i] += step
        slope = (score_of(more) - score_of(weights)) / step
        assert slope == pytest.approx((q[i] - q.mean()).item(), rel=1e-3, abs=1e-5)


def test_the_inception_scores_error_is_the_spread_of_repeated_draws():
    population = 2 * torch.randn(20_000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = np.random.default_rng(0).integers(0, 20_000, (200, 1000))
    found = [measure(blocks(population[i], population[i]), 1000, fid_against=None, inception=True) for i in draws]
    scores, errors = (np.array([one.numbers[key] for one in found]) for key in ("is_mean", "is_se"))
    assert errors.mean() == pytest.approx(scores.std(ddof=1), rel=0.15)


@pytest.mark.parametrize("total", [500, 43])
def test_an_image_pulls_the_score_of_its_own_split(total):
    logits = 3 * torch.randn(total, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = measure(blocks(logits, logits, size=17), total, fid_against=None, inception=True)
    borders = [split * total // 10 for split in range(11)]
    for i in (0, borders[3] - 1, borders[3], total - 1):
        (split,) = (k for k in range(10) if borders[k] <= i < borders[k + 1])
        own = logits[borders[split] : borders[split + 1]].softmax(dim=1)

        def score_of(weights, own=own):
            mean = weights @ own
            return math.exp((weights @ (own * own.log()).sum(dim=1) - (mean * mean.log()).sum()).item())

        step, n = 1e-6, len(own)
        weights = torch.full((n,), 1 / n, dtype=torch.float64)
        more = weights * (1 - step)
        more[i - borders[split]] += step
        slope = (score_of(more) - score_of(weights)) / step / 10  # the metric is the mean of ten splits
        pulls = found.influences["is_mean"][borders[split] : borders[split + 1]]
        mine = found.influences["is_mean"][i] - pulls.mean()
        assert slope == pytest.approx(mine * n / total, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("classes", [5, 50])
def test_the_error_is_that_of_repeated_draws_where_the_extractor_is_sure(classes):
    random, n = np.random.default_rng(0), 500
    sure = 12 * torch.eye(classes, dtype=torch.float64)
    found = [sure[random.integers(0, classes, n)] for _ in range(300)]
    found = [measure(blocks(logits, logits), n, fid_against=None, inception=True).numbers for logits in found]
    scores, errors = (np.array([one[key] for one in found]) for key in ("is_mean", "is_se"))
    assert scores.std(ddof=1) < errors.mean() < 1.6 * scores.std(ddof=1)
    assert (abs(scores - scores.mean()) <= 1.96 * errors).mean() >= 0.95


@pytest.mark.parametrize("n", [100, 150, 200, 250, 370])
def test_a_score_that_cannot_vary_has_no_error(n):
    """Of a sure extractor and fixed shares of classes, whether or not these divide the splits."""
    labels = np.arange(n) % 10
    logits = 50 * torch.eye(10, dtype=torch.float64)[labels]
    numbers = measure(blocks(logits, logits), n, fid_against=None, inception=True, labels=labels).numbers
    assert numbers["is_mean"] > 9
    assert numbers["is_se"] == pytest.approx(0.0, abs=1e-9)


def test_where_a_split_has_a_single_image_of_its_kind_the_classes_are_taken_as_they_are():
    """One split of 37 images of two classes in turn has three of one class: two images, and one beside them."""
    labels = np.arange(37) % 2
    logits = 2 * torch.randn(37, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = measure(blocks(logits, logits), 37, fid_against=None, inception=True, labels=labels)
    q = found.influences["is_mean"]
    assert found.numbers["is_se"] == pytest.approx(standard_error(q, labels), rel=1e-12)
    assert standard_error(q, labels) != pytest.approx(standard_error(q), rel=1e-3)


def test_the_scores_error_is_that_of_repeated_draws_where_classes_do_not_divide_the_splits():
    random, n = np.random.default_rng(0), 250
    labels = np.arange(n) % 10
    found = []
    for _ in range(300):
        seen = np.where(random.random(n) < 0.03, random.integers(0, 10, n), labels)
        logits = 9 * torch.eye(10, dtype=torch.float64)[seen]
        found.append(measure(blocks(logits, logits), n, fid_against=None, inception=True, labels=labels).numbers)
    scores, errors = (np.array([one[key] for one in found]) for key in ("is_mean", "is_se"))
    assert scores.std(ddof=1) < errors.mean() < 2 * scores.std(ddof=1)
    assert (abs(scores - scores.mean()) <= 1.96 * errors).mean() >= 0.95


def test_fixed_shares_of_classes_leave_the_spread_inside_of_them():
    random = np.random.default_rng(0)
    labels = np.arange(1000) % 10
    levels = 5.0 * np.arange(10)
    draws = [levels[labels] + random.normal(size=1000) for _ in range(300)]
    spread = np.std([q.mean() for q in draws], ddof=1)
    assert standard_error(draws[0], labels) == pytest.approx(spread, rel=0.15)
    assert standard_error(draws[0]) > 10 * spread
    one_class = np.zeros(1000, dtype=np.int64)
    assert standard_error(draws[0], one_class) == pytest.approx(standard_error(draws[0]), rel=1e-12)
    assert standard_error(draws[0][:10], labels[:10]) == standard_error(draws[0][:10])  # one image a class
    assert standard_error(draws[0][:11], labels[:11]) == standard_error(draws[0][:11])  # and two of the first
    assert standard_error(draws[0][:20], labels[:20]) < standard_error(draws[0][:20]) / 5  # two of each
    assert math.isnan(standard_error(draws[0][:1]))


def test_the_size_of_blocks_changes_rounding_only():
    x, reference = features(1234, 8, 0), Moments.of(features(500, 8, 1))
    logits = x[:, :5]
    one, other = (
        measure(blocks(x, logits, size), 1234, fid_against=reference, inception=True, labels=np.arange(1234) % 3)
        for size in (1234, 100)
    )
    assert other.numbers == pytest.approx(one.numbers, rel=1e-9)
    np.testing.assert_allclose(other.influences["fid"], one.influences["fid"], rtol=1e-8, atol=1e-10)
