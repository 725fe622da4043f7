import hashlib
import shutil
import subprocess
import sys

import pytest
import torch
from closeness import apart
from torch._dynamo.testing import CompileCounter
from torch.nn import functional as F

from cfgbench.diffusion.guidance import Networks
from cfgbench.models import native_group_norm
from cfgbench.models import pace as pace_module
from cfgbench.models.compile_choice import compiled
from cfgbench.models.fast import Compiled, choose, for_sampling, lay_out_weights
from cfgbench.models.layers import Double, GroupNorm, attention
from cfgbench.models.pace import pace_of, pace_of_passes
from cfgbench.models.precision import Compute, autocast
from cfgbench.models.unet import UNet
from cfgbench.spec import Model, Sampling
from cfgbench.sweep.fill import generate

HALF_ROUNDING = 2.0**-8


@pytest.fixture(params=["torch", "native"])
def way(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(native_group_norm, "available", lambda: False)
    elif not native_group_norm.available():
        pytest.skip("no C compiler here")
    return request.param


def norm_and_inputs(b, side, channels, *, silu, embedded, mean=0.5):
    generator = torch.Generator().manual_seed(b + side + channels)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    norm = GroupNorm(channels, silu=silu)
    with torch.no_grad():
        norm.weight.copy_(draw(channels))
        norm.bias.copy_(draw(channels))
    x = 2 * draw(b, side, side, channels) + mean * draw(channels)
    return norm, x, draw(b, 2 * channels) if embedded else None


def by_torch(norm, x, embedded):
    """The same by torch's own group norm, in float64."""
    weight, bias = norm.weight.double(), norm.bias.double()
    y = F.group_norm(x.double().permute(0, 3, 1, 2), norm.groups, weight, bias, norm.eps).permute(0, 2, 3, 1)
    if embedded is not None:
        scale, shift = embedded.double()[:, None, None].chunk(2, dim=-1)
        y = (1 + scale) * y + shift
    return F.silu(y) if norm.silu else y


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.parametrize(
    ("b", "side", "channels"), [(3, 8, 16), (2, 3, 20), (2, 6, 64), (1, 5, 192), (4, 1, 8), (2, 9, 160), (2, 9, 100)]
)
def test_group_norm_and_its_gradients_are_torchs(way, b, side, channels, silu, embedded):
    norm, x, embedding = norm_and_inputs(b, side, channels, silu=silu, embedded=embedded)
    inputs = [x.requires_grad_(), norm.weight, norm.bias, *([embedding.requires_grad_()] if embedded else [])]
    found, wanted = norm(x, embedding), by_torch(norm, x, embedding)
    assert found.dtype == torch.float32
    assert apart(found, wanted) < 1e-6
    pull = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    for mine, theirs in zip(
        torch.autograd.grad((found * pull).sum(), inputs),
        torch.autograd.grad((wanted * pull).sum(), inputs),
        strict=True,
    ):
        assert apart(mine, theirs) < 2e-5


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("size", [1, 300, 1e5])
def test_gradients_lose_nothing_where_activations_are_large(way, size, silu):
    """Along x itself they nearly cancel: the norm takes out its size."""
    norm, x, _ = norm_and_inputs(4, 8, 64, silu=silu, embedded=False)
    x = (size * x).requires_grad_()
    found, wanted = norm(x), by_torch(norm, x, None)
    for pull in (wanted.float().detach(), torch.randn(x.shape, generator=torch.Generator().manual_seed(0))):
        mine, theirs = (torch.autograd.grad((y * pull).sum(), x, retain_graph=True)[0] for y in (found, wanted))
        assert apart(size * mine, size * theirs) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_whose_squares_overflow_are_not_taken_for_none(way, dtype):
    """Else a network that diverged would give its biases, which look like eps."""
    norm, x, _ = norm_and_inputs(2, 8, 16, silu=True, embedded=False)
    x = torch.cat([x, x[:1]])
    x[1] *= 1e25
    x[2] = 1e19 * torch.tensor([1.0, -1.0]).repeat(x[2].numel() // 2).view(x[2].shape)  # the mean's square does not
    found = norm(x.to(dtype)).isfinite().flatten(1).all(dim=1)
    assert found.tolist() == [True, False, False]


@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.parametrize(("side", "channels"), [(8, 32), (3, 20), (9, 160), (1, 8)])
def test_half_types_lose_no_more_than_their_own_rounding(way, embedded, side, channels):
    norm, x, embedding = norm_and_inputs(3, side, channels, silu=True, embedded=embedded)
    half = x.bfloat16().requires_grad_()
    found, wanted = norm(half, embedding), by_torch(norm, half, embedding)
    assert found.dtype == torch.bfloat16
    assert apart(found, wanted) < 1.01 * apart(wanted.bfloat16(), wanted)
    (mine,) = torch.autograd.grad(found.sum(), half)
    (theirs,) = torch.autograd.grad(wanted.sum(), half)
    assert apart(mine, theirs) < HALF_ROUNDING / 4


def test_a_large_mean_costs_no_digits_of_the_spread(way):
    norm, x, _ = norm_and_inputs(2, 8, 16, silu=False, embedded=False, mean=1000.0)
    assert apart(norm(x), by_torch(norm, x, None)) < 1e-4


def test_a_first_number_far_off_costs_no_digits(way):
    norm, x, _ = norm_and_inputs(2, 64, 16, silu=False, embedded=False)
    x[:, 0, 0] = 1000.0
    assert apart(norm(x)[:, 1:], by_torch(norm, x, None)[:, 1:]) < (1e-6 if way == "native" else 1e-5)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_silu_is_right_to_its_ends(way, kind):
    norm, x, _ = norm_and_inputs(2, 8, 16, silu=True, embedded=False)
    with torch.no_grad():
        norm.weight.copy_(torch.logspace(-3, 3, 16))
    x = x.to(kind).requires_grad_()
    found, wanted = norm(x), by_torch(norm, x, None)
    (mine,), (theirs,) = (torch.autograd.grad(y.sum(), x) for y in (found, wanted))
    most = 1e-5 if kind == torch.float32 else HALF_ROUNDING
    assert ((found - wanted).abs() <= most * (1 + wanted.abs())).all()
    assert apart(mine, theirs) < most


def test_what_is_no_number_stays_none(way):
    norm, x, _ = norm_and_inputs(2, 8, 16, silu=True, embedded=False)
    x[0, 2, 2, 3] = float("nan")
    for kind in (torch.float32, torch.bfloat16):
        y = norm(x.to(kind))
        assert y[0, ..., :4].isnan().all()
        assert y[1].isfinite().all()


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_gradients_of_gradients_are_refused_where_there_are_none():
    norm, x, _ = norm_and_inputs(2, 8, 16, silu=True, embedded=False)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(norm(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.skipif(not native_group_norm.available(), reason="no C compiler")
def test_weights_in_half_are_torchs_to_do():
    """The kernels read float32."""
    norm, x = GroupNorm(16, silu=False).bfloat16(), torch.randn(2, 4, 4, 16).bfloat16()
    wanted = F.group_norm(x.permute(0, 3, 1, 2).float(), norm.groups).permute(0, 2, 3, 1)
    torch.testing.assert_close(norm(x).float(), wanted, rtol=0.02, atol=0.02)


def test_without_a_compiler_torch_does_it(monkeypatch, tmp_path):
    monkeypatch.setenv("CFGBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    native_group_norm.found.cache_clear()
    try:
        assert not native_group_norm.available()
        assert native_group_norm.why_not() == f"no C compiler {tmp_path}/no-such-compiler"
        norm, x, _ = norm_and_inputs(2, 8, 16, silu=True, embedded=False)
        assert apart(norm(x), by_torch(norm, x, None)) < 1e-6
    finally:
        native_group_norm.found.cache_clear()


@pytest.mark.parametrize(
    ("compiler", "said"),
    [("'", "CC is no command: No closing quotation"), ("cc -Dforward_bf16=other", "undefined symbol: forward_bf16")],
)
def test_what_is_no_compiler_or_makes_no_library_is_said(monkeypatch, tmp_path, compiler, said):
    monkeypatch.setenv("CFGBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", compiler)
    native_group_norm.found.cache_clear()
    try:
        assert said in native_group_norm.why_not()
    finally:
        native_group_norm.found.cache_clear()


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_library_that_was_damaged_is_made_again(monkeypatch, tmp_path):
    """In a process of its own: to load one that was cut short would end it."""
    monkeypatch.setenv("CFGBENCH_CACHE", str(tmp_path))
    code = "from cfgbench.models import native_group_norm as native; print(native.available(), native.why_not())"
    for damaged in (lambda whole: whole[:5000], lambda whole: b"", lambda whole: whole + b"x", None):
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (found.returncode, found.stdout) == (0, "True \n"), found
        (path,) = (tmp_path / "native").rglob("*.so")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
        if damaged is not None:
            path.write_bytes(damaged(path.read_bytes()))


def test_a_compiler_may_have_words_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("CFGBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", "cc -DNOTHING=1")
    native_group_norm.found.cache_clear()
    try:
        assert native_group_norm.why_not() == ""
    finally:
        native_group_norm.found.cache_clear()


def network(**keys):
    generator = torch.Generator().manual_seed(0)
    made = UNet(Model(**{"channels": 16, **keys}), image_channels=1, side=8, num_classes=3)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return made.eval().requires_grad_(False)


def call(denoiser, precision, b=5):
    z = torch.randn(b, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode(), autocast(precision, z.device):
        return denoiser(z, torch.linspace(-5, 5, b), torch.arange(b) % 3)


def test_weights_that_are_held_in_half_give_what_autocast_gives():
    plain, held = network(attention=[4]), network(attention=[4])
    lay_out_weights(held, "bf16")
    assert held.down[0].block.conv_in.weight.dtype == torch.bfloat16
    assert torch.equal(call(plain, "bf16"), call(held, "bf16"))
    assert apart(call(held, "bf16"), call(plain, "fp32")) < 0.02
    lay_out_weights(plain, "fp32")
    assert {value.dtype for value in plain.parameters()} == {torch.float32}


def test_a_compiled_network_gives_the_same_whatever_the_batch():
    plain = network(multipliers=[1], attention=[])
    compiled = Compiled(plain, batch=5)
    for b in (5, 3, 12):
        found = call(compiled, "bf16", b)
        assert apart(found, call(plain, "bf16", b)) < 0.01
        assert apart(found, call(plain, "fp32", b)) < 0.02


def test_a_compiled_network_takes_no_more_at_a_time_than_fit_the_caches(monkeypatch):
    plain, seen = network(), []
    compiled = Compiled(plain, batch=8)
    compiled._call = lambda z, *rest: seen.append(len(z)) or plain(z, *rest)
    monkeypatch.setattr(UNet, "at_once", lambda self, z: 3)
    found = call(compiled, "fp32", 7)
    assert seen == [3, 3, 3]
    assert apart(found, call(plain, "fp32", 7)) < 1e-6


def test_a_batch_that_would_hardly_fill_the_compiled_one_goes_as_it_is():
    plain, seen = network(), []
    compiled = Compiled(plain, batch=9)
    compiled._call = lambda z, *rest: seen.append(len(z)) or plain(z, *rest)
    for b, passes in ((9, [9]), (3, [9]), (2, []), (20, [9, 9]), (21, [9, 9, 9])):
        seen.clear()
        assert apart(call(compiled, "fp32", b), call(plain, "fp32", b)) < 1e-6
        assert seen == passes


def test_a_network_that_does_not_compile_is_called_as_it_is():
    def broken(*_, **__):
        raise RuntimeError("CppCompileError: no such compiler")

    plain = network()
    compiled = Compiled(plain, batch=8)
    compiled._call = broken
    assert torch.equal(call(compiled, "fp32", 1), call(plain, "fp32", 1))  # not tried yet
    assert compiled.failed == ""
    assert torch.equal(call(compiled, "fp32"), call(plain, "fp32"))
    assert compiled.failed == "CppCompileError: no such compiler"


def pace():
    return pace_of_passes(network(), (1, 8, 8), 8, Compute(torch.device("cpu"), "fp32"))


def never():
    raise AssertionError("nothing is to be measured")


def test_networks_made_elsewhere_keep_their_weights_and_are_not_compiled_unasked():
    class Foreign(torch.nn.Linear):
        num_classes = 3

    foreign = Foreign(4, 4)
    assert for_sampling(foreign, "bf16") is foreign
    assert foreign.weight.dtype == torch.float32
    assert not choose(foreign, 10**12, never).compiled


def test_compiling_is_chosen_where_the_calls_ahead_lose_more_than_it_takes():
    few, many = (choose(network(), images, pace) for images in (10, 10**9))
    assert not few.compiled
    assert many.compiled or "no C++ compiler" in many.reason


def test_without_the_compiler_that_is_named_nothing_is_compiled(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    choice = choose(network(), 10**9, never)
    assert (choice.compiled, choice.reason) == (False, "there is no C++ compiler")


@pytest.fixture
def clock(monkeypatch):
    """What is timed takes as long as it says, whatever else the machine does."""

    class Clock:
        now = 0.0

        def sleep(self, seconds):
            self.now += seconds

        def monotonic(self):
            return self.now

    monkeypatch.setattr(pace_module, "time", clock := Clock())
    return clock


def test_the_batch_is_the_smallest_that_is_about_as_fast_as_any(clock):
    tried = []

    def work(b):
        tried.append(b)
        clock.sleep(0.01 + 0.001 * b if b <= 16 else 0.01 * b)  # the best: 16 at a time

    found = pace_of(work, 64, torch.device("cpu"))
    assert found.batch == 16
    assert sorted(set(tried)) == [1, 2, 4, 8, 16, 32, 64]
    assert found.seconds == pytest.approx(0.01)  # an image of the largest batch


def test_what_a_new_size_takes_once_is_not_counted(clock):
    seen = set()

    def work(b):
        clock.sleep(0.002 * b + 0.03 * (b not in seen))
        seen.add(b)

    assert pace_of(work, 4, torch.device("cpu")).seconds == pytest.approx(0.002)


@pytest.mark.parametrize("call", range(1, 16))
def test_something_else_that_comes_between_once_is_not_taken_for_the_pace(clock, call):
    calls = []

    def work(b):
        calls.append(b)
        clock.sleep(0.001 + 0.001 * b + 0.6 * (len(calls) == call))

    assert pace_of(work, 64, torch.device("cpu")).seconds == pytest.approx(0.001, rel=0.05)


def test_the_wait_for_busy_processors_is_not_taken_for_the_pace(clock):
    """Of each call the same wait: of one image it says nothing."""
    assert pace_of(lambda b: clock.sleep(0.5 + 0.0001 * b), 512, torch.device("cpu")).seconds < 0.0012
    assert clock.now < pace_module.PATIENCE


def test_images_that_take_long_are_not_tried_many_at_a_time(clock):
    assert pace_of(lambda b: clock.sleep(0.5 * b), 512, torch.device("cpu")).seconds == 0.5
    assert clock.now <= pace_module.SECONDS_TO_MEASURE


def test_memory_that_runs_out_ends_the_search(clock):
    def work(b):
        if b > 4:
            raise MemoryError
        clock.sleep(0.004)

    assert pace_of(work, 64, torch.device("cpu")).batch == 4
    with pytest.raises(MemoryError):
        pace_of(lambda b: work(5), 64, torch.device("cpu"))


def test_another_limit_of_a_large_batch_ends_the_search_too(clock):
    def work(b):
        if b > 2:
            raise RuntimeError("CUDA error: invalid configuration argument")
        clock.sleep(0.004)

    assert pace_of(work, 64, torch.device("cpu")).batch == 2
    with pytest.raises(RuntimeError, match="broken"):
        pace_of(lambda b: (_ for _ in ()).throw(RuntimeError("broken")), 64, torch.device("cpu"))


def test_it_is_compiled_when_that_is_asked_for_and_a_failure_told():
    seen, compiled = [], Compiled(network(), batch=8)
    compiled._call = lambda z, *rest: seen.append((len(z), torch.is_autocast_enabled("cpu"))) or z
    compiled.attempt((1, 8, 8), "bf16")
    assert (seen, compiled.failed) == ([(8, True)], "")

    def broken(*_):
        raise RuntimeError("no such compiler")

    compiled = Compiled(network(), batch=8)
    compiled._call = broken
    compiled.attempt((1, 8, 8), "fp32")
    assert compiled.failed == "no such compiler"


def test_it_is_compiled_once_whatever_the_guidance(monkeypatch):
    counted, compile_ = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **_: compile_(call, dynamic=False, backend=counted))
    compiled, indices = Compiled(network(), batch=8), torch.arange(8)
    compiled.attempt((1, 8, 8), "fp32")
    for how in ({"w": 1}, {"w": 0}, {"w": 1, "guidance": "score-scale"}):
        generate(Networks(compiled), Sampling(samples=10, T=2, **how), indices, (1, 8, 8), "fp32")
    assert counted.frame_count == 1


def test_however_many_shapes_come_each_is_compiled(monkeypatch):
    """Torch's own limit is 8, of all networks together; from there on it does nothing, and says nothing."""
    counted, compile_ = CompileCounter(), torch.compile
    monkeypatch.setattr(torch, "compile", lambda call, **_: compile_(call, dynamic=False, backend=counted))
    double = compiled(lambda x: 2 * x)
    for size in range(2, 12):
        double(torch.zeros(size))
    assert counted.frame_count == 10


@pytest.mark.parametrize("positions", [1, 16, 17, 64, 65])
@pytest.mark.parametrize(("kind", "apart"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3)])
def test_attention_is_its_definition_whichever_way_it_is_taken(positions, kind, apart):
    shape = 3, 2, positions, 8
    q, k, v, pull = (torch.randn(shape, generator=torch.Generator().manual_seed(i)).to(kind) for i in range(4))
    exact = [tensor.double().requires_grad_() for tensor in (q, k, v)]
    weights = torch.softmax(torch.einsum("bhid,bhjd->bhij", *exact[:2]) / 8**0.5, dim=-1)
    expected = torch.einsum("bhij,bhjd->bhid", weights, exact[2])
    gradients = torch.autograd.grad(expected, exact, pull.double())
    cancelling = [0.0] * 3
    if positions == 1:  # the only weight is 1: gradients of q and k vanish, as a difference of two equal products
        product = (pull.double() * exact[2]).sum(dim=-1, keepdim=True) / 8**0.5
        cancelling = [(product * exact[1]).norm(), (product * exact[0]).norm(), 0.0]

    def check(found, wanted, cancelled=0.0):
        assert found.dtype == kind
        assert (found.double() - wanted).norm() <= apart * (wanted.norm() + cancelled) + 1e-7

    with autocast("bf16" if kind == torch.bfloat16 else "fp32", torch.device("cpu")):
        check(attention(q, k, v), expected)
        inputs = [tensor.clone().requires_grad_() for tensor in (q, k, v)]
        found = attention(*inputs)
        check(found, expected)
        for one, *wanted in zip(torch.autograd.grad(found, inputs, pull), gradients, cancelling, strict=True):
            check(one, *wanted)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_each_position_is_doubled_and_its_gradient_is_the_sum_of_four(kind):
    x = torch.randn(3, 4, 5, 8, generator=torch.Generator().manual_seed(0)).to(kind).requires_grad_()
    doubled = Double()(x)
    assert torch.equal(doubled, x.repeat_interleave(2, 1).repeat_interleave(2, 2))
    pull = torch.randn(doubled.shape, generator=torch.Generator().manual_seed(1)).to(kind)
    (gradient,) = torch.autograd.grad(doubled, x, pull)
    expected = pull.double().unflatten(1, (4, 2)).unflatten(3, (5, 2)).sum(dim=(2, 4))
    torch.testing.assert_close(gradient.double(), expected, rtol=2 * torch.finfo(kind).eps, atol=1e-6)
