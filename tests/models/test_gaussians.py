"""The closed forms, against densities of torch.distributions and their derivatives by autograd."""

import numpy as np
import pytest
import torch
from torch import distributions

from cfgbench.data.gaussians import mixture_of
from cfgbench.data.mixture import Mixture
from cfgbench.diffusion.guidance import GUIDANCES, Networks, Unconditional, class_gradient
from cfgbench.diffusion.sampler import SAMPLERS, sample, to_uint8
from cfgbench.diffusion.schedule import sampling_log_snrs
from cfgbench.diffusion.streams import noise
from cfgbench.models.gaussians import NUMBERS, ExactClassifier, ExactDenoiser, clean_posterior

CPU = torch.device("cpu")
LOG_SNRS = -20.0, -6.0, -1.0, 0.0, 2.0, 7.0, 20.0


def mixture(d, classes=3):
    generator = np.random.default_rng(d)
    factors = 0.05 * generator.standard_normal((classes, d, d))
    covariances = factors @ factors.swapaxes(1, 2) + 1e-3 * np.eye(d)
    return Mixture(generator.uniform(-0.2, 0.2, (classes, d)), (covariances + covariances.swapaxes(1, 2)) / 2)


def noised(of, lam):
    """p(z | c) of all classes, written without the code that is judged."""
    a2, s2 = 1 / (1 + np.exp(-lam)), 1 / (1 + np.exp(lam))
    covariances = torch.from_numpy(a2 * of.covariances + s2 * np.eye(of.dimensions))
    return distributions.MultivariateNormal(torch.from_numpy(np.sqrt(a2) * of.means), covariances), np.sqrt(s2)


