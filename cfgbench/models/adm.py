r"""The released networks of ADM (Dhariwal & Nichol 2021): class-conditional, learned variance, discrete time.

`64x64_diffusion.pt` counts 1000 steps on the cosine schedule, `128x128_diffusion.pt` on the linear one. Step t has the
log-SNR lambda_t = log(abar_t / (1 - abar_t)), so the networks can be asked at any log-SNR in between. Of what they
predict eps is used; the variance of a step is the sampler's own, as the paper's is.
"""

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from cfgbench.diffusion.schedule import alpha, sigma
from cfgbench.errors import UserError, reason
from cfgbench.models.layers import Double
from cfgbench.models.meta_device import shapes_only
from cfgbench.models.precision import out_of_memory
from cfgbench.models.unet import Attention, UNet
from cfgbench.spec import Model

STEPS, CLASSES, COLOURS = 1000, 1000, 3


def cosine_log_snrs() -> Tensor:
    """lambda_t [1000], float64, of the cosine schedule with beta at most 0.999  (Nichol & Dhariwal 2021, eq. 17)."""
    levels = torch.cos((torch.linspace(0, 1, STEPS + 1, dtype=torch.float64) + 0.008) / 1.008 * math.pi / 2) ** 2
    return _log_snrs((1 - levels[1:] / levels[:-1]).clamp(max=0.999))


def linear_log_snrs() -> Tensor:
    """lambda_t [1000], float64, of the linear schedule, beta from 1e-4 to 0.02  (Ho et al. 2020)."""
    return _log_snrs(torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64))


def _log_snrs(betas: Tensor) -> Tensor:
    remaining = (1 - betas).cumprod(0)
    return torch.log(remaining) - torch.log1p(-remaining)


RELEASED = {
    192: ("adm-64", 64, cosine_log_snrs, False),
    256: ("adm-128", 128, linear_log_snrs, True),
}
"""Width of the first convolution -> preset, image side, schedule, and whether qkv rows are ordered head by head."""


class DiscreteTime(nn.Module):
    """A Denoiser of a network that counts time in steps: `network.at(z, t, c)` gives eps (and more channels).

    Beyond the ends of `log_snrs`, which the network never saw, it is asked at the end for its image: eps is then the
    one that belongs to that image at the log-SNR asked for.
    """

    def __init__(self, network: UNet, log_snrs: Tensor) -> None:
        super().__init__()
        self.network, self.num_classes = network, network.num_classes
        self.register_buffer("rising", log_snrs.flip(0).contiguous(), persistent=False)

    def forward(self, z: Tensor, lam: Tensor, c: Tensor) -> Tensor:
        inside = lam.double().clamp(self.rising[0], self.rising[-1])
        eps = self.network.at(z, self.step_of(inside).to(z.dtype), c)[:, : z.shape[1]]
        at, wanted = inside[:, None, None, None], lam.double()[:, None, None, None]
        x = (z - sigma(at) * eps) / alpha(at)
        return torch.where(at == wanted, eps, (z - alpha(wanted) * x) / sigma(wanted)).to(z.dtype)

    def at_once(self, z: Tensor) -> int:
        """As the network's."""
        return self.network.at_once(z)

    def step_of(self, lam: Tensor) -> Tensor:
        """t [b] in [0, 999] of log-SNRs [b] within the schedule, linear between its steps."""
        above = torch.searchsorted(self.rising, lam).clamp(1, len(self.rising) - 1)
        low, high = self.rising[above - 1], self.rising[above]
        return len(self.rising) - above - (lam - low) / (high - low)


