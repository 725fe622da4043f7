import math
from functools import partial

import pytest
import torch

from cfgbench.diffusion.guidance import cfg
from cfgbench.diffusion.sampler import SAMPLERS, ancestral, ddim, from_uint8, sample, to_uint8
from cfgbench.diffusion.schedule import sampling_log_snrs
from cfgbench.diffusion.streams import noise

MEAN, S = 0.3, 0.5


class Gaussians:
    """x ~ N(mean_c, s^2), hence z ~ N(alpha mean_c, alpha^2 s^2 + sigma^2): eps in closed form, null class last."""

    def __init__(self, means: list[float], s: float) -> None:
        self.means, self.s, self.num_classes, self.passes = torch.tensor(means), s, len(means) - 1, 0

    def __call__(self, z, lam, c):
        self.passes += len(z)
        lam = lam.to(z)
        a2, s2 = torch.sigmoid(lam)[:, None, None, None], torch.sigmoid(-lam)[:, None, None, None]
        mean = self.means.to(z)[c][:, None, None, None]
        return s2.sqrt() * (z - a2.sqrt() * mean) / (a2 * self.s**2 + s2)


def draw(denoiser, *, T, step, w=0.0, n=4000, seed=0, clip=False):
    c = torch.zeros(n, dtype=torch.long)
    indices = torch.arange(n)
    stream = lambda t: noise(seed, indices, t, (1, 1, 1)).double()  # noqa: E731
    return sample(cfg(denoiser, c, w), sampling_log_snrs(T), step, stream, clip=clip).flatten()


def affine(T, step, w=0.0):
    """With a linear denoiser the chain is linear: its mean and variance follow from what each noise does alone.

    Chain 0 sees no noise at all, chain t + 1 sees a one at step t and nothing else.
    """
    guided = cfg(Gaussians([MEAN, -0.4], S), torch.zeros(T + 1, dtype=torch.long), w)
    stream = lambda t: torch.eye(T + 1, dtype=torch.float64)[t + 1].reshape(-1, 1, 1, 1)  # noqa: E731
    ends = sample(guided, sampling_log_snrs(T), step, stream, clip=False).flatten()
    return ends[0].item(), (ends[1:] - ends[0]).square().sum().item()


@pytest.mark.parametrize("v", [0.0, 0.3, 1.0])
def test_unguided_ancestral_sampling_has_the_exact_mean_and_variance_as_T_grows(v):
    errors = []
    for T in (256, 1024):
        mean, variance = affine(T, partial(ancestral, v=v))
        assert mean == pytest.approx(MEAN, abs=1e-3)
        errors.append(abs(variance - S**2))
    assert errors[1] < errors[0] / 3  # first order in 1 / T
    assert errors[1] < 0.01 * S**2


def test_ddims_error_halves_when_T_doubles():
    errors = [abs(math.sqrt(affine(T, ddim)[1]) - S) for T in (64, 128, 256)]
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.25)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("w", [0.5, 3.0])
def test_guidance_between_equal_covariances_shifts_the_mean_by_w_times_the_difference(w):
    # equal covariances: eps~ is the exact eps of a Gaussian with mean mu_c + w (mu_c - mu_u), at every log-SNR
    for step in (ddim, partial(ancestral, v=0.3)):
        mean, variance = affine(512, step, w)
        assert mean == pytest.approx(MEAN + w * (MEAN + 0.4), abs=2e-3)
        assert variance == pytest.approx(affine(512, step)[1], rel=1e-9)


def test_shared_noise_makes_guided_and_unguided_samples_differ_by_the_shift_alone():
    denoiser = Gaussians([MEAN, -0.4], S)
    step = partial(ancestral, v=0.3)
    shift = draw(denoiser, T=512, step=step, w=1.0, n=20) - draw(denoiser, T=512, step=step, w=0.0, n=20)
    assert torch.allclose(shift, torch.full_like(shift, MEAN + 0.4), atol=2e-3)


def test_samples_have_the_law_that_the_linear_chain_predicts():
    x = draw(Gaussians([MEAN, 0.0], S), T=64, step=partial(ancestral, v=0.3), n=20_000)
    mean, variance = affine(64, partial(ancestral, v=0.3))
    assert x.mean().item() == pytest.approx(mean, abs=4 * S / 20_000**0.5)
    assert x.var().item() == pytest.approx(variance, rel=4 * (2 / 20_000) ** 0.5)


