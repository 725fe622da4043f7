"""The classifier p(c | z_lambda) of classifier guidance: half of the U-Net with attention pooling, as ADM's
(Dhariwal & Nichol 2021, appendix H), in log-SNR."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cfgbench.models.layers import Conv, GroupNorm, channels_last
from cfgbench.models.unet import (
    TimeEmbedding,
    down_stages,
    heads,
    images_at_once,
    level_sides,
    middle_stages,
    run_stage,
    time_of,
)
from cfgbench.spec import Model


class HalfUNet(nn.Module):
    """Logits [b, num_classes] of z [b, ch, side, side] at log-SNR lam [b]: the U-Net's way down and its middle.

    With `recompute`, training keeps no activations inside the stages. Raises ValueError as the U-Net does.
    """

    def __init__(self, model: Model, *, image_channels: int, side: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes, self.recompute = num_classes, False
        sides = level_sides(model, side)
        self.embedding = TimeEmbedding(model.channels)
        self.first = Conv(image_channels, model.channels, 3, padding=1)
        self.down = down_stages(model, sides)
        channels = self.down[-1].outputs
        self.middle = middle_stages(model, channels)
        self.norm = GroupNorm(channels, silu=True)
        self.pool = AttentionPool(sides[-1], channels, heads(model, channels), num_classes)

    def forward(self, z: Tensor, lam: Tensor) -> Tensor:
        embedding = F.silu(self.embedding(time_of(lam)))
        h = self.first(channels_last(z))
        for stage in [*self.down, *self.middle]:
            h = run_stage(self, stage, h, embedding)
        return self.pool(self.norm(h)).float()

    def at_once(self, z: Tensor) -> int:
        """How many images like those of z [b, ch, side, side] go through it at a time, there and back."""
        return images_at_once(self.first, z)


class AttentionPool(nn.Module):
    """Feature maps [b, side, side, channels] to [b, outputs]: their mean attends to all (Radford et al. 2021)."""

    def __init__(self, side: int, channels: int, heads: int, outputs: int) -> None:
        super().__init__()
        self.heads = heads
        self.positions = nn.Parameter(torch.ones(channels, side * side + 1))  # training draws them, as all weights
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        b, channels = len(x), x.shape[-1]
        x = x.flatten(1, 2)
        tokens = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positions.T
        q, k, v = self.qkv(tokens).reshape(b, -1, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        pooled = F.scaled_dot_product_attention(q[:, :, :1], k, v)
        return self.out(pooled.reshape(b, channels))
