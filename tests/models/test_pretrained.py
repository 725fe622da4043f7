"""Networks of the user's own: eps, x and v are three words for one thing."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cfgbench.data import Images
from cfgbench.diffusion.schedule import alpha, sigma
from cfgbench.errors import UserError
from cfgbench.models import pretrained
from cfgbench.models.precision import autocast, float32_kept
from cfgbench.models.pretrained import load_pretrained, weights_identity
from cfgbench.spec import Checkpoint, Factory

SOURCE = """
import torch

class Net(torch.nn.Module):
    num_classes = 3

    def __init__(self, prediction, gain=1.0):
        super().__init__()
        self.prediction, self.gain = prediction, gain

    def forward(self, z, lam, c):
        lam = lam[:, None, None, None]
        alpha, sigma = torch.sigmoid(lam).sqrt(), torch.sigmoid(-lam).sqrt()
        x = 0.5 * self.gain * torch.ones_like(z)
        eps = (z - alpha * x) / sigma
        return {"eps": eps, "x": x, "v": alpha * eps - sigma * x}[self.prediction]

def make(prediction, **more):
    return Net(prediction, **more)

def wrong(**more):
    net = Net(**more)
    net.forward = lambda z, lam, c: z[:, 0, :1, 0]
    return net

def bundled(kind, **more):
    net, forward = Net(**more), Net(**more).forward
    of = {"tuple": lambda x: (x,), "Output": Output, "none": lambda x: None, "grey": lambda x: x[:, :1]}
    of |= {"complex": lambda x: x.cfloat(), "whole": lambda x: x.long()}
    net.forward = lambda z, lam, c: of[kind](forward(z, lam, c))
    return net

class Output:
    def __init__(self, sample):
        self.sample = sample

def quits(**more):
    net = Net(**more)
    def forward(z, lam, c):
        raise SystemExit(3)
    net.forward = forward
    return net

class WithoutNull(torch.nn.Module):
    num_classes = 3

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(3, 1)

    def forward(self, z, lam, c):
        return z * self.table(c)[:, :, None, None]

def ends(**more):
    raise SystemExit(7)

def fails(**more):
    raise RuntimeError("no weights")

def fills(**more):
    raise MemoryError

def double(**more):
    class Double(torch.nn.Module):
        num_classes = "3"
        def forward(self, z, lam, c):
            return z.double()
    return Double()

def asks(code, **more):
    exec(code)
    return make(**more)

def moves(**more):
    import os
    os.chdir("/")
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    torch.set_autocast_enabled("cpu", True)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.backends.cudnn.benchmark, torch.backends.fp32_precision = True, "tf32"
    network = make(**more)
    torch.set_default_device("meta")
    return network
