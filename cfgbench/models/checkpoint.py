"""Trained networks on disk."""

from pathlib import Path

import torch

from cfgbench.errors import UserError, reason
from cfgbench.models.meta_device import shapes_only
from cfgbench.models.noisy_classifier import HalfUNet
from cfgbench.models.unet import UNet
from cfgbench.spec import Model
from cfgbench.tensors import load_tensors

NETWORKS: dict[str, type[UNet | HalfUNet]] = {"denoiser": UNet, "classifier": HalfUNet}
"""What is trained, by the kind that `spec.Network` names."""


def load_network(path: Path, kind: str, device: torch.device) -> UNet | HalfUNet:
    """The trained network of a checkpoint (its EMA weights), ready to be sampled or to guide. Raises UserError."""
    tensors, header = load_tensors(path)
    try:
        if (found := header.get("kind", "denoiser")) != kind:
            raise ValueError(f"it is a {found}'s")
        if "ema" in header and not (isinstance(header["ema"], str) and isinstance(header["raw"], str)):
            raise ValueError("its digests are no text")
        with shapes_only():  # what a header announces is not allocated
            network = NETWORKS[kind](Model.model_validate(header["model"]), **header["image"])
        wanted = {name: (value.shape, value.dtype) for name, value in network.state_dict().items()}
        if wanted != {name: (value.shape, value.dtype) for name, value in tensors.items()}:
            raise ValueError("its tensors are not those of the network that it names")
        network.load_state_dict(tensors, assign=True)
        network.facts = header
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        why = reason(error, 120)
        raise UserError(f"{path}: not a checkpoint of a {kind} ({why}); delete it to train again") from None
    return network.to(device).eval().requires_grad_(False)
