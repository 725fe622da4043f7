"""Guided sampling: images a second of T steps, two network calls a step, w = 1."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import networks
import torch
from timing import Contestant, Setup, in_turn, table
from torch import Tensor

from cfgbench.diffusion.guidance import Networks
from cfgbench.models.precision import resolve_precision
from cfgbench.spec import Sampling
from cfgbench.sweep.fill import generate

W = 1.0
"""The paper's; a guidance scale of 1 + w for the peers."""
SHAPE = (3, networks.SIDE, networks.SIDE)
STEPS_TO_COMPARE = 8


@dataclass(frozen=True)
class Job:
    """`steps` are T, `batch` images at a time."""

    steps: int
    batch: int
    device: torch.device

    @property
    def classes(self) -> Tensor:
        return torch.arange(self.batch, device=self.device) % networks.CLASSES


def run(setup: Setup) -> Iterator[str]:
    """Three rounds at most: each takes minutes on a few cores."""
    on_gpu = setup.device.type == "cuda"
    job = Job(2, 4, setup.device) if setup.quick else Job(50, 256 if on_gpu else 16, setup.device)
    ours = {networks.OURS: _compiled, networks.AS_IT_IS: _ours} if on_gpu else {networks.OURS: _ours}
    makers = ours | {"diffusers DDPM": _ddpm, "diffusers DDIM": _ddim, networks.LUCID: _lucid}
    contestants = [
        Contestant(name, lambda make=make: _warmed(make, job), ours=name.startswith(networks.OURS), warmed=True)
        for name, make in makers.items()
    ]
    found = in_turn(contestants, setup.at_most(3))
    cost = networks.gflop(list(makers), 2 * job.steps * job.batch)
    notes = [
        f"Batches of {job.batch}, T = {job.steps}, w = {W:g}; warmed up with two steps. cfgbench in "
        f"{resolve_precision('auto', job.device)}, as the program decides; the peers in fp32, their default"
        f"{' (convolutions in TF32, torch has it so)' * on_gpu}. "
        "denoising-diffusion-pytorch makes its two calls one after the other, diffusers one of twice the batch."
    ]
    whole = [one.name for one in found if one.ours and not one.error]
    agreed = {name: _difference(job, compiled=ours[name] is _compiled) for name in whole}
    title = f"Guided sampling of {networks.SIDE} x {networks.SIDE} images"
    yield table(title, found, rates={"images/s": job.batch, "GFLOP/s": cost}, agreed=agreed, notes=notes)


def _warmed(make: Callable[[Job], Callable[[], Any]], job: Job) -> Callable[[], Any]:
    """The work, after one of two steps with the same batch."""
    make(replace(job, steps=2))()
    return make(job)


def _ours(job: Job, *, compiled: bool = False) -> Callable[[], Tensor]:
    precision = resolve_precision("auto", job.device)
    denoiser = networks.ours(job.device, precision, 2 * job.batch, compiled=compiled)
    return lambda: _generate(denoiser, job, precision)


def _compiled(job: Job) -> Callable[[], Tensor]:
    return _ours(job, compiled=True)


@torch.inference_mode()
def _generate(denoiser: torch.nn.Module, job: Job, precision: str) -> Tensor:
    """As a cell of a sweep does it."""
    sampling = Sampling(samples=max(10, job.batch), batch_size=job.batch, w=W, T=job.steps)
    indices = torch.arange(job.batch, device=job.device)
    return generate(Networks(denoiser), sampling, indices, SHAPE, precision)


def _difference(job: Job, *, compiled: bool) -> str:
    """How far our pixels are from those of the plain network in fp32, over a few steps."""
    job = replace(job, steps=min(job.steps, STEPS_TO_COMPARE))
    fast, plain = _ours(job, compiled=compiled)(), _generate(networks.plain().to(job.device).eval(), job, "fp32")
    apart = (fast.float() - plain.float()).abs()
    return f"with plain fp32, T = {job.steps}: mean {apart.mean():.3f}, largest {apart.max():.0f} of 255"


def _ddpm(job: Job) -> Callable[[], Tensor]:
    from diffusers import DDPMScheduler

    return _diffusers(DDPMScheduler(num_train_timesteps=1000), job)


def _ddim(job: Job) -> Callable[[], Tensor]:
    from diffusers import DDIMScheduler

    return _diffusers(DDIMScheduler(num_train_timesteps=1000), job)


def _diffusers(scheduler: Any, job: Job) -> Callable[[], Tensor]:
    """Guidance by hand: one call of both halves, as the documentation's loops do it."""
    model = networks.diffusers_unet().to(job.device).eval()
    return lambda: sample_diffusers(model, scheduler, job.steps, job.classes, 1 + W)


@torch.no_grad()
def sample_diffusers(model: torch.nn.Module, scheduler: Any, steps: int, classes: Tensor, scale: float) -> Tensor:
    """uint8 images of these classes; with scale 1 the conditional branch alone is called."""
    scheduler.set_timesteps(steps)
    x = torch.randn(len(classes), *SHAPE, device=classes.device)
    null = torch.full_like(classes, networks.CLASSES)
    for t in scheduler.timesteps:
        if scale == 1:
            eps = model(x, t, class_labels=classes).sample
        else:
            both = model(torch.cat([x, x]), t, class_labels=torch.cat([classes, null])).sample
            conditional, unconditional = both.chunk(2)
            eps = unconditional + scale * (conditional - unconditional)
        x = scheduler.step(eps, t, x).prev_sample
    return ((x / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)


def _lucid(job: Job) -> Callable[[], Tensor]:
    from denoising_diffusion_pytorch import classifier_free_guidance as module

    module.tqdm = lambda steps, **_: steps  # its bar, which cannot be switched off
    network = networks.lucid_unet()
    diffusion = module.GaussianDiffusion(network, image_size=networks.SIDE, timesteps=job.steps).to(job.device).eval()
    return lambda: diffusion.sample(job.classes, cond_scale=1 + W)
