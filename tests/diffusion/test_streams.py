import math

import pytest
import torch
from scipy import stats

from cfgbench.diffusion import streams
from cfgbench.diffusion.streams import Noise, noise, philox


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # the known answers that Random123 ships for philox4x32-10
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(counter, key, words):
    found = philox(tuple(torch.tensor([word]) for word in counter), key)
    assert tuple(int(word) for word in found) == words


def test_an_images_noise_does_not_depend_on_its_batch():
    together = noise(3, torch.arange(50), 7, (3, 5, 5))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    apart = torch.cat([noise(3, part, 7, (3, 5, 5)) for part in order.split(7)])
    assert torch.equal(together[order], apart)


def test_what_is_counted_where_is_part_of_the_format():
    """Other images would come under the names of these: pixel block, step and image are the counter's words."""
    seed, index, step = 0x299F31D0_A4093822, 0x03707344_13198A2E, 5
    found = noise(seed, torch.tensor([index]), step, (3, 4)).flatten().double()
    for block in range(3):
        counter = (block, step, index & 0xFFFFFFFF, index >> 32)
        a, b, c, d = (int(word) for word in philox(tuple(torch.tensor([one]) for one in counter),
                                                   (seed & 0xFFFFFFFF, seed >> 32)))  # fmt: skip
        wanted = [
            math.sqrt(-2 * math.log((radius + 0.5) / 2**32)) * turn(2 * math.pi * angle / 2**32)
            for radius, angle in ((a, b), (c, d))
            for turn in (math.cos, math.sin)
        ]
        assert found[4 * block : 4 * block + 4].tolist() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("kind", [torch.int32, torch.int16])
def test_the_type_of_the_indices_changes_nothing(kind):
    indices = torch.tensor([0, 1, 100])
    assert torch.equal(noise(7, indices.to(kind), 3, (2, 2)), noise(7, indices, 3, (2, 2)))
    assert torch.equal(streams.uniforms(7, indices.to(kind)), streams.uniforms(7, indices))


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_a_seed_out_of_range_is_refused(seed):
    for draw in (lambda: noise(seed, torch.arange(2), 0, (2,)), lambda: streams.uniforms(seed, torch.arange(2))):
        with pytest.raises(ValueError, match=f"seed {seed}: not in "):
            draw()
    assert noise((1 << 64) - 1, torch.arange(2), 0, (2,)).isfinite().all()


def test_no_images_have_no_noise():
    assert Noise(0, torch.arange(0), (2, 3), 4)(0).shape == (0, 2, 3)


@pytest.mark.parametrize("at_once", [0, 130, 1 << 18])
def test_steps_that_are_made_together_are_those_made_alone(monkeypatch, at_once):
    monkeypatch.setitem(streams.AT_ONCE, "cpu", at_once)
    indices = torch.tensor([3, 2**40, 0])
    ahead = Noise(5, indices, (1, 3, 3), 12)
    for step in (0, 1, 2, 3, 7, 6, 11):
        assert torch.equal(ahead(step), noise(5, indices, step, (1, 3, 3)))
    assert ahead.ahead == max(1, at_once // 27)


def test_seed_image_step_and_large_indices_all_matter():
    draws = [
        noise(seed, torch.tensor([index]), step, (1, 4, 4))
        for seed, index, step in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**40, 0, 0), (0, 2**40, 0)]
    ]
    for i, a in enumerate(draws):
        assert not any((a == b).any() for b in draws[:i])


def test_noise_is_standard_normal_and_uncorrelated():
    x = noise(0, torch.arange(20_000), 1, (1, 2, 3)).double().flatten(1)
    assert stats.kstest(x.flatten().numpy(), "norm").pvalue > 1e-3
    assert torch.corrcoef(x.T).fill_diagonal_(0).abs().max() < 4 / 20_000**0.5
    y = noise(0, torch.arange(20_000), 2, (1, 2, 3)).double().flatten(1)
    assert abs((x * y).mean().item()) < 4 / 120_000**0.5
