"""Training on a GPU, its steps recorded and replayed: these tests need one."""

import pytest
import torch
from closeness import apart

from cfgbench.data import load
from cfgbench.models.checkpoint import NETWORKS
from cfgbench.models.precision import Compute
from cfgbench.spec import Dataset, Model, Network, Training
from cfgbench.training.diffusion import train
from cfgbench.training.facts import image_of
from cfgbench.training.feed import Feed
from cfgbench.training.objectives import OBJECTIVES
from cfgbench.training.state import begin
from cfgbench.training.step import Step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = torch.device("cuda")
MODEL = {"channels": 16, "multipliers": [1, 2], "attention": [4]}


@pytest.fixture(scope="module")
def digits():
    return load(Dataset(name="digits"))


def made(digits, precision="fp32", kind="denoiser", recorded=True, **keys):
    torch.manual_seed(0)
    training = Training(**{"steps": 40, "batch_size": 32, "p_uncond": 0.1 if kind == "denoiser" else 0.0} | keys)
    network = NETWORKS[kind](Model(**MODEL), **image_of(digits))
    state = begin(network, training, GPU, precision)
    feed = Feed(digits, training, range(32), GPU)
    return Step(state, feed, precision, objective=OBJECTIVES[kind], record=recorded)


def weights(step):
    return torch.cat([parameter.detach().flatten() for parameter in step.state.ema.values()])


@pytest.mark.parametrize("kind", ["denoiser", "classifier"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_what_is_replayed_learns_what_the_network_as_it_is_learns(digits, precision, kind):
    replayed, plain = made(digits, precision, kind), made(digits, precision, kind, recorded=False)
    start = weights(plain)
    for _ in range(20):
        replayed()
        plain()
    assert next(iter(replayed._recorded._recorded.values())) is not None
    assert plain._recorded is None
    # Adam moves a weight whose gradient is rounding alone, as that of keys' biases, as far as any other
    assert (weights(replayed) - weights(plain)).norm() < 0.05 * (weights(plain) - start).norm()
    assert apart(replayed.state.losses[:20], plain.state.losses[:20]) < (1e-3 if precision == "fp32" else 0.02)
    assert len(set(replayed.state.losses[:20].tolist())) == 20  # each step sees other images


def test_each_step_sees_its_own_images_and_a_stopped_training_ends_as_a_whole_one(digits, tmp_path, monkeypatch):
    network = Network("denoiser", "", Model(**MODEL), Training(steps=30, batch_size=32))
    compute = Compute(GPU, "fp32", compiled=False)
    train(digits, network, tmp_path / "whole.safetensors", compute)
    honest = Step.__call__

    def stopped(step):
        if step.state.step == 13:
            raise KeyboardInterrupt
        honest(step)

    with monkeypatch.context() as patch:
        patch.setattr(Step, "__call__", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(digits, network, tmp_path / "parts.safetensors", compute)
    train(digits, network, tmp_path / "parts.safetensors", compute)
    lines = [(tmp_path / f"{name}.losses.csv").read_text().splitlines()[1:] for name in ("whole", "parts")]
    whole, parts = (torch.tensor([float(line.split(",")[1]) for line in part]) for part in lines)
    assert apart(parts, whole) < 1e-3


def test_a_compiled_network_is_recorded_anew(digits):
    step, plain = made(digits), made(digits, recorded=False)
    for _ in range(3):
        step()
        plain()
    before = step._recorded
    network = step.state.network
    network.forward = torch.compile(network.forward, dynamic=False)
    for _ in range(3):
        step()
        plain()
    assert step._recorded is not before
    assert next(iter(step._recorded._recorded.values())) is not None
    assert apart(weights(step), weights(plain)) < 1e-3


@pytest.mark.parametrize("keys", [{"micro_batch_size": 10}, {"recompute": True}])
def test_parts_and_what_is_computed_twice_are_not_recorded(digits, keys):
    step = made(digits, **keys)
    step()
    step()  # the first is never recorded
    assert step._recorded is None
    assert step.state.losses[0] > 0


def test_memory_that_runs_out_in_recording_is_done_without(digits, monkeypatch):
    step = made(digits)
    monkeypatch.setattr(torch.cuda, "graph", out_of_memory)
    step()
    assert step._records
    step()
    assert not step._records
    assert step.state.part is None
    assert step.state.losses[0] > 0


def out_of_memory(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory")
