import math

import pytest
import torch
from scipy import integrate

from cfgbench.diffusion.schedule import alpha, diffuse, log_snr, sampling_log_snrs, sigma


def test_signal_and_noise_share_the_variance_and_define_lambda():
    lam = torch.linspace(-20, 20, 101, dtype=torch.float64)
    assert torch.allclose(alpha(lam) ** 2 + sigma(lam) ** 2, torch.ones_like(lam))
    assert torch.allclose(torch.log(alpha(lam) ** 2 / sigma(lam) ** 2), lam)


def test_noise_level_of_the_cleanest_image_survives_float32():
    assert sigma(torch.tensor(20.0)).item() == pytest.approx(math.exp(-10), rel=1e-6)


def test_the_ends_are_minus_and_plus_twenty():
    lams = sampling_log_snrs(256)
    assert lams[0].item() == pytest.approx(-20, abs=1e-9)
    assert lams[-1].item() == pytest.approx(20, abs=1e-9)
    assert (lams.diff() > 0).all()
    # definitions.md, section 6: the evaluation before the last of Algorithm 2's grid
    last_but_one = [sampling_log_snrs(T)[-2].item() for T in (128, 256, 1024)]
    assert last_but_one == pytest.approx([8.78, 10.17, 12.90], abs=0.01)


def test_one_step_is_no_schedule():
    with pytest.raises(ValueError, match="T = 1"):
        sampling_log_snrs(1)


def test_uniform_u_gives_the_truncated_hyperbolic_secant():
    density = lambda lam: 1 / (2 * math.pi * math.cosh(lam / 2))  # noqa: E731
    total = integrate.quad(density, -20, 20)[0]
    for u in (0.1, 0.37, 0.5, 0.9):
        lam = log_snr(torch.tensor(u, dtype=torch.float64)).item()
        assert integrate.quad(density, lam, 20)[0] / total == pytest.approx(u, abs=1e-8)


def test_each_image_is_diffused_at_its_own_log_snr():
    x, eps = torch.ones(2, 1, 1, 1), torch.full((2, 1, 1, 1), 2.0)
    z = diffuse(x, torch.tensor([20.0, 0.0]), eps).flatten()
    assert z[0].item() == pytest.approx(1 + 2 * math.exp(-10), rel=1e-5)
    assert z[1].item() == pytest.approx(3 * 0.5**0.5, rel=1e-6)
