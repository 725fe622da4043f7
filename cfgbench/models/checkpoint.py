"""Networks on disk: safetensors, with what made them as JSON in the header."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cfgbench.errors import UserError
from cfgbench.files import write_atomically
from cfgbench.models.unet import UNet
from cfgbench.spec import Model


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Writes tensors and a JSON header to a safetensors file, whole or not at all."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"cfgbench": json.dumps(header)}
    write_atomically(path, lambda temporary: save_file(contiguous, temporary, metadata=metadata))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header of a file that `save_tensors` wrote. Raises UserError naming a file that is not."""
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["cfgbench"])
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 (no mapping)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: not a whole cfgbench checkpoint ({reason}); delete it to train again") from None


def load_denoiser(path: Path, device: torch.device) -> UNet:
    """The trained network of a checkpoint (its EMA weights), ready to be sampled. Raises UserError."""
    tensors, header = load_tensors(path)
    try:
        with torch.device("meta"):  # what a header announces is not allocated
            network = UNet(Model.model_validate(header["model"]), **header["image"])
        wanted = {name: (value.shape, value.dtype) for name, value in network.state_dict().items()}
        if wanted != {name: (value.shape, value.dtype) for name, value in tensors.items()}:
            raise ValueError("its tensors are not those of the network that it names")
        network = network.to_empty(device="cpu")
        network.embedding.reset_frequencies()
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: not a checkpoint of a U-Net ({reason}); delete it to train again") from None
    return network.to(device).eval().requires_grad_(False)
