"""The class-conditional U-Net of ADM (Dhariwal & Nichol 2021, section 3), in log-SNR.

Residual blocks whose norms are scaled and shifted by an embedding of log-SNR and class, resampling inside residual
blocks, attention at chosen resolutions, and ends that begin at zero.
"""

import math
import sys

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from cfgbench.models.layers import Conv, Double, GroupNorm, Halve, attention, channels_last
from cfgbench.spec import Model

BYTES_A_CORE = 2 << 20
"""Bytes of the largest feature map that a processor works on at a time, for each of its cores: what lies between two
layers then stays in its caches, and is memory that malloc need not ask the system for each time."""


def zeroed(module: nn.Module) -> nn.Module:
    """The module with all its parameters set to zero: a residual branch that begins as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class TimeEmbedding(nn.Module):
    """Time [b] in [0, 1000] to a vector [b, width]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = 4 * channels
        # geometric from 1 down to 1 / 10,000; it has its numbers where parameters are shapes alone (`meta_device`)
        places = torch.arange(channels // 2, device="cpu")
        frequencies = torch.exp(-math.log(10_000) * places / (channels // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.time = nn.Sequential(nn.Linear(channels // 2 * 2, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time: Tensor) -> Tensor:
        angles = time[:, None] * self.frequencies
        return self.time(torch.cat([angles.cos(), angles.sin()], dim=1))


class Embedding(TimeEmbedding):
    """Time [b] in [0, 1000] and class [b] below `classes` to one vector [b, width]."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(channels)
        self.classes = nn.Embedding(classes, 4 * channels)

    def forward(self, time: Tensor, c: Tensor) -> Tensor:
        return super().forward(time) + self.classes(c)


class ResBlock(nn.Module):
    """norm, SiLU, [resample], conv, norm scaled and shifted by the embedding, SiLU, dropout, conv, plus the input."""

    def __init__(
        self, inputs: int, outputs: int, width: int, *, dropout: float, resample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.resample = resample or nn.Identity()
        self.norm_in, self.norm_out = GroupNorm(inputs, silu=True), GroupNorm(outputs, silu=True)
        self.conv_in = Conv(inputs, outputs, 3, padding=1)
        self.conv_out = zeroed(Conv(outputs, outputs, 3, padding=1))
        self.scale_shift = nn.Linear(width, 2 * outputs)
        self.dropout = nn.Dropout(dropout)
        self.skip = Conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_in(self.resample(self.norm_in(x)))
        h = self.norm_out(h, self.scale_shift(embedding))
        return self.skip(self.resample(x)) + self.conv_out(self.dropout(h))


class Attention(nn.Module):
    """Self-attention over all positions."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = GroupNorm(channels, silu=False)
        self.qkv = Conv(channels, 3 * channels, 1)
        self.out = zeroed(Conv(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, height, width, channels = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, height * width, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        h = attention(q, k, v)
        return x + self.out(h.transpose(1, 2).reshape(x.shape))


class Stage(nn.Module):
    """A residual block of [b, h, w, C], followed by attention where this resolution has it."""

    def __init__(self, block: ResBlock, attention: Attention | None) -> None:
        super().__init__()
        self.block, self.attention = block, attention or nn.Identity()
        self.outputs = block.conv_out.out_channels

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.attention(self.block(x, embedding))


def down_stages(model: Model, sides: list[int]) -> nn.ModuleList:
    """The way down, from `model.channels` at sides[0] to the deepest level; each level but the first begins halved."""
    stages, channels = nn.ModuleList(), model.channels
    for level, (multiplier, at) in enumerate(zip(model.multipliers, sides, strict=True)):
        if level > 0:
            stages.append(_stage(model, channels, channels, resample=Halve()))
        for _ in range(model.blocks):
            stages.append(_stage(model, channels, multiplier * model.channels, attends=at in model.attention))
            channels = multiplier * model.channels
    return stages


def middle_stages(model: Model, channels: int) -> nn.ModuleList:
    """The two stages at the deepest level, the first with attention where any level has it."""
    attends = bool(model.attention)
    return nn.ModuleList([_stage(model, channels, channels, attends=attends), _stage(model, channels, channels)])


def _stage(
    model: Model, inputs: int, outputs: int, *, attends: bool = False, resample: nn.Module | None = None
) -> Stage:
    block = ResBlock(inputs, outputs, 4 * model.channels, dropout=model.dropout, resample=resample)
    return Stage(block, Attention(outputs, heads(model, outputs)) if attends else None)


def images_at_once(first: Conv, z: Tensor) -> int:
    """How many images like those of z [b, ch, side, side] keep a processor's caches busy and not more, in a network
    that begins with this convolution. A GPU takes all."""
    if z.device.type != "cpu":
        return sys.maxsize
    image = len(first.weight) * first.weight.element_size() * z.shape[2] * z.shape[3]
    return max(1, BYTES_A_CORE * torch.get_num_threads() // image)


class UNet(nn.Module):
    """eps(z, lam, c): z [b, ch, side, side] at log-SNR lam [b] and class c [b] int64 gives eps of z's shape.

    Class id `num_classes` is the null class, which ADM's own networks do not have (`null_class`). With `recompute`,
    training keeps no activations inside the stages. Raises ValueError where the levels do not divide the side, an
    attention resolution is none of the levels', or the heads do not divide the channels.
    """

    def __init__(
        self,
        model: Model,
        *,
        image_channels: int,
        side: int,
        num_classes: int,
        outputs: int | None = None,
        null_class: bool = True,
    ) -> None:
        super().__init__()
        self.num_classes, self.recompute = num_classes, False
        sides = level_sides(model, side)
        self.embedding = Embedding(model.channels, num_classes + null_class)
        self.first = Conv(image_channels, model.channels, 3, padding=1)
        self.down, self.up = down_stages(model, sides), nn.ModuleList()
        skips = [model.channels, *(stage.outputs for stage in self.down)]
        channels = skips[-1]
        self.middle = middle_stages(model, channels)
        for level, (multiplier, at) in reversed(list(enumerate(zip(model.multipliers, sides, strict=True)))):
            for _ in range(model.blocks + 1):
                inputs, channels = channels + skips.pop(), multiplier * model.channels
                self.up.append(_stage(model, inputs, channels, attends=at in model.attention))
            if level > 0:
                self.up.append(_stage(model, channels, channels, resample=Double()))
        self.norm = GroupNorm(channels, silu=True)
        self.last = zeroed(Conv(channels, outputs or image_channels, 3, padding=1))

    def forward(self, z: Tensor, lam: Tensor, c: Tensor) -> Tensor:
        return self.at(z, time_of(lam), c)

    def at(self, z: Tensor, time: Tensor, c: Tensor) -> Tensor:
        """The output [b, outputs, side, side] at time [b] in [0, 1000], which is how ADM counts noise."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or len(z) <= (count := self.at_once(z)):
            return self._at(z, time, c)
        parts = zip(z.split(count), time.split(count), c.split(count), strict=True)
        return torch.cat([self._at(*part) for part in parts])

    def at_once(self, z: Tensor) -> int:
        """How many images like those of z [b, ch, side, side] go through the network at a time to take the least
        time; at most, where gradients are not asked for."""
        return images_at_once(self.first, z)

    def _at(self, z: Tensor, time: Tensor, c: Tensor) -> Tensor:
        embedding = F.silu(self.embedding(time, c))
        h = self.first(channels_last(z))
        skips = [h]
        for stage in self.down:
            h = run_stage(self, stage, h, embedding)
            skips.append(h)
        for stage in self.middle:
            h = run_stage(self, stage, h, embedding)
        for stage in self.up:
            if not isinstance(stage.block.resample, Double):
                h = torch.cat([h, skips.pop()], dim=-1)
            h = run_stage(self, stage, h, embedding)
        return self.last(self.norm(h)).permute(0, 3, 1, 2).float()


def run_stage(network: nn.Module, stage: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
    """The stage's output. A network that is to `recompute` keeps no activations inside of it in training."""
    if network.recompute and network.training:
        return checkpoint(stage, h, embedding, use_reentrant=False)
    return stage(h, embedding)


def time_of(lam: Tensor) -> Tensor:
    """1000 u of log-SNR [b]: the angle whose tangent is sigma / alpha is even where lam would crowd at its ends."""
    return torch.atan(torch.exp(-lam / 2)) * (2000 / math.pi)


def heads(model: Model, channels: int) -> int:
    """The number of attention heads at so many channels; one where a head has as many or more. Raises ValueError where
    they do not divide them."""
    key, divisor = ("heads", model.heads) if model.heads else ("head_channels", min(model.head_channels, channels))
    if channels % divisor:
        raise ValueError(f"model.{key} = {divisor}: does not divide {channels} channels")
    return model.heads or channels // divisor


def level_sides(model: Model, side: int) -> list[int]:
    """The side of each level's feature maps, from the image's downwards. Raises ValueError where they do not fit."""
    divisor = 2 ** (len(model.multipliers) - 1)
    if side % divisor:
        raise ValueError(
            f"model.multipliers = {model.multipliers}: {len(model.multipliers)} levels need an image side that "
            f"{divisor} divides, not {side}; take fewer levels or another dataset.resolution"
        )
    sides = [side >> level for level in range(len(model.multipliers))]
    for resolution in model.attention:
        if resolution not in sides:
            raise ValueError(f"model.attention = {model.attention}: {resolution} is none of the levels' sides {sides}")
    return sides


def fewest_parameters(model: Model) -> int:
    """The weights of the residual blocks' last convolutions alone: known without building a network of any size."""
    stages = 2 * model.blocks + 1
    return sum(stages * 9 * (multiplier * model.channels) ** 2 for multiplier in model.multipliers)
