"""The networks that sample and train, ours and the peers': one size, shown by parameters and FLOPs."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch
from timing import Setup, markdown
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

SIDE, CLASSES = 32, 10
OURS, DIFFUSERS, LUCID = "cfgbench", "diffusers", "denoising-diffusion-pytorch"
AS_IT_IS = f"{OURS}, not compiled"
"""A second one of ours, on a GPU, where `cfgbench` is compiled."""


def plain() -> nn.Module:
    """Our U-Net as written, always the same; its zeroed ends have weights: one that says 0 hides what differs."""
    from cfgbench.models.unet import UNet
    from cfgbench.spec import Model

    model = Model(name="unet", channels=64, multipliers=[1, 2, 2], blocks=2, attention=[16], head_channels=64)
    with torch.random.fork_rng(devices=[]):  # building a network draws from the global state
        torch.manual_seed(0)
        network = UNet(model, image_channels=3, side=SIDE, num_classes=CLASSES)
        for parameter in network.parameters():
            if parameter.dim() > 1 and not parameter.any():
                nn.init.normal_(parameter, std=0.02)
    return network


@lru_cache
def ours(device: torch.device, precision: str, rows: int, *, compiled: bool) -> Any:
    """Our denoiser as the program samples with it, so many rows at a time: the one place that knows how."""
    from cfgbench.models.fast import for_sampling

    network = plain().to(device).eval().requires_grad_(False)
    return for_sampling(network, precision, rows if compiled else None)


def diffusers_unet() -> nn.Module:
    """ADM's blocks in diffusers' words: with resampling inside residual blocks the layers are ours, one by one."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=SIDE,
        in_channels=3,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=(64, 128, 128),
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"),
        up_block_types=("ResnetUpsampleBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        attention_head_dim=64,
        num_class_embeds=CLASSES + 1,
        resnet_time_scale_shift="scale_shift",
        downsample_type="resnet",
        upsample_type="resnet",
        norm_num_groups=32,
    )


def lucid_unet() -> nn.Module:
    """The sizes nearest to ours in parameters and FLOPs of all that were tried (dim 40 to 96 in fours, 18 choices of
    multipliers, 1 to 16 heads)."""
    from denoising_diffusion_pytorch.classifier_free_guidance import Unet

    return Unet(dim=80, num_classes=CLASSES, dim_mults=(1, 2, 1), channels=3, attn_heads=16, attn_dim_head=64)


_NETWORKS: dict[str, tuple[Callable[[], nn.Module], torch.dtype]] = {
    OURS: (plain, torch.float32),
    DIFFUSERS: (diffusers_unet, torch.int64),
    LUCID: (lucid_unet, torch.float32),
}
"""name -> the network, and the type of the time that it takes."""


@lru_cache
def size(name: str) -> tuple[int, int]:
    """Parameters, and FLOPs of one image and call: 2 a multiply-add, attention counted in plain matrix products."""
    make, time_type = _NETWORKS[name]
    network = make().eval()
    z, time, c = torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1, dtype=time_type), torch.zeros(1, dtype=torch.int64)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(z, time, c)
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops()


def gflop(names: list[str], times: float) -> dict[str, float]:
    """What `times` calls for one image cost the network of each contestant (`diffusers DDIM` is diffusers), in GFLOP.

    A network that is not installed has none."""
    found = {}
    for name in names:
        known = next(known for known in _NETWORKS if name.startswith(known))
        try:
            found[name] = size(known)[1] * times / 1e9
        except ImportError:
            found[name] = float("nan")
    return found


def run(setup: Setup) -> Iterator[str]:
    """The table of sizes."""
    rows = [_row(name) for name in _NETWORKS]
    yield markdown("Networks", ["network", "parameters", "to ours", "GFLOP an image and call", "to ours"], rows)


def _row(name: str) -> list[Any]:
    parameters, flops = size(OURS)
    try:
        p, f = size(name)
    except ImportError as error:
        return [name, str(error), "", "", ""]
    return [name, f"{p:,}", f"{p / parameters - 1:+.1%}", f"{f / 1e9:.3f}", f"{f / flops - 1:+.1%}"]
