"""How much of a GPU the paper's network reaches, what holds it back, and what cells gain by sharing batches."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from timing import Setup, markdown, seconds_of
from torch import nn
from torch.profiler import ProfilerActivity, profile

from cfgbench.data import Images, load
from cfgbench.diffusion.guidance import Networks
from cfgbench.models.fast import for_sampling
from cfgbench.models.precision import autocast
from cfgbench.models.unet import UNet
from cfgbench.spec import Dataset, Model, Network, Sampling, Training
from cfgbench.sweep.fill import generate
from cfgbench.sweep.forecast import flops
from cfgbench.training.compiling import Compiling
from cfgbench.training.facts import image_of
from cfgbench.training.feed import Feed
from cfgbench.training.state import begin
from cfgbench.training.step import Step

ADM = Model(preset="adm-64")
IMAGE = {"image_channels": 3, "side": 64, "num_classes": 1000}
ROWS, TRAINED = 256, 128
"""Images that go through the network at a time, sampled and trained."""
DIGITS = Model(name="unet", channels=16, multipliers=[1, 2], blocks=1, attention=[4], head_channels=32)
"""That of sweeps/digits.yaml."""
CELL, STEPS = 500, 32
PRECISION = "bf16"
KINDS = {
    "convolutions": ("fprop", "dgrad", "wgrad", "conv", "implicit_gemm"),
    "attention": ("sdpa", "flash", "fmha", "attention"),
    "other matrix products": ("gemm", "nvjet", "cutlass"),
    "optimizer and average": ("multi_tensor", "foreach", "adam"),
}
"""Words in the names of kernels; all others are norms, activations, sums and copies."""


@dataclass(frozen=True)
class Case:
    """`work` on `images`, which costs `gflop` an image."""

    name: str
    images: int
    gflop: float
    work: Callable[[], object]
    first: float
    """Seconds of the first call, which compiles."""


def run(setup: Setup) -> Iterator[str]:
    """Floors first: what a large product and a large copy reach here."""
    if setup.device.type != "cuda":
        yield "## GPU\n\nNot measured: no GPU here.\n"
        return
    rate = yield from floors(setup)
    yield from sampling(setup, rate)
    yield from training(setup, rate)
    yield small(setup)
    yield from sharing(setup)


def floors(setup: Setup) -> Iterator[str]:
    """Gives the matrix rate in TFLOP/s."""
    n = 512 if setup.quick else 8192
    a, b = (torch.randn(n, n, device=setup.device, dtype=torch.bfloat16) for _ in range(2))
    rate = 10 * 2 * n**3 / seconds_of(lambda: [a @ b for _ in range(10)], setup) / 1e12
    x = torch.randn(n * n * 4, device=setup.device)
    y = torch.empty_like(x)
    moved = 10 * 2 * x.nbytes / seconds_of(lambda: [y.copy_(x) for _ in range(10)], setup) / 1e12
    rows = [["matrix product in bf16, TFLOP/s", f"{rate:.0f}"], ["copy, read and written, TB/s", f"{moved:.2f}"]]
    yield markdown("What the GPU does at best", [f"{n} x {n}", "measured"], rows)
    return rate


def sampling(setup: Setup, rate: float) -> Iterator[str]:
    """A pass of adm-64, as it is and compiled."""
    rows = 2 if setup.quick else ROWS
    z, lam = torch.randn(rows, 3, 64, 64, device=setup.device), torch.randn(rows, device=setup.device)
    c, cost = torch.arange(rows, device=setup.device) % 1000, _gflop()

    def case(*, compiled: bool) -> Case:
        network = _adm(setup.device).eval().requires_grad_(False)
        denoiser = for_sampling(network, PRECISION, rows if compiled else None)

        @torch.inference_mode()
        def work() -> object:
            with autocast(PRECISION, setup.device):
                return denoiser(z, lam, c)

        return Case("compiled" if compiled else "not compiled", rows, cost, work, _first(work, setup))

    yield from _table("Sampling with adm-64: a pass", case, setup, rate)


def training(setup: Setup, rate: float) -> Iterator[str]:
    """A step of adm-64 with its dropout, optimizer and average, as it is and compiled."""
    batch, cost = 2 if setup.quick else TRAINED, flops.STEP_IN_PASSES * _gflop()
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 3, 64, 64), dtype=np.uint8)
    images = Images("noise", pixels, np.arange(1000), tuple(map(str, range(1000))), flips=False)

    def case(*, compiled: bool) -> Case:
        settings = Training(preset="adm-64", steps=1000, batch_size=batch)
        state = begin(_adm(torch.device("cpu")), settings, setup.device, PRECISION)
        Compiling(state, setup.device, asked=compiled)
        step = Step(state, Feed(images, settings, range(batch), setup.device), PRECISION)
        return Case("compiled" if compiled else "not compiled", batch, cost, step, _first(step, setup))

    yield from _table("Training adm-64: a step", case, setup, rate)


def small(setup: Setup) -> str:
    """A training step of the digits network, its kernels as they come and recorded."""
    digits, rows = load(Dataset(name="digits")), []
    settings = Training(steps=1000, batch_size=128)
    for name, record in (("as they come", False), ("recorded", True)):
        state = begin(UNet(DIGITS, **image_of(digits)), settings, setup.device, PRECISION)
        step = Step(state, Feed(digits, settings, range(128), setup.device), PRECISION, record=record)
        step(), step()  # the second one records
        busy = sum(_shares(step, setup).values())
        seconds = seconds_of(lambda step=step: [step() for _ in range(10)], setup) / 10
        rows.append([name, f"{1e3 * seconds:.1f}", f"{busy:.1f}"])
        step.close()
    notes = ["Batches of 128; the 8x8 network of sweeps/digits.yaml, with optimizer and average."]
    return markdown("Training a small network: a step", ["kernels", "ms", "of which the GPU works"], rows, notes)


def sharing(setup: Setup) -> Iterator[str]:
    """Images a second where so many cells of the digits sweep share a batch, a w each; recorded, not compiled."""
    network = _filled(UNet(DIGITS, image_channels=1, side=8, num_classes=10)).to(setup.device).eval()
    denoiser = for_sampling(network.requires_grad_(False), PRECISION)
    sampling, rows = Sampling(samples=CELL, batch_size=CELL, T=STEPS), []
    for cells in (1, 2) if setup.quick else (1, 2, 4, 7, 14, 28):
        indices = torch.arange(CELL, device=setup.device).repeat(cells)
        w = torch.linspace(0.1, 4, cells, device=setup.device).repeat_interleave(CELL)
        work = lambda i=indices, w=w: generate(Networks(denoiser), sampling, i, (1, 8, 8), PRECISION, w)  # noqa: E731
        seconds = seconds_of(work, setup)
        rows.append([cells, f"{seconds:.3f}", f"{cells * CELL / seconds:,.0f}"])
    notes = [f"{CELL} images a cell, T = {STEPS}, guided; the 8x8 network of sweeps/digits.yaml."]
    yield markdown("Cells that share a batch", ["cells", "seconds a batch", "images/s"], rows, notes)


def _adm(device: torch.device) -> UNet:
    with device:
        return _filled(UNet(ADM, **IMAGE))


def _filled(network: UNet) -> UNet:
    """Zeroed ends get weights: products of zeros may be faster."""
    for parameter in network.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return network


def _gflop() -> float:
    return flops.of_a_pass(Network("denoiser", "", ADM, Training(preset="adm-64")), IMAGE) / 1e9


def _first(work: Callable[[], object], setup: Setup) -> float:
    torch.cuda.empty_cache()
    began = time.monotonic()
    work()
    setup.synchronise()
    return time.monotonic() - began


def _table(title: str, case: Callable[..., Case], setup: Setup, rate: float) -> Iterator[str]:
    head = ["", "images", "ms", "images/s", "TFLOP/s", "of the matrix rate", "peak GB", "first call, s"]
    rows, shares = [], {}
    for compiled in (False, True):
        one = case(compiled=compiled)
        torch.cuda.reset_peak_memory_stats(setup.device)
        seconds = seconds_of(one.work, setup)
        reached = one.images * one.gflop / seconds / 1e3
        peak = torch.cuda.max_memory_reserved(setup.device) / 1e9
        speed = [f"{1e3 * seconds:.1f}", f"{one.images / seconds:,.0f}", f"{reached:.0f}", f"{reached / rate:.0%}"]
        rows.append([one.name, one.images, *speed, f"{peak:.1f}", f"{one.first:.0f}"])
        shares[one.name] = _shares(one.work, setup)
        del one
    yield markdown(title, head, rows)
    kinds = [*KINDS, "norms, activations, sums, copies"]
    table = [[kind, *(f"{share.get(kind, 0):.1f}" for share in shares.values())] for kind in kinds]
    yield markdown(f"{title}, ms of the GPU by kind of kernel", ["", *shares], table)


def _shares(work: Callable[[], object], setup: Setup) -> dict[str, float]:
    """Milliseconds of the GPU's time by kind of kernel."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        work()
        setup.synchronise()
    found: dict[str, float] = {}
    for event in seen.key_averages():
        name = event.key.lower()
        kind = next((kind for kind, words in KINDS.items() if any(word in name for word in words)), None)
        if "triton" in name or kind is None:  # a fused kernel is named after all that is in it
            kind = "norms, activations, sums, copies"
        if event.self_device_time_total and event.device_type.name == "CUDA":
            found[kind] = found.get(kind, 0.0) + event.self_device_time_total / 1e3
    return found