def load_adm(path: Path, device: torch.device) -> DiscreteTime:
    """A released file as a Denoiser. Nothing but tensors is unpickled. Raises UserError naming the file."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        width = len(tensors["input_blocks.0.0.weight"])
        preset, side, log_snrs, head_by_head = RELEASED[width]
        network = build(Model(preset=preset), side)
        network.load_state_dict(translate(tensors, network, head_by_head=head_by_head), assign=True)
    except Exception as error:  # a damaged pickle fails in many ways, all of which mean the same
        if out_of_memory(error):
            raise
        why = reason(error, 150)
        raise UserError(
            f"model.checkpoint = {path}: not ADM's 64x64_diffusion.pt or 128x128_diffusion.pt ({why}); fetch it again"
        ) from None
    return DiscreteTime(network, log_snrs()).to(device).eval().requires_grad_(False)


def build(model: Model, side: int) -> UNet:
    """The shapes of the network as ADM has it: no null class, and a variance behind each colour of eps."""
    with shapes_only():
        return UNet(
            model, image_channels=COLOURS, side=side, num_classes=CLASSES, outputs=2 * COLOURS, null_class=False
        )


def translate(tensors: dict[str, Tensor], network: UNet, *, head_by_head: bool) -> dict[str, Tensor]:
    """ADM's tensors under our names, in memory of their own: a mapped file may be cut. Raises KeyError for one that is
    missing, ValueError for one too many."""
    names = released_names(network)
    if unknown := set(tensors) - set(names.values()):
        raise ValueError(f"unexpected {min(unknown)}")
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    copies = {theirs: tensors[theirs].to(torch.float32, copy=True) for theirs in names.values()}
    found = {ours: copies[theirs].reshape(shapes[ours]) for ours, theirs in names.items()}
    if head_by_head:
        attentions = {name: part for name, part in network.named_modules() if isinstance(part, Attention)}
        for name, part in attentions.items():
            for kind in ("weight", "bias"):
                rows = found[f"{name}.qkv.{kind}"]
                by_head = rows.reshape(part.heads, 3, -1, *rows.shape[1:])
                found[f"{name}.qkv.{kind}"] = by_head.transpose(0, 1).reshape(rows.shape)
    return found


_BLOCK = {
    "norm_in": "in_layers.0",
    "conv_in": "in_layers.2",
    "scale_shift": "emb_layers.1",
    "norm_out": "out_layers.0",
    "conv_out": "out_layers.3",
    "skip": "skip_connection",
}
_ATTENTION = {"norm": "norm", "qkv": "qkv", "out": "proj_out"}
_ENDS = {
    "embedding.time.0": "time_embed.0",
    "embedding.time.2": "time_embed.2",
    "embedding.classes": "label_emb",
    "first": "input_blocks.0.0",
    "norm": "out.0",
    "last": "out.2",
}


def released_names(network: UNet) -> dict[str, str]:
    """Our tensors' names -> ADM's, which numbers its blocks and puts a resampling block into the block before it."""
    modules = dict(_ENDS)
    for i, stage in enumerate(network.down):
        modules |= _stage(f"down.{i}", stage, f"input_blocks.{i + 1}", 0)
    modules |= _stage("middle.0", network.middle[0], "middle_block", 0)
    modules |= _stage("middle.1", network.middle[1], "middle_block", _parts(network.middle[0]))
    block = part = -1
    for i, stage in enumerate(network.up):
        block, part = (block, part) if isinstance(stage.block.resample, Double) else (block + 1, 0)
        modules |= _stage(f"up.{i}", stage, f"output_blocks.{block}", part)
        part += _parts(stage)
    renamed = {}
    for name in network.state_dict():
        module, _, kind = name.rpartition(".")
        renamed[name] = f"{modules[module]}.{kind}"
    return renamed


def _parts(stage: nn.Module) -> int:
    return 1 if isinstance(stage.attention, nn.Identity) else 2


def _stage(ours: str, stage: nn.Module, theirs: str, first: int) -> dict[str, str]:
    names = {f"{ours}.block.{mine}": f"{theirs}.{first}.{other}" for mine, other in _BLOCK.items()}
    if _parts(stage) == 2:
        names |= {f"{ours}.attention.{mine}": f"{theirs}.{first + 1}.{other}" for mine, other in _ATTENTION.items()}
    return names
