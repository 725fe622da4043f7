"""Images and labels: each data set gives the same type."""

from cfgbench.data.digits import load_digits
from cfgbench.data.fashion_mnist import load_fashion_mnist
from cfgbench.data.folder import load_folder
from cfgbench.data.images import Images
from cfgbench.errors import UserError
from cfgbench.progress import Progress, silent
from cfgbench.spec import Dataset

__all__ = ["Images", "load"]

LOADERS = {
    "digits": (load_digits, {"classes", "limit", "flip"}),
    "fashion-mnist": (load_fashion_mnist, {"path", "split", "resolution", "classes", "limit", "flip"}),
    "folder": (load_folder, {"path", "split", "resolution", "classes", "limit", "flip"}),
}
"""The names that sweep files use: how to load, and which keys have a meaning."""


def load(dataset: Dataset, progress: Progress = silent) -> Images:
    """The images that a sweep's `dataset` names. Raises UserError naming key or file."""
    loader, keys = LOADERS[dataset.name]
    for key in dataset.model_fields_set - keys - {"name"}:
        if getattr(dataset, key) is not None:
            raise UserError(f"dataset.{key}: the data set {dataset.name} does not use it; remove the key")
    return loader(dataset)
