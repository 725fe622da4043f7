"""Networks that exist before the sweep: a released checkpoint, or whatever a function of the user's own gives."""

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from cfgbench.data import Images
from cfgbench.diffusion.guidance import Denoiser
from cfgbench.diffusion.schedule import alpha, sigma
from cfgbench.errors import UserError, brief
from cfgbench.files import digest_named, file_digest, identity
from cfgbench.models.adm import load_adm
from cfgbench.models.gaussians import ExactDenoiser
from cfgbench.models.precision import out_of_memory
from cfgbench.spec import Checkpoint, Exact, Factory, Pretrained


def load_pretrained(model: Pretrained, images: Images, device: torch.device) -> Denoiser:
    """The network that `model` names, ready to be sampled, which was tried and fits these images. Raises UserError
    naming file, key or function."""
    if isinstance(model, Exact):
        denoiser: Denoiser = ExactDenoiser(images.mixture, device)
    elif isinstance(model, Checkpoint):
        denoiser = load_adm(model.checkpoint, device)
    else:
        denoiser = _made(model, device)
    _check_shape(denoiser, images, device, null_class=model.p_uncond > 0)
    return denoiser


def weights_identity(model: Pretrained, images: Images) -> str:
    """What names the network's numbers: a file's digest; a function's source, arguments, and the files they name; or
    the mixture of these images, which is solved.

    Raises UserError for a file or module that is not there.
    """
    if isinstance(model, Exact):
        return f"exact {images.mixture.digest}"
    if isinstance(model, Checkpoint):
        return f"{model.format} {digest_named('model.checkpoint', model.checkpoint)}"
    _look_where_the_user_stands()
    try:
        with _as_it_was():
            source = importlib.util.find_spec(model.module)
    except ModuleNotFoundError as error:
        if not f"{model.module}.".startswith(f"{error.name}."):  # one that the user's own package asks for
            raise _wrong(model, _words(error)) from None
        source = None
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:  # the user's own packages fail as they like
        raise _wrong(model, _words(error)) from None
    if source is None or not _is_file(source.origin or ""):
        raise _wrong(model, f"no module {model.module}, neither installed nor where you stand")
    digests = [file_digest(path) for path in (Path(source.origin), *_files_in(model.arguments))]
    return f"{model.function} {identity([model.prediction, model.arguments, digests])}"


class Predicting(nn.Module):
    """A Denoiser of a network that predicts eps, the image x, or v = alpha eps - sigma x (Salimans & Ho 2022)."""

    def __init__(self, network: Callable[[Tensor, Tensor, Tensor], Tensor], prediction: str, num_classes: int) -> None:
        super().__init__()
        self.network, self.num_classes, self.to_eps = network, num_classes, PREDICTIONS[prediction]

    def forward(self, z: Tensor, lam: Tensor, c: Tensor) -> Tensor:
        # copies that are the network's own: it may change them in place, and take gradients with regard to them
        with torch.inference_mode(False), torch.no_grad():
            try:
                found = self.network(z.clone(), lam.clone(), c.clone())
            except OSError as error:  # from a file or a server of its own: it says nothing of ours, and stops no other
                raise RuntimeError(_words(error)) from None
            found = _prediction(found, z).detach()
        return self.to_eps(found, z, lam.double()[:, None, None, None]).to(z.dtype)


def _prediction(found: Any, z: Tensor) -> Tensor:
    """What a network gave for images z. Raises TypeError for what is no tensor but may hold one, or has other numbers,
    ValueError for another shape, which could be made to fit by repeating it."""
    if not isinstance(found, Tensor):
        name = type(found).__name__
        kind = "None" if found is None else f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
        raise TypeError(f"it gives {kind}, not a tensor [b, ch, h, w]")
    if not found.is_floating_point():
        raise TypeError(f"it gives numbers of {found.dtype}, not floating point")
    if found.shape != z.shape:
        raise ValueError(f"it gives {tuple(found.shape)} for images {tuple(z.shape)}")
    return found


PREDICTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "eps": lambda eps, z, lam: eps,
    "x": lambda x, z, lam: (z - alpha(lam) * x) / sigma(lam),
    "v": lambda v, z, lam: alpha(lam) * v + sigma(lam) * z,
}
"""What networks predict -> eps from the prediction, z and the log-SNR, by z = alpha x + sigma eps."""


