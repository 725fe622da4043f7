"""What is asked: a YAML sweep file becomes a SweepSpec, and that becomes cells, each with its identity.

Everything that the file may say is checked here, before any work starts. This is the only room that knows pydantic.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cfgbench.errors import UserError
from cfgbench.spec.cell import Cell, Network, make_cells, networks_of
from cfgbench.spec.checks import check_together
from cfgbench.spec.explain import explain
from cfgbench.spec.grid import check_grid, points
from cfgbench.spec.models import Checkpoint, Exact, Factory, Model, Pretrained
from cfgbench.spec.sections import ClassifierSection, Dataset, Evaluation, Sampling, SweepSpec, Training
from cfgbench.spec.values import IMAGENET, INCEPTION, PACKAGED
from cfgbench.spec.yaml_file import load_yaml

__all__ = [
    "IMAGENET",
    "INCEPTION",
    "PACKAGED",
    "Cell",
    "Checkpoint",
    "ClassifierSection",
    "Dataset",
    "Evaluation",
    "Exact",
    "Factory",
    "Model",
    "Network",
    "Pretrained",
    "Sampling",
    "SweepSpec",
    "Training",
    "load_sweep",
    "make_cells",
    "networks_of",
    "points",
    "resolved",
]


def load_sweep(path: Path) -> SweepSpec:
    """Reads and checks a sweep file. Raises UserError with one line that names file, key, value and the way out."""
    content = load_yaml(path)
    try:
        spec = check_grid(SweepSpec.model_validate(content))
        check_together(spec)
    except ValidationError as error:
        raise UserError(f"{path}: {explain(error)}") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    return spec


def resolved(spec: SweepSpec) -> dict[str, Any]:
    """The sweep with every default filled in, as plain YAML content that `load_sweep` reads back to the same sweep."""
    unused = {"training"} if isinstance(spec.model, Pretrained) else set()
    content = spec.model_dump(mode="json", exclude_none=True, exclude=unused | {"classifier"})
    if spec.classifier.model_fields_set:  # what it does not say is the network's, which may vary
        content["classifier"] = spec.classifier.model_dump(mode="json", exclude_unset=True)
    return content | {"evaluation": content["evaluation"] | {"features": spec.features}}
