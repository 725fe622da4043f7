"""Whether what a sweep asks for fits its images and this machine: known before any work starts."""

import re

from cfgbench import machine
from cfgbench.data import Images
from cfgbench.models.feature_classifier import SMALLEST
from cfgbench.models.meta_device import shapes_only
from cfgbench.models.noisy_classifier import HalfUNet
from cfgbench.models.unet import UNet, fewest_parameters
from cfgbench.spec import IMAGENET, Checkpoint, Model, SweepSpec, points
from cfgbench.training.facts import image_of

_SYNSET = re.compile(r"n\d{8}")
"""What ImageNet calls its class folders."""


def check_fits(spec: SweepSpec, images: Images) -> None:
    """Raises ValueError for too few images or too small ones, and for networks that do not fit them or the memory."""
    _check_enough(spec, images)
    _check_side(spec, images)
    classified = any(sampling.classified for *_, sampling in points(spec))
    _check_numbers(spec, images, classified=classified)
    _check_networks(spec, images, classified=classified)


def against_images(spec: SweepSpec, images: Images) -> bool:
    """Whether the data set's images are measured against: FID is asked for, no statistics are named, and their law is
    not known."""
    return "fid" in spec.evaluation.metrics and spec.evaluation.reference is None and images.mixture is None


def _check_enough(spec: SweepSpec, images: Images) -> None:
    if against_images(spec, images) and len(images.images) < 2:
        raise ValueError("dataset: 1 image, which has no statistics to measure against; take 2 or more")


def _check_side(spec: SweepSpec, images: Images) -> None:
    height, width = images.images.shape[2:]
    if spec.features == "classifier" and min(height, width) < SMALLEST:
        raise ValueError(
            f"dataset: images of {width} x {height}, which the classifier that measures them cannot divide; "
            f"{SMALLEST} x {SMALLEST} is the least"
        )


def numbered_otherwise(spec: SweepSpec, images: Images) -> bool:
    """Whether the network's classes have other numbers than those of the data: ADM's go by ImageNet's sorted folder
    names, those of its npz batches, 1 to 1000, by the challenge's own list."""
    numbers = all(name.isdecimal() and not name.startswith("0") for name in images.class_names)
    return isinstance(spec.model, Checkpoint) and spec.dataset.name in IMAGENET and numbers


def _check_numbers(spec: SweepSpec, images: Images, *, classified: bool) -> None:
    """`classified`: whether a classifier guides any cell. Folders that are not called as ImageNet's, or whose classes
    were given other names, may be in any order."""
    if not classified or not isinstance(spec.model, Checkpoint):
        return
    if not all(_SYNSET.fullmatch(name) for name in images.class_names):
        whose = (
            "the npz batches do" if numbered_otherwise(spec, images) else f"a data set of {images.class_names[0]} does"
        )
        raise ValueError(
            f"guidance = classifier: ADM's networks number the classes otherwise than {whose}, on which the classifier "
            "is trained: it would guide to other classes; take ILSVRC2012's class folders as dataset.path, without "
            "a classes.tsv"
        )


def _check_networks(spec: SweepSpec, images: Images, *, classified: bool) -> None:
    height, width = images.images.shape[2:]
    squares = isinstance(spec.model, Model | Checkpoint) or spec.classifier.model is not None
    if height != width and squares:
        raise ValueError(f"dataset: images of {width} x {height}; the network needs squares; set dataset.resolution")
    if isinstance(spec.model, Model):
        _check_built(UNet, spec.model, images)
    classifier = spec.classifier.model_beside(spec.model)
    if classified and classifier is not None:
        try:
            _check_built(HalfUNet, classifier, images)
        except ValueError as error:
            raise ValueError(f"classifier.{error}") from None


def _check_built(kind: type[UNet | HalfUNet], model: Model, images: Images) -> None:
    _check_memory(fewest_parameters(model))
    with shapes_only():  # building it says what does not fit
        network = kind(model, **image_of(images))
    _check_memory(sum(parameter.numel() for parameter in network.parameters()))


def _check_memory(parameters: int) -> None:
    if 4 * parameters > machine.memory():
        raise ValueError(
            f"model: {parameters:,} parameters or more, {4 * parameters / 1e9:,.0f} GB of weights, where this machine "
            f"has {machine.memory() / 1e9:,.0f} GB of memory; take fewer channels, multipliers or blocks"
        )