"""
CPU = torch.device("cpu")


def images(classes):
    pixels = np.zeros((classes, 3, 8, 8), np.uint8)
    return Images("some", pixels, np.arange(classes), tuple(map(str, range(classes))), flips=False)


IMAGES = images(3)


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mynet", raising=False)
    (tmp_path / "mynet.py").write_text(SOURCE)
    return tmp_path / "mynet.py"


def factory(prediction="eps", function="make", **arguments):
    return Factory(factory=f"mynet:{function}", prediction=prediction, arguments={"prediction": prediction} | arguments)


def test_predictions_of_eps_x_and_v_become_one_eps(module):
    z, lam, c = torch.randn(4, 3, 8, 8), torch.tensor([-20.0, -3.0, 2.0, 9.0]), torch.tensor([0, 1, 2, 3])
    at = lam.double()[:, None, None, None]
    wanted = ((z - alpha(at) * 0.5) / sigma(at)).float()
    for prediction in ("eps", "x", "v"):
        denoiser = load_pretrained(factory(prediction), IMAGES, CPU)
        assert denoiser.num_classes == 3
        torch.testing.assert_close(denoiser(z, lam, c), wanted, rtol=1e-3, atol=1e-3)


def test_what_decides_a_factorys_numbers_is_in_its_identity(module, tmp_path):
    first = weights_identity(factory(), IMAGES)
    assert weights_identity(factory(), IMAGES) == first
    assert weights_identity(factory("x"), IMAGES) != first
    assert weights_identity(factory(gain=2.0), IMAGES) != first
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    one, other = ({key: str(tmp_path / key) for key in keys} for keys in ("ab", "ba"))
    assert weights_identity(factory(**one), IMAGES) == weights_identity(factory(**other), IMAGES)
    weights = tmp_path / "w.bin"
    weights.write_bytes(b"1")
    named = factory(path=str(weights))
    before = weights_identity(named, IMAGES)
    weights.write_bytes(b"2")
    assert weights_identity(named, IMAGES) != before
    nested = factory(more=[{"path": str(weights)}])
    before = weights_identity(nested, IMAGES)
    weights.write_bytes(b"3")
    assert weights_identity(nested, IMAGES) != before
    module.write_text(SOURCE + "\n")
    assert weights_identity(factory(), IMAGES) != first


def test_a_factory_that_cannot_be_used_is_named(module, tmp_path):
    with pytest.raises(UserError, match="no module nowhere, neither installed nor where you stand"):
        weights_identity(Factory(factory="nowhere:make"), IMAGES)
    with pytest.raises(UserError, match="mynet:absent: AttributeError"):
        load_pretrained(factory(function="absent"), IMAGES, CPU)
    with pytest.raises(UserError, match="mynet:fails: RuntimeError: no weights"):
        load_pretrained(factory(function="fails"), IMAGES, CPU)
    with pytest.raises(UserError, match="mynet:ends: SystemExit: 7"):
        load_pretrained(factory(function="ends"), IMAGES, CPU)
    with pytest.raises(UserError, match="no module os, neither"):
        weights_identity(Factory(factory="os:getcwd"), IMAGES)
    with pytest.raises(UserError, match=r"model\.checkpoint = .*gone\.pt: No such file"):
        weights_identity(Checkpoint(checkpoint=tmp_path / "gone.pt", format="adm"), IMAGES)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import notthere", "package.net:make: ModuleNotFoundError: No module named 'notthere'"),
        ("raise SystemExit(3)", "package.net:make: SystemExit: 3"),
        ("raise OSError('no licence')", "package.net:make: OSError: no licence"),
    ],
)
def test_a_package_that_cannot_be_imported_says_why(module, source, said):
    package = module.parent / "package"
    package.mkdir()
    (package / "__init__.py").write_text(source)
    with pytest.raises(UserError, match=said):
        weights_identity(Factory(factory="package.net:make"), IMAGES)


def test_the_function_has_to_be_in_the_file_that_is_digested(module):
    package = module.parent / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from package.net import make")
    (package / "net.py").write_text(SOURCE)
    with pytest.raises(UserError, match=r"make is defined in package\.net; write package\.net:make, whose file"):
        load_pretrained(Factory(factory="package:make"), IMAGES, CPU)
    load_pretrained(Factory(factory="package.net:make", arguments={"prediction": "eps"}), IMAGES, CPU)
    decorator = "def timed(make):\n    def inner(**more): return make(**more)\n    return inner"
    (package / "timed.py").write_text(decorator)
    (package / "own.py").write_text(f"from package.timed import timed\n{SOURCE}\nmake = timed(make)")
    load_pretrained(Factory(factory="package.own:make", arguments={"prediction": "eps"}), IMAGES, CPU)


def test_a_file_at_home_is_digested(module, monkeypatch):
    monkeypatch.setenv("HOME", str(module.parent))
    (module.parent / "w.bin").write_bytes(b"1")
    before = weights_identity(factory(path="~/w.bin"), IMAGES)
    (module.parent / "w.bin").write_bytes(b"2")
    assert weights_identity(factory(path="~/w.bin"), IMAGES) != before


def test_what_a_network_gives_is_brought_to_the_images_type(module):
    denoiser = load_pretrained(factory(function="double"), IMAGES, CPU)
    z, lam, c = torch.randn(2, 3, 8, 8), torch.zeros(2), torch.tensor([0, 1])
    assert denoiser(z, lam, c).dtype == torch.float32


def test_memory_that_runs_out_is_not_the_functions_fault(module):
    with pytest.raises(MemoryError):
        load_pretrained(factory(function="fills"), IMAGES, CPU)


def test_what_a_function_changes_for_the_whole_program_is_undone(module):
    def settings():
        matmul, cast = torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu")
        kinds = torch.get_default_dtype(), torch.get_default_device()
        backends = torch.backends
        gpus = backends.cudnn.benchmark, backends.fp32_precision, backends.cudnn.conv.fp32_precision
        return torch.is_grad_enabled(), *kinds, torch.get_num_threads(), matmul, cast, gpus

    before = settings()
    load_pretrained(factory(function="moves"), IMAGES, CPU)
    assert settings() == before
    with autocast("fp32", CPU):  # which the new settings and the old would not both allow
        assert not torch.backends.cuda.matmul.allow_tf32
    assert Path.cwd() == module.parent


@pytest.mark.parametrize(
    "code",
    [
        *(f"torch.backends.{flag} = {not on}" for flag, on in (
            ("cudnn.allow_tf32", True), ("cuda.matmul.allow_tf32", False), ("cudnn.deterministic", False))),
        *(f"torch.backends.{place}fp32_precision = {kind!r}" for place, kind in (
            ("cudnn.", "tf32"), ("cudnn.conv.", "ieee"), ("cuda.matmul.", "tf32"), ("mkldnn.", "bf16"),
            ("mkldnn.conv.", "bf16"), ("mkldnn.matmul.", "tf32"), ("mkldnn.rnn.", "bf16"))),
        "torch.set_autocast_enabled('cuda', True)",
        "torch.use_deterministic_algorithms(True)",
    ],
)  # fmt: skip
def test_what_a_function_asks_of_arithmetic_is_undone(module, code):
    def settings():
        found = [torch.is_autocast_enabled("cuda"), torch.are_deterministic_algorithms_enabled()]
        return found + [getattr(*place) for place in pretrained._ARITHMETIC]

    before = settings()
    load_pretrained(factory(function="asks", code=code), IMAGES, CPU)
    assert settings() == before
    x, weight = torch.rand(1, 64, 16, 16), torch.rand(64, 64, 3, 3)
    with float32_kept(), float32_kept():  # torch refuses to read what its two kinds of settings say, if not alike
        found = torch.conv2d(x, weight)
    exact = torch.conv2d(x.double(), weight.double())
    assert ((found - exact).abs().max() / exact.abs().max()).item() < 1e-5
    with autocast("fp32", CPU):
        assert not torch.backends.cudnn.allow_tf32


def test_a_network_that_does_not_fit_the_data_is_refused_before_work(module):
    with pytest.raises(UserError, match="made for 3 classes, the data set has 10"):
        load_pretrained(factory(), images(10), CPU)
    with pytest.raises(UserError, match=r"does not fit the images: ValueError: it gives \(2, 1\)"):
        load_pretrained(factory(function="wrong"), IMAGES, CPU)
    load_pretrained(without_null(p_uncond=0), IMAGES, CPU)
    with pytest.raises(UserError, match=r"does not take class 3, the null class .*: IndexError: index out of range"):
        load_pretrained(without_null(p_uncond=0.1), IMAGES, CPU)


@pytest.mark.parametrize("prediction", ["eps", "x", "v"])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("tuple", r"TypeError: it gives a tuple, not a tensor \[b, ch, h, w\]"),
        ("Output", r"TypeError: it gives an Output, not a tensor \[b, ch, h, w\]"),
        ("none", r"TypeError: it gives None, not a tensor \[b, ch, h, w\]"),
        ("complex", r"TypeError: it gives numbers of torch.complex64, not floating point"),
        ("whole", r"TypeError: it gives numbers of torch.int64, not floating point"),
        ("grey", r"ValueError: it gives \(2, 1, 8, 8\) for images \(2, 3, 8, 8\)"),
    ],
)
def test_what_is_no_prediction_is_named(module, prediction, kind, said):
    with pytest.raises(UserError, match=f"model: does not fit the images: {said}"):
        load_pretrained(factory(prediction, function="bundled", kind=kind), IMAGES, CPU)


def test_a_network_that_ends_the_program_at_its_first_call_is_named(module):
    with pytest.raises(UserError, match="model: does not fit the images: SystemExit: 3"):
        load_pretrained(factory(function="quits"), IMAGES, CPU)


def without_null(p_uncond):
    return Factory(factory="mynet:WithoutNull", p_uncond=p_uncond)
