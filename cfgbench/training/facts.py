"""What the file of a network says of it, and whether a file is that of the network that is asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from cfgbench.data import Images
from cfgbench.errors import UserError, brief
from cfgbench.spec import Network


class ImageFacts(TypedDict):
    """What a network must know of the images."""

    image_channels: int
    side: int
    num_classes: int


def image_of(images: Images) -> ImageFacts:
    """What these images say to a network."""
    _, channels, side, _ = images.images.shape
    return ImageFacts(image_channels=channels, side=side, num_classes=images.num_classes)


def facts_of(network: Network, images: Images) -> dict[str, Any]:
    """What tells the network from others: its kind, its settings, those of its training and of its images, its id."""
    sections = {"model": network.model.model_dump(), "training": network.training.decisive, "image": image_of(images)}
    return {"kind": network.kind} | sections | {"id": network.id}


def check_same(path: Path, found: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raises UserError where `found`, what the file at `path` says of its network, is not what `facts_of` says of the
    one that is `asked` for. Files of earlier versions name no id, and lack keys that they did not know."""
    other = next(_differences(found, asked), None)
    if other is None and found.get("id", asked["id"]) != asked["id"]:
        other = "trained on other data"
    if other is not None:
        kind = "a training in progress" if path.suffix == ".partial" else "the checkpoint"
        raise UserError(f"{path}: {kind} of another network ({other}); delete it, and it is trained again")


def _differences(found: dict[str, Any], asked: dict[str, Any]) -> Iterator[str]:
    if found.get("kind", "denoiser") != asked["kind"]:
        yield f"a {brief(found['kind'])}"
    for section in ("model", "training", "image"):
        said = found.get(section)
        for key, value in asked[section].items() if isinstance(said, dict) else ():
            if said.get(key, value) != value:
                yield f"{section}.{key} = {brief(said[key])}, not {brief(value)}"
