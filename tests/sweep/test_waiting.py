"""What would make the processor wait for a GPU, seen without one: by tensors that have a device and no content."""

from collections import Counter

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from cfgbench.data import load
from cfgbench.diffusion.guidance import GUIDANCES, Networks
from cfgbench.diffusion.sampler import SAMPLERS, sample
from cfgbench.diffusion.schedule import sampling_log_snrs
from cfgbench.diffusion.streams import Noise
from cfgbench.models.unet import UNet
from cfgbench.spec import Dataset, Model, Training
from cfgbench.training.feed import Feed
from cfgbench.training.state import State
from cfgbench.training.step import Step

GPU = torch.device("cuda", 0)
MODEL = Model(channels=8, multipliers=[1, 2], attention=[4])


class Waits(TorchDispatchMode):
    """Counts numbers asked for, answered as `answers` say, and copies between devices that are waited for."""

    def __init__(self, answers=()):
        super().__init__()
        self.seen, self.answers = Counter(), iter(answers)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten._local_scalar_dense.default:
            self.seen["number"] += 1
            return next(self.answers)
        found = function(*args, **kwargs)
        named = dict(zip((one.name for one in function._schema.arguments), args, strict=False)) | kwargs
        if function._opname in ("to", "_to_copy", "copy_") and named["self"].device != found.device:
            self.seen["free copy" if named.get("non_blocking") else "copy"] += 1
        return found


@pytest.fixture
def network():
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device(GPU):
            network = UNet(MODEL, image_channels=1, side=8, num_classes=10)
            network.embedding.frequencies = network.embedding.frequencies.to(GPU)  # as by network.to
        yield network


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("guidance", ["cfg", "score-scale"])
@pytest.mark.parametrize("sampler", ["ancestral", "ddim"])
def test_no_step_of_the_sampler_waits(network, guidance, sampler):
    indices = torch.arange(4, device=GPU)
    finite, not_zero, not_minus_one = True, False, False
    with Waits([finite, not_zero, not_minus_one]) as waits:
        guided = GUIDANCES[guidance](Networks(network.requires_grad_(False)), indices % 10, 1.0)
    assert waits.seen["number"] >= 1  # once a batch
    for steps in (2, 3):
        with Waits() as waits:
            noise = Noise(0, indices, (1, 8, 8), steps)
            x = sample(guided, sampling_log_snrs(steps), SAMPLERS[sampler](0.3, 1.0), noise)
        assert (x.device, x.shape) == (GPU, (4, 1, 8, 8))
        assert waits.seen == {"free copy": 1}


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_no_loss_in_training_waits(network):
    training = Training(steps=3, batch_size=8)
    feed = Feed(load(Dataset(name="digits")), training, range(8), GPU)
    optimizer, scaler = torch.optim.AdamW(network.parameters()), torch.amp.GradScaler(enabled=False)
    step = Step(State(network, [], optimizer, scaler, torch.zeros(3)), feed, "bf16")
    for number in range(2):
        with Waits() as waits:
            loss = step._loss(feed.batch(number))
        assert loss.device == GPU
        assert set(waits.seen) == {"free copy"}
