"""Whether float32 is float32 where networks are called: a GPU may round what it convolves unless it is told not to."""

import pytest
import torch

from cfgbench.data import load
from cfgbench.diffusion.guidance import Networks
from cfgbench.models.extractors import ClassifierFeatures
from cfgbench.models.inception import Runner
from cfgbench.models.unet import UNet
from cfgbench.spec import Cell, Dataset, Factory, Model, Sampling, Training
from cfgbench.sweep.fill import generate
from cfgbench.sweep.probes import check_networks, prediction_note
from cfgbench.training.feed import Feed
from cfgbench.training.state import begin
from cfgbench.training.step import Step

CPU = torch.device("cpu")


@pytest.fixture
def allowed():
    """What the flags say at each call that is noted."""
    assert torch.backends.cudnn.allow_tf32  # torch's own default, and what is found again
    torch.backends.cuda.matmul.allow_tf32 = True  # as TORCH_ALLOW_TF32_CUBLAS_OVERRIDE has it in some containers
    seen = []
    yield seen
    found_again, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, False
    assert seen
    assert not any(seen)
    assert torch.backends.cudnn.allow_tf32
    assert found_again


def note(seen):
    seen.append(torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_in_sampling(allowed, precision):
    class Denoiser:
        num_classes = 3

        def __call__(self, z, lam, c):
            note(allowed)
            return z

    generate(Networks(Denoiser()), Sampling(T=2, w=1.0), torch.arange(4), (1, 4, 4), precision)


def test_in_training_forwards_and_back(allowed):
    training = Training(steps=2, batch_size=4)
    network = UNet(Model(channels=8, multipliers=[1], attention=[]), image_channels=1, side=8, num_classes=10)
    state = begin(network, training, CPU, "fp32")
    feed = Feed(load(Dataset(name="digits")), training, range(4), CPU)
    network.last.register_forward_hook(lambda *_: note(allowed))
    network.last.register_full_backward_hook(lambda *_: note(allowed))
    Step(state, feed, "fp32")()
    feed.close()
    assert len(allowed) == 2


def test_in_features(allowed):
    def network(x):
        note(allowed)
        return x.flatten(1), x.flatten(1)

    ClassifierFeatures(network, "stub", side=4, device=CPU)(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))

    class Body(torch.nn.Module):
        logits = False

        def forward(self, x):
            note(allowed)
            return x.mean(dim=(2, 3)), None

    Runner(Body(), torch.float32, CPU, ahead=2, compiled=False)(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    assert len(allowed) == 2


def test_in_probes(allowed):
    class Denoiser:
        num_classes = 10

        def __call__(self, z, lam, c):
            note(allowed)
            return z * (1 + 0.01 * c[:, None, None, None])

    spec = {"sweep": "s", "dataset": "digits", "model": Factory(factory="a:b", p_uncond=0.1), "metrics": ("fid",)}
    cell = Cell(**spec, training=Training(p_uncond=0.1), sampling=Sampling(T=2, w=1.0), data="", features="")
    images = load(Dataset(name="digits"))
    check_networks(Networks(Denoiser()), [cell], images, CPU)
    prediction_note(Denoiser(), cell, images, CPU)
