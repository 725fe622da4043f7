"""What a sweep costs in floating-point operations, counted on its own networks."""

from typing import NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cfgbench.models.checkpoint import NETWORKS
from cfgbench.spec import Cell, Network, networks_of
from cfgbench.training.facts import ImageFacts

STEP_IN_PASSES = 3
"""Operations of a training step, in forward passes: one forwards, two backwards (of values and of weights)."""


def of_a_pass(network: Network, image: ImageFacts) -> int:
    """Operations of one image's pass: matrix products and convolutions, a multiplication and an addition counted as
    two. Nothing is computed: tensors have shapes only."""
    plain = sdpa_kernel(SDPBackend.MATH)  # the counter does not know every way to attention
    with FakeTensorMode(), torch.no_grad(), plain, FlopCounterMode(display=False) as counter:
        made = NETWORKS[network.kind](network.model, **image).eval()
        z, lam = torch.empty(1, image["image_channels"], image["side"], image["side"]), torch.empty(1)
        c = [torch.zeros(1, dtype=torch.int64)] if network.kind == "denoiser" else []
        made(z, lam, *c)
    return counter.get_total_flops()


class Operations(NamedTuple):
    """Of an image's pass through the denoiser, of sampling cells, and of training networks."""

    one_pass: int
    sampling: int
    training: int


def of_sweep(cells: list[Cell], networks: list[Network], image: ImageFacts) -> Operations:
    """Of sampling these cells and training these networks. A classifier's passes are taken for the denoiser's."""
    passes = {one.kind: of_a_pass(one, image) for one in {one.kind: one for one in networks_of(cells)}.values()}
    sampling = sum(cell.total_nfe for cell in cells) * passes["denoiser"]
    steps = [(one.training.steps * one.training.batch_size, one.kind) for one in networks]
    training = sum(STEP_IN_PASSES * images * passes[kind] for images, kind in steps)
    return Operations(passes["denoiser"], sampling, training)
