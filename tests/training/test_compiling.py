"""What is decided about compiling a training, as on a GPU; what is compiled is only marked."""

from contextlib import nullcontext

import pytest
import torch

from cfgbench.data import load
from cfgbench.models import compile_choice
from cfgbench.models.checkpoint import load_network
from cfgbench.models.compile_choice import CompileCost
from cfgbench.models.precision import Compute
from cfgbench.spec import Dataset, Model, Network, Training
from cfgbench.training import compiling, diffusion
from cfgbench.training.compiling import TIMED, WARM
from cfgbench.training.distributed import Group
from cfgbench.training.step import Step

MODEL = Model(channels=8, multipliers=[1], attention=[])
CPU = torch.device("cpu")


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """The device is said to be a GPU where it is asked whether to compile; gives the steps of compiled passes."""
    calls = []

    def marked(forward, **_):
        def call(*given):
            calls.append(len(given[0]))
            return forward(*given)

        return call

    honest = compiling.Compiling
    monkeypatch.setattr(diffusion, "Compiling", lambda state, device, **how: honest(state, torch.device("cuda"), **how))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch, "compile", marked)
    return calls


def train(path, compiled=None):
    said = []
    network = Network("denoiser", "", MODEL, Training(steps=40, batch_size=8))
    compute = Compute(CPU, "fp32", compiled)
    diffusion.train(load(Dataset(name="digits")), network, path, compute, progress=lambda task, *_: said.append(task))
    return load_network(path, "denoiser", CPU), [task for task in said if "compile" in task]


def weights(network):
    return torch.cat([parameter.flatten() for parameter in network.parameters()])


def test_a_long_training_is_compiled_after_its_first_steps_and_a_short_one_is_not(tmp_path, as_on_a_gpu, monkeypatch):
    plain, said = train(tmp_path / "short.safetensors")
    assert as_on_a_gpu == []
    assert len(said) == 1
    assert "not compiled: 20 steps ahead take" in said[0]
    monkeypatch.setitem(compile_choice.COMPILE_COSTS, "cuda", CompileCost(0.0, 0.5))
    compiled, (said,) = train(tmp_path / "long.safetensors")
    assert len(as_on_a_gpu) == 40 - WARM - TIMED
    assert ": compiled: 20 steps ahead" in said
    assert torch.equal(weights(plain), weights(compiled))


@pytest.mark.parametrize(("asked", "passes"), [(True, 40), (False, 0)])
def test_the_user_decides_from_the_first_step(tmp_path, as_on_a_gpu, asked, passes):
    _, said = train(tmp_path / "asked.safetensors", compiled=asked)
    assert len(as_on_a_gpu) == passes
    assert said == []


def test_what_does_not_compile_is_trained_as_it_is(tmp_path, as_on_a_gpu, monkeypatch):
    plain, _ = train(tmp_path / "plain.safetensors", compiled=False)

    def broken(*_):
        raise RuntimeError("no such compiler")

    asked = []
    monkeypatch.setattr(Group, "stopping_together", lambda *_: nullcontext(lambda: asked.append(1)))
    monkeypatch.setattr(torch, "compile", lambda forward, **_: broken)
    found, (said,) = train(tmp_path / "broken.safetensors", compiled=True)
    assert torch.equal(weights(plain), weights(found))
    assert "it does not compile here (no such compiler); trained as it is" in said
    assert len(asked) == 40  # once a step: in a group all ask equally often, whether or not it compiles for them


def test_a_training_that_goes_on_does_as_before(tmp_path, as_on_a_gpu, monkeypatch):
    monkeypatch.setitem(compile_choice.COMPILE_COSTS, "cuda", CompileCost(0.0, 0.5))
    path = tmp_path / "stopped.safetensors"

    class Stopped(Step):
        def __call__(self):
            if self.state.step == 30:
                raise KeyboardInterrupt
            super().__call__()

    with monkeypatch.context() as patch:
        patch.setattr(diffusion, "Step", Stopped)
        with pytest.raises(KeyboardInterrupt):
            train(path)
    before = len(as_on_a_gpu)
    monkeypatch.setitem(compile_choice.COMPILE_COSTS, "cuda", CompileCost(1e9, 0.5))
    _, said = train(path)
    assert len(as_on_a_gpu) - before == 10
    assert said == []


def test_on_a_processor_nothing_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    train(tmp_path / "cpu.safetensors", compiled=True)