def _made(model: Factory, device: torch.device) -> Denoiser:
    _look_where_the_user_stands()
    try:
        with _as_it_was(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            make = getattr(importlib.import_module(model.module), model.function)
            _check_place(model, make)
            torch.manual_seed(0)  # weights that are drawn are the same whether or not the module was loaded before
            network = make(**model.arguments)
            if getattr(network, "num_classes", None) is None:
                raise _wrong(
                    model,
                    f"gives {brief(type(network).__name__, quoted=False)} without num_classes; give what it returns "
                    "the number of its classes under that name",
                )
            num_classes = int(network.num_classes)
            if isinstance(network, nn.Module):
                network = network.to(device).eval().requires_grad_(False)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code fails as it likes
        if isinstance(error, MemoryError | RuntimeError) and out_of_memory(error):
            raise
        raise _wrong(model, _words(error)) from None
    return Predicting(network, model.prediction, num_classes)


_KINDS = "cpu", "cuda"
_BACKENDS = torch.backends
_CUDNN, _CUDA, _ONEDNN = _BACKENDS.cudnn, _BACKENDS.cuda, _BACKENDS.mkldnn
_ARITHMETIC = [(_CUDNN, "benchmark"), (_CUDNN, "deterministic"), (_CUDNN, "allow_tf32"), (_CUDA.matmul, "allow_tf32")]
_ARITHMETIC += [(of, "fp32_precision") for of in (_BACKENDS, _CUDNN, _ONEDNN, _CUDA.matmul, _CUDNN.conv, _CUDNN.rnn)]
_ARITHMETIC += [(of, "fp32_precision") for of in (_ONEDNN.conv, _ONEDNN.matmul, _ONEDNN.rnn)]
"""How GPUs and oneDNN convolve and multiply: (module, setting). torch's older settings stand before the newer, of which
it refuses to read what contradicts them, and the general before those of each kind."""


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """What a user's code changes for the whole program is undone: results lie where the user stands, and what measures
    computes as it always does."""
    grad, dtype, threads = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    matmul, casts = torch.get_float32_matmul_precision(), {kind: torch.is_autocast_enabled(kind) for kind in _KINDS}
    exact, device = torch.are_deterministic_algorithms_enabled(), torch.get_default_device()
    arithmetic = [(*place, getattr(*place)) for place in _ARITHMETIC if hasattr(*place)]
    try:
        with contextlib.chdir("."):
            yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(matmul)  # which sets some of what follows
        for place in arithmetic:
            setattr(*place)
        for kind, cast in casts.items():
            torch.set_autocast_enabled(kind, cast)
        if torch.are_deterministic_algorithms_enabled() != exact:  # to say so loads the compiler
            torch.use_deterministic_algorithms(exact)
        if torch.get_default_device() != device:  # to set one makes every call slower
            torch.set_default_device(None if device.type == "cpu" else device)


def _check_place(model: Factory, make: Any) -> None:
    """What names the network's numbers is the file of the module that is named: the function has to be in it. Raises
    UserError."""
    if not isinstance(make, FunctionType | type) or "<locals>" in make.__qualname__:  # such as what a decorator made
        return
    if (place := make.__module__) != model.module and place in sys.modules:
        way_out = f"write {place}:{make.__qualname__}, whose file then names its numbers"
        raise _wrong(model, f"{model.function} is defined in {place}; {way_out}")


def _wrong(model: Factory, what: str) -> UserError:
    return UserError(f"model.factory = {model.factory}: {what}")


def _words(error: BaseException) -> str:
    """What a user's own code raised, and of which kind: `KeyError: 'boom'`."""
    text, kind = brief(error, quoted=False), type(error).__name__
    return f"{kind}: {text}" if text else kind


def _check_shape(denoiser: Denoiser, images: Images, device: torch.device, *, null_class: bool) -> None:
    """A call of two images with a class, and one with the null class, if the network is to have one: raises UserError
    where it does not fit images and classes."""
    classes = images.num_classes
    if denoiser.num_classes != classes:
        raise UserError(f"model: made for {denoiser.num_classes} classes, the data set has {classes}")
    z, lam = torch.zeros(2, *images.images.shape[1:], device=device), torch.zeros(2, device=device)
    null = f"does not take class {classes}, the null class that model.p_uncond > 0 announces"
    asked = [([0, classes - 1], "does not fit the images"), ([classes, classes], null)]
    for c, wrong in asked[: 1 + null_class]:
        try:
            with torch.inference_mode():
                _prediction(denoiser(z, lam, torch.tensor(c, device=device)), z)
        except (Exception, SystemExit) as error:  # the user's own code fails as it likes
            if isinstance(error, MemoryError | RuntimeError) and out_of_memory(error):
                raise
            raise UserError(f"model: {wrong}: {_words(error)}") from None


def _files_in(arguments: Any) -> Iterator[Path]:
    """The files that arguments name, at any depth. Folders are not looked into: results may lie in them."""
    if isinstance(arguments, dict | list):
        inner = [value for _, value in sorted(arguments.items())] if isinstance(arguments, dict) else arguments
        for value in inner:
            yield from _files_in(value)
    elif isinstance(arguments, str):
        named = dict.fromkeys([arguments, os.path.expanduser(arguments)])  # noqa: PTH111 (a text that may be no path)
        yield from (Path(one) for one in named if _is_file(one))


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # what no file can be called, such as a long text
        return False


def _look_where_the_user_stands() -> None:
    here: Any = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
