"""What is drawn for each place of the order: numbers that have nothing to do with each other, and hang on the seed."""

import numpy as np
import pytest
import torch
from scipy import stats

from cfgbench.data import Images
from cfgbench.diffusion.sampler import from_uint8
from cfgbench.spec import Training
from cfgbench.training import feed as feeding
from cfgbench.training.feed import Feed

CPU = torch.device("cpu")
N = 4000


def feed(*, flips=False, **keys):
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (50, 1, 4, 4), dtype=np.uint8), np.arange(50, dtype=np.int64) % 2
    images = Images("noise", pixels, labels, ("a", "b"), flips=flips)
    return Feed(images, Training(batch_size=N, p_uncond=0.3, **keys), range(N), CPU)


def uniform_of(lam):
    """The number in (0, 1) that the log-SNR was made of."""
    return np.asarray(torch.atan(torch.exp(-lam / 2)) * 2 / np.pi)


def test_a_dropped_class_has_every_log_snr():
    """The null branch would else be trained at some noise levels only."""
    drawn = feed()
    _, c, lam, _ = drawn.draw(*drawn.batch(0))
    u, dropped = uniform_of(lam), (c == 2).numpy()
    assert 0.27 < dropped.mean() < 0.33
    for some in (dropped, ~dropped):
        assert stats.kstest(u[some], "uniform").pvalue > 1e-3


def test_mirrored_images_are_mirrored_left_to_right_and_are_half_of_all():
    drawn = feed(flips=True)
    batch = drawn.batch(0)
    x, c, lam, _ = drawn.draw(*batch)
    seen = from_uint8(batch.pixels)
    same, mirrored = ((x == one).flatten(1).all(dim=1).numpy() for one in (seen, seen.flip(-1)))
    assert (same | mirrored).all()
    assert 0.47 < mirrored.mean() < 0.53
    for other in (uniform_of(lam), (c == 2).double().numpy()):
        assert abs(np.corrcoef(mirrored, other)[0, 1]) < 4 / N**0.5
    assert torch.equal(feed().draw(*batch)[0], seen)  # of a data set that is not to be mirrored


def test_the_noise_does_not_know_what_else_is_drawn():
    drawn = feed()
    _, c, lam, eps = drawn.draw(*drawn.batch(0))
    pixels = eps.flatten(1).double().numpy()
    for made_of in (pixels, pixels**2, np.arctan2(pixels, np.roll(pixels, 1, axis=1))):
        for other in (uniform_of(lam), (c == 2).double().numpy()):
            apart = [abs(np.corrcoef(column, other)[0, 1]) for column in made_of.T]
            assert max(apart) < 5 / N**0.5


@pytest.mark.parametrize("what", ["order", "x", "c", "lam", "eps"])
def test_another_seed_is_another_training(what):
    found = []
    for seed in (0, 1, 0):
        one = feed(flips=True, seed=seed)
        batch = one.batch(0)
        x, c, lam, eps = one.draw(*feed(seed=7).batch(0))  # of the same images
        found.append({"order": batch.pixels, "x": x, "c": c, "lam": lam, "eps": eps}[what])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize(("device", "number"), [("cuda", 3), ("cuda:1", 1), ("cpu", None)])
def test_images_are_fetched_for_the_gpu_that_the_program_is_on(monkeypatch, device, number):
    """Where they are too many to be held there; `cuda` alone has no number, which a thread of its own needs."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(feeding, "HELD_ON_DEVICE", 0)
    images = feed().images
    on_device = Feed(images, Training(batch_size=4), range(4), torch.device(device))
    assert on_device._ahead.submit(lambda: "fetched").result() == "fetched"
    on_device.close()
    assert chosen == ([] if number is None else [number])
