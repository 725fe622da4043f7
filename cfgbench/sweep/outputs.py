"""Where `cfgbench eval` writes: not over what it reads, and known to be writable before hours of work."""

import os
from collections.abc import Mapping
from pathlib import Path

from cfgbench.data.pictures import SUFFIXES
from cfgbench.errors import UserError
from cfgbench.files import SWEEP_FILES, make_folder
from cfgbench.models.extractors import inception_weights
from cfgbench.spec import SweepSpec, load_sweep
from cfgbench.sweep.results.statistics_files import is_statistics

SAVE_REFERENCE = "--save-reference"
STATISTICS = "--save-stats", SAVE_REFERENCE
_DATA = "the data set"
_STREAMS = "/dev/std", "/dev/fd/", "/proc/"


def sweep_of(reference: str) -> SweepSpec | None:
    """The sweep file that is named; None where another thing is. Raises UserError."""
    path = Path(reference)
    return load_sweep(path) if path.suffix.lower() in SWEEP_FILES else None


def check_outputs(outputs: Mapping[str, Path | None], samples: Path, reference: str, weights: Path | None) -> None:
    """Raises UserError, before any work, for an output (option -> file) that would overwrite an input, an image in
    a folder that is one, or another output, or that cannot be written; makes their folders. `weights` are the Inception
    network's, where they are named."""
    inputs = _inputs(samples, reference, weights)
    taken = {os.path.realpath(path): name for name, path in inputs.items() if path.exists()}  # or it is a name
    folders = {place: name for name, path in inputs.items() if path.is_dir() for place in _spellings(path)}
    for name, path in outputs.items():
        if path is None:
            continue
        if other := taken.get(os.path.realpath(path)):
            raise UserError(f"{name} {path}: would overwrite {other}; name another file")
        _check_beside(name, path, folders)
        taken[os.path.realpath(path)] = name
        if name == SAVE_REFERENCE and is_statistics(Path(reference)):
            raise UserError(f"{name} {path}: the reference is a file of statistics already; leave it out")
        _check_writable(name, path)


def _inputs(samples: Path, reference: str, weights: Path | None) -> dict[str, Path]:
    """What is read, by what it is called: what a sweep file names, too."""
    inputs = {"SAMPLES": samples, "--reference": Path(reference)}
    if (spec := sweep_of(reference)) is not None:
        weights = weights or spec.evaluation.inception_weights
        named = {
            _DATA: spec.dataset.path,
            "evaluation.reference": spec.evaluation.reference,
            "model.checkpoint": getattr(spec.model, "checkpoint", None),
        }
        inputs |= {f"{what} of {reference}": file for what, file in named.items() if file is not None}
    used = inception_weights(weights)
    return inputs | ({"the Inception network's weights": used} if used else {})


def _check_beside(name: str, path: Path, folders: Mapping[Path, str]) -> None:
    """Raises UserError for a file that is there in one of these folders (place -> name) of images."""
    spellings = _spellings(path)
    around = [other for place, other in folders.items() if any(one.is_relative_to(place) for one in spellings)]
    whole = any(other.startswith(_DATA) for other in around)  # npz batches and IDX files are data too
    if around and (whole or any(one.suffix.lower() in SUFFIXES for one in spellings)) and path.exists():
        what = "a file" if whole else "an image"
        raise UserError(f"{name} {path}: would overwrite {what} of {around[0]}; name another file")


def _check_writable(name: str, path: Path) -> None:
    if name in STATISTICS and path.suffix.lower() != ".npz":  # by which a file of statistics is known
        raise UserError(f"{name} {path}: name a file that ends in .npz")
    if str(path.absolute()).startswith(_STREAMS):  # what lies behind would be replaced, not written to
        raise UserError(f"{name} {path}: cannot be written, for it is a stream; name a file")
    make_folder(path.parent)
    place = Path(os.path.realpath(path))  # a link is left as it is, and what it leads to is written
    if (path.exists() and not path.is_file()) or place.is_symlink() or not os.access(place.parent, os.W_OK):
        raise UserError(f"{name} {path}: cannot be written; name another file")


def _spellings(path: Path) -> tuple[Path, Path]:
    """Where the path leads, and as it is named: a link in a folder of images is one of them."""
    return Path(os.path.realpath(path)), path.absolute()
