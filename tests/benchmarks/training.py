"""One training step: forward, loss, backward, optimizer, and the average of the weights where the library has one."""

import random
from collections.abc import Callable, Iterator

import networks
import numpy as np
import torch
from timing import Contestant, Setup, in_turn, table
from torch import Tensor
from torch.nn import functional as F

from cfgbench.data import Images
from cfgbench.models.precision import resolve_precision
from cfgbench.spec import Training
from cfgbench.training.compiling import Compiling
from cfgbench.training.feed import Feed
from cfgbench.training.state import begin
from cfgbench.training.step import Step

DROPPED = 0.1
"""How often the class is dropped, for all."""


def run(setup: Setup) -> Iterator[str]:
    """A step of 64 images, on a GPU of 256; counted as three forward passes."""
    on_gpu = setup.device.type == "cuda"
    batch = 4 if setup.quick else 256 if on_gpu else 64
    images = _images(max(64, batch))
    ours = {networks.OURS: _compiled, networks.AS_IT_IS: _ours} if on_gpu else {networks.OURS: _ours}
    makers = ours | {networks.DIFFUSERS: _diffusers, networks.LUCID: _lucid}
    contestants = [
        Contestant(name, lambda make=make: make(images, batch, setup.device), ours=name.startswith(networks.OURS))
        for name, make in makers.items()
    ]
    found = in_turn(contestants, setup)
    rates = {"images/s": batch, "GFLOP/s": networks.gflop(list(makers), 3 * batch)}
    agreed = {one.name: f"loss {one.result:.3f}" for one in found if one.seconds}
    notes = [
        f"Batches of {batch}; cfgbench in {resolve_precision('auto', setup.device)}, as the program decides, with EMA "
        "and clipped gradients; the peers in fp32: diffusers as in its training tutorial (AdamW, clipped gradients, no "
        "EMA), denoising-diffusion-pytorch as its Trainer does it (EMA every tenth step). Losses are those of noise "
        "images after as many steps as were timed: they tell that all of them learn, no more."
    ]
    yield table("Training step", found, rates=rates, agreed=agreed, notes=notes)


def _images(count: int) -> Images:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, networks.SIDE, networks.SIDE), dtype=np.uint8)
    labels = np.arange(count) % networks.CLASSES
    return Images("noise", pixels, labels, tuple(map(str, range(networks.CLASSES))), flips=False)


def _compiled(images: Images, batch: int, device: torch.device) -> Callable[[], float]:
    return _ours(images, batch, device, compiled=True)


def _ours(images: Images, batch: int, device: torch.device, *, compiled: bool = False) -> Callable[[], float]:
    training = Training(steps=1000, batch_size=batch, p_uncond=DROPPED)
    precision = resolve_precision("auto", device)
    state = begin(networks.plain(), training, device, precision)
    feed = Feed(images, training, range(batch), device)
    Compiling(state, device, asked=compiled)

    step = Step(state, feed, precision)

    def work() -> float:
        step()
        return state.losses[state.step - 1].item()

    return work


def _batch(images: Images, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images in [0, 1] and labels."""
    chosen = random.Random(0).sample(range(len(images.labels)), batch)
    return torch.from_numpy(images.images[chosen]).to(device) / 255, torch.from_numpy(images.labels[chosen]).to(device)


def _diffusers(images: Images, batch: int, device: torch.device) -> Callable[[], float]:
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_cosine_schedule_with_warmup

    model, scheduler = networks.diffusers_unet().to(device).train(), DDPMScheduler(num_train_timesteps=1000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    rate = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=500, num_training_steps=1000)
    pixels, labels = _batch(images, batch, device)

    def step() -> float:
        clean = pixels * 2 - 1
        noise, t = torch.randn_like(clean), torch.randint(0, 1000, (batch,), device=device)
        classes = torch.where(torch.rand(batch, device=device) < DROPPED, networks.CLASSES, labels)
        predicted = model(scheduler.add_noise(clean, noise, t), t, class_labels=classes, return_dict=False)[0]
        loss = F.mse_loss(predicted, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def _lucid(images: Images, batch: int, device: torch.device) -> Callable[[], float]:
    from denoising_diffusion_pytorch.classifier_free_guidance import GaussianDiffusion
    from ema_pytorch import EMA

    network = networks.lucid_unet()
    network.cond_drop_prob = DROPPED
    diffusion = GaussianDiffusion(network, image_size=networks.SIDE, timesteps=1000).to(device).train()
    optimizer = torch.optim.AdamW(diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
    ema = EMA(diffusion, beta=0.995, update_every=10)
    pixels, labels = _batch(images, batch, device)

    def step() -> float:
        loss = diffusion(pixels, classes=labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
        return loss.item()

    return step
