"""Images and labels: each data set gives the same type."""

from cfgbench.data.digits import load_digits
from cfgbench.data.fashion_mnist import load_fashion_mnist
from cfgbench.data.folder import load_folder
from cfgbench.data.gaussians import load_gaussians
from cfgbench.data.imagenet import load_imagenet
from cfgbench.data.images import Images
from cfgbench.data.mixture import Mixture
from cfgbench.errors import UserError
from cfgbench.progress import Progress, silent
from cfgbench.spec import Dataset

__all__ = ["Images", "Mixture", "load"]

_FILES = {"path", "split", "resolution", "classes", "limit", "flip"}
_IMAGENET = {"path", "split", "preprocess", "classes", "limit", "flip"}

LOADERS = {
    "digits": (lambda dataset, *_: load_digits(dataset), {"classes", "limit", "flip"}),
    "fashion-mnist": (lambda dataset, *_: load_fashion_mnist(dataset), _FILES),
    "folder": (lambda dataset, progress, _: load_folder(dataset, progress), _FILES),
    "gaussians": (lambda dataset, *_: load_gaussians(dataset), {"means", "covariance", "limit"}),
    "imagenet64": (load_imagenet, _IMAGENET),
    "imagenet128": (load_imagenet, _IMAGENET),
}
"""The names that sweep files use: how to load, and which keys have a meaning."""


def load(dataset: Dataset, progress: Progress = silent, *, prepare: bool = True) -> Images:
    """The images that a sweep's `dataset` names; large ones are prepared once. Raises UserError naming key or file, and
    without `prepare` Unprepared for images that are not."""
    loader, keys = LOADERS[dataset.name]
    for key in dataset.model_fields_set - keys - {"name"}:
        if getattr(dataset, key) is not None:
            raise UserError(f"dataset.{key}: the data set {dataset.name} does not use it; remove the key")
    return loader(dataset, progress, prepare)
