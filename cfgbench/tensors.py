"""Tensors on disk: safetensors with a JSON header and a digest, so that what was cut or changed is never believed."""

import errno
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cfgbench.errors import UserError, reason
from cfgbench.files import write_atomically


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Writes tensors and a JSON header to a safetensors file, whole or not at all."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # in one text: the order of several would be another in each file
    metadata = {"cfgbench": json.dumps(header | {"digest": digest(contiguous, json.dumps(header))})}
    write_atomically(path, lambda temporary: _save(temporary, contiguous, metadata))


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """The library has an error of its own for a full disk; raises OSError in its place."""
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error).partition(" (os error")[0]) from None


def load_tensors(path: Path, *, expected: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header of a file that `save_tensors` wrote.

    Their digest has to be the `expected` one, or that which the file itself names. Raises UserError naming the file.
    """
    try:
        if not path.is_file():  # a pipe would never end
            raise ValueError("not a regular file")
        check_readable(path)
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["cfgbench"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        named = header.pop("digest", "none")
        if digest(tensors, json.dumps(header)) != (expected or named):
            raise ValueError("its content does not fit its digest")
        return tensors, header
    except (SafetensorError, LookupError, ValueError, TypeError, OSError, RuntimeError, AttributeError) as error:
        why = reason(error, 120)
        way = "install cfgbench again" if expected else "delete it, and it is made again"
        raise UserError(f"{path}: not a whole file of cfgbench ({why}); {way}") from None


def check_readable(path: Path) -> None:
    """Raises UserError for a file that may not be read: whether it is whole is not known."""
    if path.is_file() and not os.access(path, os.R_OK):
        raise UserError(f"{path}: cannot be read (permission denied); nothing is made in its place")


def digest(tensors: dict[str, Tensor], header: str = "") -> str:
    """The SHA-256 of names, types, shapes and bytes of tensors on the processor, and of a header, 64 hex digits."""
    whole = hashlib.sha256(header.encode())
    for name, tensor in sorted(tensors.items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        whole.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()
