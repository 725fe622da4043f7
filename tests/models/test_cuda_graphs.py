"""A network on a GPU, recorded and replayed: these tests need one."""

import pytest
import torch
from closeness import apart

from cfgbench.models.cuda_graphs import KEPT, Graphed
from cfgbench.models.fast import Compiled, Replayed, for_sampling
from cfgbench.models.pace import pace_of_passes
from cfgbench.models.precision import Compute, autocast
from cfgbench.models.unet import UNet
from cfgbench.spec import Model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = torch.device("cuda")


def network():
    torch.manual_seed(0)
    made = UNet(Model(channels=32, multipliers=[1, 2], attention=[4]), image_channels=1, side=8, num_classes=3)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made.to(GPU).eval().requires_grad_(False)


def call(denoiser, precision, b=5, seed=1):
    z = torch.randn(b, 1, 8, 8, generator=torch.Generator().manual_seed(seed)).to(GPU)
    with torch.inference_mode(), autocast(precision, GPU):
        return denoiser(z, torch.linspace(-5, 5, b, device=GPU), torch.arange(b, device=GPU) % 3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_replayed_is_what_the_network_gives_for_each_shape_and_content(precision):
    plain, held = network(), network()
    replayed = for_sampling(held, precision)
    assert isinstance(replayed, Replayed)
    rounding = {"fp32": 1e-3, "bf16": 0.02}[precision]  # channels last, libraries choose other kernels
    first = call(replayed, precision)
    kept = first.clone()
    for b, seed in ((5, 2), (3, 3), (7, 4), (5, 5), (3, 6), (9, 7)):
        found = call(replayed, precision, b, seed)
        assert apart(found, call(held, precision, b, seed)) < 1e-3
        assert apart(found, call(plain, precision, b, seed)) < rounding
        assert len(replayed._call._recorded) <= KEPT
    assert torch.equal(first, kept)  # a later call writes elsewhere


def test_what_cannot_be_recorded_is_called_as_it_is():
    def asks(z):
        return z + z.sum().item()

    graphed, here = Graphed(asks), torch.cuda.current_stream()
    for _ in range(2):
        assert torch.equal(graphed(torch.ones(3, device=GPU)), torch.full((3,), 4.0, device=GPU))
        assert torch.cuda.current_stream() == here
    graphed.function = torch.neg  # and what comes later can be
    assert torch.equal(graphed(torch.ones(4, device=GPU)), -torch.ones(4, device=GPU))
    assert None in graphed._recorded.values()
    assert len([one for one in graphed._recorded.values() if one is not None]) == 1


@pytest.mark.parametrize("batch", [6, 8])
def test_a_compiled_network_is_replayed_too(batch):
    plain, compiled = network(), Compiled(network(), batch=batch)
    for b in (6, 4, 13):
        assert apart(call(compiled, "fp32", b), call(plain, "fp32", b)) < 1e-3
    assert compiled.failed == ""
    assert next(iter(compiled._call._recorded.values())) is not None


def test_the_pace_is_that_of_a_batch_that_fits():
    found = pace_of_passes(for_sampling(network(), "bf16"), (1, 8, 8), 1024, Compute(GPU, "bf16"))
    assert 1 < found.batch <= 1024
    assert 0 < found.seconds < 0.01
