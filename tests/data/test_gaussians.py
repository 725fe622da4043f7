import numpy as np
import pytest

from cfgbench import data
from cfgbench.data.gaussians import LIMIT, mixture_of
from cfgbench.data.mixture import ROOM, Mixture
from cfgbench.errors import UserError
from cfgbench.spec import Dataset


def load(**keys):
    return data.load(Dataset(name="gaussians", **keys))


def test_without_a_word_it_is_three_isotropic_gaussians_with_room_around():
    images = load()
    assert images.images.shape == (LIMIT, 1, 1, 2)
    assert images.num_classes == 3
    assert not images.flips
    assert (np.bincount(images.labels) == LIMIT // 3).all()
    distances = [np.linalg.norm(a - b) for a in images.mixture.means for b in images.mixture.means]
    np.testing.assert_allclose([one for one in distances if one > 0], 0.433, atol=1e-3)
    deviation = np.sqrt(images.mixture.covariances[0, 0, 0])
    assert (np.abs(images.mixture.means) + ROOM * deviation < 1).all()
    assert 0 < images.images.min() <= images.images.max() < 255


def test_a_covariance_is_a_number_a_matrix_or_a_matrix_a_class():
    means, matrix = [[0.1, 0.0], [0.0, 0.2]], [[0.02, 0.01], [0.01, 0.015]]
    np.testing.assert_array_equal(mixture_of(means, 0.01).covariances, [0.01 * np.eye(2)] * 2)
    np.testing.assert_array_equal(mixture_of(means, matrix).covariances, [matrix] * 2)
    np.testing.assert_array_equal(mixture_of(means, [matrix, [[0.01, 0], [0, 0.01]]]).covariances[0], matrix)
    assert mixture_of([[0.5]], [[0.001]]).dimensions == 1


def test_draws_have_the_moments_of_the_mixture():
    of = {"means": [[0.2, 0.1], [-0.1, 0.0]], "covariance": [[0.02, 0.012], [0.012, 0.01]]}
    images = load(limit=40_000, **of)
    x = images.images.reshape(-1, 2) / 127.5 - 1
    for c in range(2):
        own = x[images.labels == c]
        np.testing.assert_allclose(own.mean(axis=0), of["means"][c], atol=4 * np.sqrt(0.02 / len(own)))
        np.testing.assert_allclose(np.cov(own.T), of["covariance"], atol=4 * 0.02 * np.sqrt(2 / len(own)))
    np.testing.assert_allclose(images.mixture.mean, [0.05, 0.05], atol=1e-15)
    within, between = np.array(of["covariance"]), np.outer([0.15, 0.05], [0.15, 0.05])
    np.testing.assert_allclose(images.mixture.covariance, within + between, atol=1e-15)


def test_the_content_names_the_mixture_and_the_draws():
    contents = [load(**keys).content for keys in ({}, {"covariance": 0.019600001}, {"limit": 2999})]
    assert len(set(contents)) == 3
    a, b = load(limit=30), load(limit=30, covariance=0.0196 + 1e-15)
    np.testing.assert_array_equal(a.images, b.images)  # the same pixels of another law are other data
    assert a.content != b.content
    assert load(limit=30).content == a.content


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"means": [[0.1, 0.2], [0.3]]}, r"dataset.means = .*unequal lengths"),
        ({"covariance": [0.1, 0.2]}, r"dataset.covariance: 2 numbers; write a number, a matrix of 2 x 2, or 3 such"),
        ({"covariance": [[0.01, 0], [0]]}, r"dataset.covariance = .*unequal lengths"),
        ({"covariance": [[0.01, 0.001], [0.002, 0.01]]}, r"dataset.covariance of class 0: not symmetric"),
        ({"covariance": [[0.01, 0.02], [0.02, 0.01]]}, r"class 0: not positive definite"),
        ({"covariance": [[0.01, 0.01], [0.01, 0.01]]}, r"class 0: not positive definite"),
        ({"covariance": [[1e-3, 1e200], [1e200, 1e-3]]}, r"class 0: not positive definite"),
        ({"covariance": 0}, r"class 0: not positive definite"),
        ({"covariance": -1.0}, r"class 0: not positive definite"),
        ({"covariance": 1e-320}, r"class 0: its standard deviation .* is 1e-160, where points are written in steps"),
        ({"covariance": [[0.01, 0.0], [0.0, 6e-5]]}, r"class 0: its standard deviation .* is 0.0077, where points"),
        ({"covariance": 1e308}, r"dataset.means\[0\]: with 5 standard deviations .* make means and deviations smaller"),
        ({"means": [[0.9, 0.0]]}, r"dataset.means\[0\]: with 5 standard deviations \(dataset.covariance\) it reaches"),
        ({"means": [[0.0]] * 1001}, r"dataset.means: 1,001 classes in 1 dimensions; at most 1,000 classes"),
        ({"means": [[0.0] * 100_000]}, r"1 classes in 100,000 dimensions; at most .* 256 dimensions"),
        ({"means": [[0.0] * 256] * 100}, r"100 classes in 256 dimensions; at most .* 4,194,304 numbers"),
        ({"limit": 10**12}, r"dataset.limit = 1000000000000: at most 8,388,608 points of 2 dimensions"),
        ({"limit": 2}, r"dataset.limit = 2: 3 classes need at least one image each"),
        ({"classes": 2}, r"dataset.classes: the data set gaussians does not use it"),
    ],
)
def test_what_is_no_mixture_is_refused(keys, message):
    with np.errstate(all="raise"), pytest.raises(UserError, match=message):
        load(**keys)


def test_means_are_of_the_gaussians_only():
    with pytest.raises(UserError, match="the data set digits does not use it"):
        data.load(Dataset(name="digits", means=[[0.0]]))


def test_a_mixtures_digest_names_its_shape_too():
    a, b = Mixture(np.zeros((2, 1)), np.full((2, 1, 1), 0.01)), Mixture(np.zeros((1, 1)), np.full((1, 1, 1), 0.01))
    assert a.digest != b.digest
