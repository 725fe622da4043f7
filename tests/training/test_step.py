"""A gradient step against its formulas, written out: warm-up, clipping, AdamW, the average of the weights, dropout."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cfgbench.data import Images
from cfgbench.diffusion.schedule import diffuse
from cfgbench.models.unet import UNet
from cfgbench.spec import Model, Training
from cfgbench.training.facts import image_of
from cfgbench.training.feed import Feed
from cfgbench.training.state import begin
from cfgbench.training.step import Step

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    return Images("noise", pixels, np.arange(40, dtype=np.int64) % 2, ("a", "b"), flips=False)


def begun(images, training, dropout=0.0):
    """A training at its first step, with no weight at zero: ends that begin there would hide what is before them. There
    is no attention: the bias of its keys has no gradient but rounding, which Adam makes as large as any other."""
    model = Model(channels=8, multipliers=[1, 2], attention=[], dropout=dropout)
    state = begin(UNet(model, **image_of(images)), training, CPU, "fp32")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter, average in zip(state.network.parameters(), state.ema.values(), strict=True):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
            average.copy_(parameter)
    return state, Feed(images, training, range(training.batch_size), CPU)


@pytest.mark.parametrize("clip", [0.0, 0.3, 1e3])
def test_a_step_is_adamw_after_warm_up_and_clipping_and_the_average_follows(images, clip):
    """Loshchilov & Hutter 2019, algorithm 2; decay min(d, (1 + t) / (10 + t)) of the average."""
    rate, decay, d, warm = 1e-2, 0.5, 0.15, 4
    training = Training(steps=6, batch_size=8, learning_rate=rate, weight_decay=decay, warmup_steps=warm, ema_decay=d,
                        gradient_clip=clip)  # fmt: skip
    state, feed = begun(images, training)
    network = copy.deepcopy(state.network)
    weights = list(network.parameters())
    average = [one.detach().clone() for one in weights]
    m, v = ([torch.zeros_like(one) for one in weights] for _ in range(2))
    step = Step(state, feed, "fp32")
    norms = []
    for t in range(6):
        step()
        x, c, lam, eps = feed.draw(*feed.batch(t))
        loss = F.mse_loss(network(diffuse(x, lam, eps), lam, c), eps)
        assert state.losses[t].item() == pytest.approx(loss.item(), rel=1e-5)
        gradients = torch.autograd.grad(loss, weights)
        norms.append(torch.sqrt(sum(g.square().sum() for g in gradients)).item())
        scale = min(1.0, clip / norms[-1]) if clip else 1.0
        lr = rate * min(1.0, (t + 1) / warm)
        keep = min(d, (1 + t) / (10 + t))
        with torch.no_grad():
            for i, g in enumerate(gradients):
                m[i], v[i] = 0.9 * m[i] + 0.1 * scale * g, 0.999 * v[i] + 0.001 * (scale * g) ** 2
                moved = m[i] / (1 - 0.9 ** (t + 1)) / ((v[i] / (1 - 0.999 ** (t + 1))).sqrt() + 1e-8)
                weights[i].copy_(weights[i] * (1 - lr * decay) - lr * moved)
                average[i] = keep * average[i] + (1 - keep) * weights[i]
    assert min(norms) > 0.6  # the smaller bound clips at each step, the larger never
    for wanted, found in ((weights, state.network.parameters()), (average, state.ema.values())):
        for one, other in zip(wanted, found, strict=True):
            torch.testing.assert_close(other.detach(), one.detach(), rtol=1e-4, atol=1e-5)


def test_dropout_takes_part_and_its_masks_hang_on_the_images_and_the_seed(images):
    def losses(dropout, seed=0):
        training = Training(steps=2, batch_size=8, learning_rate=1e-12, seed=seed)
        state, feed = begun(images, training, dropout)
        step = Step(state, feed, "fp32")
        masks = []
        for module in state.network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.register_forward_hook(lambda _, given, found: masks.append((found == 0) & (given[0] != 0)))
        for _ in range(2):
            step()
        return state.losses, masks

    plain, nothing = losses(0.0)
    dropped, masks = losses(0.4)
    assert sum(int(mask.sum()) for mask in nothing) == 0
    assert not torch.isclose(plain, dropped, rtol=1e-3).any()
    first, second = (torch.cat([mask.flatten() for mask in half]) for half in (masks[: len(masks) // 2],
                                                                              masks[len(masks) // 2 :]))  # fmt: skip
    assert first.float().mean().item() == pytest.approx(0.4, abs=0.02)
    assert not torch.equal(first, second)  # each batch has masks of its own
    again, same = losses(0.4)
    assert torch.equal(dropped, again)
    assert all(map(torch.equal, masks, same))
    assert not all(map(torch.equal, masks, losses(0.4, seed=1)[1]))


def test_weights_begin_as_the_seed_says(images):
    def first(seed):
        state, _ = begun(images, Training(seed=seed))
        return [parameter.detach() for parameter in state.network.parameters()]

    assert all(map(torch.equal, first(0), first(0)))
    different = [not torch.equal(a, b) for a, b in zip(first(0), first(1), strict=True) if a.dim() > 1]
    assert sum(different) > 0.5 * len(different)


def test_nothing_is_recorded_before_the_optimizer_has_its_memory(images, monkeypatch):
    """What a recorded step takes it holds for good: memory that runs out later, in the optimizer, could not be halved.
    Here the recording itself is left out, for it takes a GPU."""
    recorded = []

    def record(function, *, learns):
        recorded.append(bool(state.optimizer.state))
        return function

    monkeypatch.setattr("cfgbench.training.step.Graphed", record)
    state, feed = begun(images, Training(steps=3, batch_size=8))
    step = Step(state, feed, "fp32")
    step._records = True
    for _ in range(3):
        step()
    assert recorded == [True]
    assert state.step == 3
