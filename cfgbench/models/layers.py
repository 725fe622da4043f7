"""The layers of the U-Net, on feature maps [b, h, w, C]: channels lie last, as matrix units and caches want them."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cfgbench.models import native_group_norm


def channels_last(z: Tensor) -> Tensor:
    """Images [b, ch, h, w] as a copy [b, h, w, ch], also where ch is 1: a view is contiguous then, but torch takes it,
    and all that is convolved from it, for channels first."""
    return z.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)


class Conv(nn.Conv2d):
    """A convolution of [b, h, w, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class GroupNorm(nn.Module):
    """Group norm of [b, h, w, C], scaled and shifted once more by an embedding, then SiLU where it is asked for.

    ADM's 32 groups, or a quarter as many as channels where those are fewer, as far as that divides the channels. Half
    types are computed in float32, and returned as they came.
    torch's own kernel takes two thirds of a small network's time with channels last: it reads each group's few channels
    by themselves. Here whole rows are summed, and the channels' moments then averaged over the groups.
    """

    def __init__(self, channels: int, *, silu: bool) -> None:
        super().__init__()
        self.groups, self.silu, self.eps = math.gcd(channels, min(32, channels // 4)), silu, 1e-5
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, embedded: Tensor | None = None) -> Tensor:
        """`embedded` [b, 2 C], scale and shift, makes (1 + scale) norm(x) + shift of it."""
        if native_group_norm.takes(x, self.weight):
            embedded = None if embedded is None else embedded.float().contiguous()
            return native_group_norm.group_norm(
                x.contiguous(), self.weight, self.bias, embedded, self.groups, self.eps, self.silu
            )
        half = x.dtype in (torch.bfloat16, torch.float16)
        y = x.float() if half else x
        # about a value that occurs the squares lose nothing; half types have lost it before
        about = None if half else y[:, 0, 0]
        if about is not None:
            y = y - about[:, None, None]
        factor, offset = self._affine(y, about)
        if embedded is not None:
            scale, shift = embedded.to(y.dtype).chunk(2, dim=1)
            factor, offset = factor * (1 + scale), offset * (1 + scale) + shift
        y = torch.addcmul(offset[:, None, None], y, factor[:, None, None])
        return (F.silu(y) if self.silu else y).to(x.dtype)

    def _affine(self, y: Tensor, about: Tensor | None) -> tuple[Tensor, Tensor]:
        """norm(y + about) as factor y + offset, [b, C] each."""
        means, squares = y.mean(dim=(1, 2)), y.square().mean(dim=(1, 2))
        if about is None:
            mean, square = self._over_groups(torch.stack([means, squares])).unbind()
            variance, apart = square - mean.square(), -mean
        else:
            mean = self._over_groups(means + about)
            apart = about - mean
            variance = self._over_groups(squares - means.square() + (means + apart).square())
        # NaN where squares overflowed: x would vanish, and the bias look like y; its own gradient is none, and adding
        # that of both terms to the variance's would round it away
        nothing = (variance - variance).detach()
        factor = self.weight * ((variance.clamp(min=0) + self.eps).rsqrt() + nothing)  # rounding may leave less than 0
        return factor, self.bias + apart * factor

    def _over_groups(self, values: Tensor) -> Tensor:
        """Each channel's value [..., C] replaced by its group's mean."""
        grouped = values.unflatten(-1, (self.groups, -1))
        return grouped.mean(dim=-1, keepdim=True).expand_as(grouped).flatten(-2)


class Halve(nn.Module):
    """Means over 2 x 2 positions."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


class Double(nn.Module):
    """Each position four times."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu":  # a twentieth of the copy's time, backwards
            return F.interpolate(x.permute(0, 3, 1, 2), scale_factor=2).permute(0, 2, 3, 1)
        b, h, w, channels = x.shape  # compiled for a GPU, a copy is faster than looking places up
        return x[:, :, None, :, None].expand(-1, -1, 2, -1, 2, -1).reshape(b, 2 * h, 2 * w, channels)


FEW_POSITIONS, FEW_IN_TRAINING = 16, 64
"""Up to so many torch's blockwise attention for processors is slower than plain products: in sampling in float32, in
training, where it goes backwards, in half types."""


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of [b, heads, positions, d]."""
    if q.device.type == "cpu":
        trains = torch.is_grad_enabled() and q.requires_grad
        few = FEW_IN_TRAINING if trains else FEW_POSITIONS
        if trains == (q.dtype != torch.float32) and q.shape[2] <= few:
            return _plain(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


def _plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same in float32, a product after the other."""
    with torch.autocast(q.device.type, enabled=False):
        queries, keys, values = (x.float().flatten(0, 1) for x in (q, k, v))
        weights = torch.softmax(queries @ keys.transpose(1, 2) * q.shape[-1] ** -0.5, dim=-1)
        return (weights @ values).view(q.shape).to(q.dtype)
