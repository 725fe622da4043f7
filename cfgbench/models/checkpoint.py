"""Trained networks on disk."""

from pathlib import Path
from typing import TypeVar

import torch

from cfgbench.errors import UserError, reason
from cfgbench.models.meta_device import shapes_only
from cfgbench.models.noisy_classifier import HalfUNet
from cfgbench.models.unet import UNet
from cfgbench.spec import Model
from cfgbench.tensors import load_tensors

N = TypeVar("N", UNet, HalfUNet)


def load_denoiser(path: Path, device: torch.device) -> UNet:
    """The trained network of a checkpoint (its EMA weights), ready to be sampled. Raises UserError."""
    return _load(path, device, "denoiser", UNet)


def load_noisy_classifier(path: Path, device: torch.device) -> HalfUNet:
    """The trained classifier of noisy images of a checkpoint, ready to guide. Raises UserError."""
    return _load(path, device, "classifier", HalfUNet)


def _load(path: Path, device: torch.device, kind: str, make: type[N]) -> N:
    tensors, header = load_tensors(path)
    try:
        if (found := header.get("kind", "denoiser")) != kind:
            raise ValueError(f"it is a {found}'s")
        if "ema" in header and not (isinstance(header["ema"], str) and isinstance(header["raw"], str)):
            raise ValueError("its digests are no text")
        with shapes_only():  # what a header announces is not allocated
            network = make(Model.model_validate(header["model"]), **header["image"])
        wanted = {name: (value.shape, value.dtype) for name, value in network.state_dict().items()}
        if wanted != {name: (value.shape, value.dtype) for name, value in tensors.items()}:
            raise ValueError("its tensors are not those of the network that it names")
        network.load_state_dict(tensors, assign=True)
        network.facts = header
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        why = reason(error, 120)
        raise UserError(f"{path}: not a checkpoint of a {kind} ({why}); delete it to train again") from None
    return network.to(device).eval().requires_grad_(False)