@pytest.mark.parametrize(("v", "level"), [(0.0, 1.0), (1.0, -1.0)])
def test_v_0_and_v_1_are_the_lower_and_the_upper_variance(v, level):
    lam, lam_next = torch.tensor(-1.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    zero, one = torch.zeros(1, 1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    spread = ancestral(zero, zero, lam, lam_next, lambda: one, v=v).item()
    # (1 - e^(lam - lam')) sigma^2, of the cleaner end for v = 0 and of the noisier for v = 1
    assert spread**2 == pytest.approx((1 - math.exp(-2)) / (1 + math.exp(level)), rel=1e-12)


def test_ancestral_mean_is_that_of_the_forward_process_given_x():
    lam, lam_next = torch.tensor(-0.5, dtype=torch.float64), torch.tensor(1.5, dtype=torch.float64)
    z, x = torch.tensor(0.7, dtype=torch.float64), torch.tensor(-0.2, dtype=torch.float64)
    found = ancestral(z, x, lam, lam_next, lambda: torch.zeros(()), v=0.3).item()
    # Bayes by hand: prior z' ~ N(a' x, s'^2), likelihood z ~ N((a / a') z', var)
    a, a_next = math.sqrt(1 / (1 + math.exp(0.5))), math.sqrt(1 / (1 + math.exp(-1.5)))
    prior, likelihood = 1 - a_next**2, (1 - a**2) - (a / a_next) ** 2 * (1 - a_next**2)
    ratio = a / a_next
    expected = (a_next * -0.2 / prior + ratio * 0.7 / likelihood) / (1 / prior + ratio**2 / likelihood)
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("w", "passes"), [(0.0, 20), (-1.0, 20), (0.3, 40)])
def test_an_image_takes_T_passes_unguided_and_2T_guided(w, passes):
    denoiser = Gaussians([MEAN, 0.0], S)
    for name in SAMPLERS:
        denoiser.passes = 0
        draw(denoiser, T=20, step=SAMPLERS[name](0.3, 1.0), w=w, n=3)
        assert denoiser.passes == 3 * passes


def test_clipping_bounds_the_image_and_ddim_starts_from_the_clipped_one():
    wild = lambda z, lam: torch.full_like(z, -30.0)  # noqa: E731
    stream = lambda t: torch.ones(1, 1, 1, 1)  # noqa: E731
    for step in (ddim, partial(ancestral, v=0.3)):
        assert sample(wild, sampling_log_snrs(8), step, stream, clip=True).item() == 1
        assert sample(wild, sampling_log_snrs(8), step, stream, clip=False).item() != 1


@pytest.mark.parametrize("clip", [True, False])
def test_what_is_infinite_on_the_way_is_no_image_in_the_end(clip):
    """A network whose half precision overflows once; at the first step, of which clipping would leave nothing."""
    lams = sampling_log_snrs(4)
    for sign in (1, -1):
        wild = lambda z, lam: torch.full_like(z, sign * math.inf if lam[0] < -19 else 0.1)  # noqa: B023, E731
        for step in (ddim, partial(ancestral, v=0.3)):
            with pytest.raises(ValueError, match="finite"):
                to_uint8(sample(wild, lams, step, lambda t: torch.ones(1, 1, 1, 1), clip=clip))


def test_bytes_are_rounded_not_cut():
    x = torch.tensor([-1.2, -1.0, 0.0, 0.5 / 127.5 - 1, 0.999, 1.0, 1.3]).reshape(1, 1, 1, 7)
    assert to_uint8(x).flatten().tolist() == [0, 0, 128, 0, 255, 255, 255]
    with pytest.raises(ValueError, match="not finite"):
        to_uint8(torch.full((1, 1, 1, 1), float("nan")))


def test_bytes_as_images_and_back_are_the_same_bytes():
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 1, 256)
    for dtype in (torch.float32, torch.float64):
        x = from_uint8(every, dtype)
        assert (x.dtype, x.min().item(), x.max().item()) == (dtype, -1, 1)
        assert to_uint8(x).equal(every)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 2.0])
def test_the_temperature_scales_the_noise_of_a_step_and_nothing_else(temperature):
    lam, lam_next = torch.tensor(-1.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    z, x, one = (torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (0.7, -0.2, 1.0))
    still, plain, scaled = (
        ancestral(z, x, lam, lam_next, lambda: one, v=0.3, temperature=t).item() for t in (0.0, 1.0, temperature)
    )
    assert still == ancestral(z, x, lam, lam_next, lambda: 0 * one, v=0.3).item()
    assert plain == ancestral(z, x, lam, lam_next, lambda: one, v=0.3).item()
    assert scaled - still == pytest.approx(temperature * (plain - still), rel=1e-12)


def test_a_cold_chain_of_a_gaussian_is_as_narrow_as_the_linear_chain_predicts():
    # by affine(): the start's share of the variance, and each step's times the temperature's square
    step = partial(ancestral, v=0.3, temperature=0.5)
    x = draw(Gaussians([MEAN, 0.0], S), T=64, step=step, n=20_000)
    mean, variance = affine(64, step)
    assert variance < 0.5 * S**2
    assert x.mean().item() == pytest.approx(mean, abs=4 * S / 20_000**0.5)
    assert x.var().item() == pytest.approx(variance, rel=4 * (2 / 20_000) ** 0.5)