def points(of, lam, n=12):
    """Some where the mixture has its mass at this log-SNR, some far away."""
    generator = torch.Generator().manual_seed(0)
    law, _ = noised(of, lam)
    near = law.mean[torch.arange(n) % of.num_classes]
    spread = torch.tensor([0.01, 0.3, 1.0, 4.0]).repeat(n // 4)[:, None]
    return near + spread * torch.randn(n, of.dimensions, generator=generator, dtype=torch.float64)


def score(log_p, z):
    z = z.clone().requires_grad_()
    return torch.autograd.grad(log_p(z).sum(), z)[0]


def images(z):
    return z[:, None, None]


@pytest.mark.parametrize("lam", LOG_SNRS)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_eps_is_minus_sigma_times_the_score_with_class_and_without(d, lam):
    of = mixture(d)
    z, (law, sigma) = points(of, lam), noised(of, lam)
    whole = distributions.MixtureSameFamily(distributions.Categorical(torch.ones(of.num_classes)), law)
    denoiser, lams = ExactDenoiser(of, CPU), torch.full((len(z),), lam, dtype=torch.float64)
    for c in range(of.num_classes + 1):
        log_p = (lambda x, c=c: law.log_prob(x[:, None])[:, c]) if c < of.num_classes else whole.log_prob
        eps = denoiser(images(z), lams, torch.full((len(z),), c))
        torch.testing.assert_close(eps, -sigma * images(score(log_p, z)), rtol=1e-7, atol=1e-9)


def test_points_of_many_classes_are_those_of_each_alone():
    """A processor takes them in parts."""
    few = mixture(2)
    of = Mixture(np.tile(few.means, (400, 1)), np.tile(few.covariances, (400, 1, 1)))
    denoiser, z = ExactDenoiser(of, CPU), noise(0, torch.arange(300), 0, (1, 1, 2))
    assert 100 * of.means.size < NUMBERS < 200 * of.means.size
    lam, c = torch.linspace(-5, 5, 300), torch.arange(300) % 7 * 200  # every seventh of none
    alone = torch.cat([denoiser(z[i : i + 1], lam[i : i + 1], c[i : i + 1]) for i in range(300)])
    assert torch.equal(denoiser(z, lam, c), alone)


@pytest.mark.parametrize("lam", LOG_SNRS)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_classifier_is_bayes_rule_and_so_is_its_gradient(d, lam):
    of = mixture(d)
    z, (law, _) = points(of, lam), noised(of, lam)
    lams, c = torch.full((len(z),), lam, dtype=torch.float64), torch.arange(len(z)) % of.num_classes

    def posterior(x):
        log_p = law.log_prob(x[:, None])
        return log_p - log_p.logsumexp(dim=1, keepdim=True)

    classifier = ExactClassifier(of, CPU)
    torch.testing.assert_close(classifier(images(z), lams), posterior(z), rtol=1e-7, atol=1e-7)
    wanted = score(lambda x: posterior(x).gather(1, c[:, None]), z)
    scale = wanted.abs().max().item()
    torch.testing.assert_close(class_gradient(classifier, images(z), lams, c), images(wanted), rtol=1e-7,
                               atol=1e-9 * max(scale, 1))  # fmt: skip


def test_the_posterior_without_noise_is_the_limit_of_that_with_little():
    of = mixture(2)
    x = points(of, 20.0)
    nearly = ExactClassifier(of, CPU)(images(x), torch.full((len(x),), 34.0))
    torch.testing.assert_close(clean_posterior(of, CPU)(x), nearly, rtol=1e-6, atol=1e-6)


def test_the_three_ways_to_guide_are_one_in_each_call():
    of = mixture(2)
    denoiser, classifier = ExactDenoiser(of, CPU), ExactClassifier(of, CPU)
    lam = torch.tensor(LOG_SNRS).repeat_interleave(12)
    z = images(torch.cat([points(of, value) for value in LOG_SNRS])).float()
    c, w = torch.arange(len(z)) % of.num_classes, 1.5
    conditional = Networks(denoiser, classifier)
    found = GUIDANCES["classifier"](conditional, c, w)(z, lam)
    assert found.dtype == z.dtype
    for other in (
        GUIDANCES["classifier"](Networks(Unconditional(denoiser), classifier), c, w + 1)(z, lam),
        GUIDANCES["cfg"](conditional, c, w)(z, lam),
    ):
        torch.testing.assert_close(found, other, rtol=1e-5, atol=1e-5)
    unguided = GUIDANCES["cfg"](conditional, c, 0.0)(z, lam)
    assert (found - unguided).abs().max() > 0.1


@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_the_three_ways_to_guide_give_the_same_images(sampler):
    of, n, w = mixture_of(), 300, 2.0
    denoiser, classifier = ExactDenoiser(of, CPU), ExactClassifier(of, CPU)
    indices = torch.arange(n)

    def images_of(rule, networks, w, kind=torch.float64):
        guided = GUIDANCES[rule](networks, indices % 3, w)
        step = SAMPLERS[sampler](0.3, 1.0)
        stream = lambda t: noise(0, indices, t, (1, 1, 2)).to(kind)  # noqa: E731
        return sample(guided, sampling_log_snrs(64), step, stream, clip=False)

    x = images_of("cfg", Networks(denoiser, classifier), w)
    for other in (
        images_of("classifier", Networks(denoiser, classifier), w),
        images_of("classifier", Networks(Unconditional(denoiser), classifier), w + 1),
    ):
        torch.testing.assert_close(x, other, rtol=0, atol=1e-9)
    single = images_of("classifier", Networks(denoiser, classifier), w, torch.float32)
    apart = (to_uint8(single).int() - to_uint8(x).int()).abs()
    assert apart.max() <= 1  # where rounding meets rounding
    assert (apart > 0).float().mean() < 0.02
    assert (to_uint8(x).int() - to_uint8(images_of("cfg", Networks(denoiser), 0.0)).int()).abs().max() > 5


@pytest.mark.parametrize("covariance", [0.01, [[0.02, 0.009], [0.009, 0.008]]])
def test_the_sampler_gives_each_class_its_mean_and_covariance(covariance):
    of, n = mixture_of([[0.2, 0.1], [-0.25, 0.0]], covariance), 10_000
    indices = torch.arange(n)
    rule = GUIDANCES["cfg"](Networks(ExactDenoiser(of, CPU)), indices % 2, 0.0)
    # the errors of v = 0 and v = 1, which are of first order in 1 / T, nearly cancel in between
    step = SAMPLERS["ancestral"](0.75, 1.0)
    x = sample(rule, sampling_log_snrs(256), step, lambda t: noise(1, indices, t, (1, 1, 2)), clip=False)
    for c in range(2):
        own = x.flatten(1)[c::2].double().numpy()
        s, count = of.covariances[c], len(own)
        assert np.abs(own.mean(axis=0) - of.means[c]).max() < 4 * np.sqrt(s.max() / count)
        error = np.sqrt((np.outer(s.diagonal(), s.diagonal()) + s**2) / count)
        assert (np.abs(np.cov(own.T) - s) < 4 * error).all()


def test_half_precision_does_not_touch_the_closed_form():
    of = mixture(5)
    z, lam, c = images(points(of, 2.0)).float(), torch.full((12,), 2.0), torch.arange(12) % 4
    denoiser, exact = ExactDenoiser(of, CPU), ExactDenoiser(of, CPU)(z, lam, c)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(denoiser(z, lam, c), exact)


def test_points_of_another_dimension_are_refused():
    with pytest.raises(ValueError, match="points of 3 coordinates, where the mixture has 2"):
        ExactDenoiser(mixture(2), CPU)(torch.zeros(4, 1, 1, 3), torch.zeros(4), torch.zeros(4, dtype=torch.long))
