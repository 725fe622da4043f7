"""What a sweep needs, and what of it is there: known before any work starts."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from cfgbench import data
from cfgbench.data import Images
from cfgbench.diffusion.guidance import Denoiser
from cfgbench.errors import Unprepared, UserError, brief, reason
from cfgbench.files import digest_named, file_digest, identity, make_folder, read_at_most, write_atomically
from cfgbench.models.extractors import OFFICIAL_DIGEST, WEIGHTS_VARIABLE, inception_weights
from cfgbench.models.feature_classifier import packaged
from cfgbench.models.precision import Compute
from cfgbench.models.pretrained import load_pretrained, weights_identity
from cfgbench.progress import Progress, silent
from cfgbench.spec import (
    INCEPTION,
    PACKAGED,
    Cell,
    Exact,
    Network,
    Pretrained,
    SweepSpec,
    load_sweep,
    make_cells,
    networks_of,
    resolved,
)
from cfgbench.spec.yaml_file import dump_yaml
from cfgbench.sweep.fits import check_fits
from cfgbench.sweep.results.asked import note_cells
from cfgbench.sweep.results.row import Row
from cfgbench.sweep.results.sheet import SHEET_COLUMNS, sheet_indices
from cfgbench.sweep.results.statistics_files import FEATURES, load_statistics
from cfgbench.sweep.results.store import Store
from cfgbench.training.feature_classifier import RECIPE
from cfgbench.wording import run_into

if TYPE_CHECKING:
    import pandas as pd


class Made(NamedTuple):
    """A cell's id, the digest of a network's weights that it was made with, and its protocol."""

    cell: str
    digest: str
    protocol: str


@dataclass(frozen=True)
class Plan:
    """A sweep, its data, its cells in the file's order, and what of them was there when it was made."""

    file: Path
    """The sweep file, as the user named it."""
    spec: SweepSpec
    images: Images
    cells: list[Cell]
    store: Store
    done: frozenset[str]
    """Ids of the cells that have a row and did not fail: these are not run again."""
    seen: Mapping[str, str]
    """Cell id -> digest of the row that was there, failed or not. Where there is another now, another process has run
    the cell meanwhile."""
    shown: tuple[int, ...]
    """The classes of the sample sheets."""
    precisions: frozenset[str]
    """In which the cells that are done were made."""
    made_with: Mapping[str, Sequence[Made]]
    """Network id -> the cells that were made with it, of those that are done."""

    @property
    def missing(self) -> list[Cell]:
        """The cells to run. Those that failed are tried again: what stopped them may be gone."""
        return [cell for cell in self.cells if cell.id not in self.done]

    @property
    def feature_classifier(self) -> Path | None:
        """The file of the classifier that is trained on the data set to measure it; None where others measure."""
        if self.spec.features != "classifier":
            return None
        return self.store.feature_classifier(identity(features_identity(self.spec, self.images)))

    def rows(self) -> "pd.DataFrame":
        """The rows of its cells that are there now; the folder may hold those of an earlier grid too."""
        rows = self.store.rows()
        return rows[rows["cell_id"].isin({cell.id for cell in self.cells})] if len(rows) else rows

    def groups(self) -> Iterator[list[Cell]]:
        """The missing cells of each network, or network and classifier, that missing cells need."""
        by_networks: dict[tuple[str, str], list[Cell]] = {}
        for cell in self.missing:
            by_networks.setdefault((cell.checkpoint_id, cell.classifier.id if cell.classifier else ""), []).append(cell)
        return iter(by_networks.values())

    def computed_with(self, asked: Compute) -> Compute:
        """What is asked for; of a model in closed form float32, for nothing of it is done in half precision."""
        return replace(asked, precision="fp32") if isinstance(self.spec.model, Exact) else asked

    @property
    def is_kept(self) -> bool:
        """Whether the results folder has the resolved sweep as it is. Raises OSError for a file that cannot be read."""
        return _holds(self.store.sweep_file, self._resolved)

    @property
    def _resolved(self) -> bytes:
        return dump_yaml(resolved(self.spec)).encode()

    def pretrained(self, cell: Cell, device: torch.device) -> Denoiser:
        """The network that the cell's model names, which exists already. Raises UserError where it cannot be had, or is
        another than when the plan was made."""
        try:
            denoiser = load_pretrained(cell.model, self.images, device)
            if weights_identity(cell.model, self.images) != cell.weights:
                raise UserError("model: its weights or its function changed while the sweep runs; run it again")
        except UserError as error:
            raise UserError(f"{self.file}: {error}") from None
        return denoiser

    def check_measures(self) -> None:
        """Raises UserError where the files that measure are others than when the plan was made and its cells named."""
        if measures_identity(self.spec, self.images) != self.cells[0].features:
            changed = "its reference or the weights of its features changed while the sweep runs"
            raise UserError(f"{self.file}: evaluation: {changed}; run it again")

    def networks(self) -> list[Network]:
        """What the sweep trains, each once: denoisers, then classifiers."""
        return networks_of(self.cells)

    def to_train(self, p_uncond: float | None = None) -> list[Network]:
        """What `cfgbench train` trains: all that the sweep has, or its denoisers of this p_uncond alone. Raises
        UserError where there are none."""
        networks = self.networks()
        if not networks:
            way_out = run_into(self.store.folder.parent, self.file)
            raise UserError(f"{self.file}: nothing to train: its model exists already; run: {way_out}")
        if p_uncond is None:
            return networks
        denoisers = [network for network in networks if network.kind == "denoiser"]
        known = sorted({network.training.p_uncond for network in denoisers})
        if not known:
            raise UserError(f"--p-uncond {p_uncond:g}: this sweep trains its classifier only; leave it out")
        if p_uncond not in known:
            raise UserError(f"--p-uncond {p_uncond}: not in this sweep; it has {', '.join(map(str, known))}")
        return [network for network in denoisers if network.training.p_uncond == p_uncond]

    def sheet_of(self, cell: Cell) -> np.ndarray:
        """Indices [rows, columns] of those images of the cell that its sheet shows."""
        return sheet_indices(cell.sampling.samples, self.images.num_classes, self.shown)


def make_plan(path: Path, results: Path, progress: Progress = silent, *, prepare: bool = True) -> Plan:
    """Reads the sweep file and the data, and looks at what is there. Writes nothing into `results`. Raises UserError,
    and without `prepare` Unprepared for data that are to be prepared first."""
    spec = load_sweep(path)
    try:
        images = data.load(spec.dataset, progress, prepare=prepare)
        check_fits(spec, images)
        shown = _shown(spec.evaluation.show, images)
        dump_yaml(resolved(spec))  # what will be kept with the results can be read again
        weights = ""
        if isinstance(spec.model, Pretrained):
            weights = weights_identity(spec.model, images)
        features = measures_identity(spec, images)
        _check_reference(spec.evaluation.reference)
    except Unprepared as error:
        raise Unprepared(f"{path}: {error}") from None
    except (UserError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: {os.fsdecode(error.filename or 'dataset')}: {reason(error)}") from None
    store = Store(results / spec.name)
    names = identity([images.content, images.flips])
    cells = make_cells(spec, data=names, features=features, weights=weights)
    rows, _ = store.read()  # a damaged row is a missing one: its cell is run again
    whole = {row["cell_id"]: row.get("precision") for row in rows if row["status"] == "ok"}
    seen = {row["cell_id"]: row["digest"] for row in rows}
    precisions = frozenset(whole[cell.id] for cell in cells if whole.get(cell.id))
    mine = {cell.id for cell in cells} & whole.keys()
    made_with = _made_with([row for row in rows if row["cell_id"] in mine])
    return Plan(path, spec, images, cells, store, frozenset(whole), seen, shown, precisions, made_with)


def _check_reference(path: Path | None) -> None:
    """Raises UserError for a file that holds no statistics, before an extractor is there, which may be downloaded."""
    try:
        if path is not None:
            load_statistics(path, key=FEATURES)
    except UserError as error:
        raise UserError(f"evaluation.reference = {error}") from None


def _made_with(rows: Iterable[Row]) -> dict[str, list[Made]]:
    """What `Plan.made_with` is, of these rows."""
    found: dict[str, list[Made]] = {}
    for row in rows:
        for kind in ("checkpoint", "classifier"):
            if digest := row.get(f"{kind}_digest"):
                made = Made(row["cell_id"], digest, row["protocol"])
                found.setdefault(row[f"{kind}_id"], []).append(made)
    return found


def _shown(wanted: list[int | str] | None, images: Images) -> tuple[int, ...]:
    """Ids of the classes that `evaluation.show` names, in order: all of this very name, else the one of this id, as
    `report --classes` has it."""
    if wanted is None:
        return tuple(range(min(images.num_classes, SHEET_COLUMNS)))
    named: dict[str, list[int]] = {}
    for number, name in enumerate(images.class_names):
        named.setdefault(name, []).append(number)
    found: set[int] = set()
    for position, one in enumerate(wanted):
        ids = named.get(str(one), [one] if one in range(images.num_classes) else [])
        if not ids:
            known = f"ids below {images.num_classes}, or names such as {images.class_names[0]}"
            raise ValueError(f"evaluation.show[{position}] = {brief(one)}: no such class; there are {known}")
        found.update(ids)
    if len(found) > SHEET_COLUMNS:
        raise ValueError(f"evaluation.show: names {len(found)} classes; at most {SHEET_COLUMNS} are shown, give ids")
    return tuple(sorted(found))


def measures_identity(spec: SweepSpec, images: Images) -> str:
    """`features_identity`, and the digest of the file of statistics that is measured against, where one is named."""
    features, reference = features_identity(spec, images), spec.evaluation.reference
    return features if reference is None else f"{features} {digest_named('evaluation.reference', reference)}"


def features_identity(spec: SweepSpec, images: Images) -> str:
    """What names the numbers of the sweep's extractor, before it is loaded or trained: weights or recipe, and data."""
    name = spec.features
    if name in PACKAGED:
        return f"{name} {file_digest(packaged(name))}"
    if name in INCEPTION:
        named = spec.evaluation.inception_weights
        weights = inception_weights(named)
        key = WEIGHTS_VARIABLE if named is None else "evaluation.inception_weights"
        digest = digest_named(key, weights)[:8] if weights else OFFICIAL_DIGEST
        return f"{name} {digest}{' bf16' if spec.evaluation.precision == 'bf16' else ''}"
    if name == "gaussians":
        return f"{name} {images.mixture.digest}"
    return f"{name} {RECIPE} {images.content}{'' if images.flips else ' not flipped'}"


def prepare_folder(plan: Plan) -> None:
    """Makes the results folder and writes the resolved sweep and its cells into it, where they are not there as they
    are; says at once if it cannot be written."""
    folder = plan.store.folder
    if not _is_text(folder):
        raise UserError(f"{folder}: no name in UTF-8, which rows cannot be written under; choose another folder")
    make_folder(folder)
    note_cells(folder, plan.cells)
    if not plan.is_kept:
        write_atomically(plan.store.sweep_file, plan._resolved)


def _is_text(path: Path) -> bool:
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        return False
    return True


def _holds(path: Path, content: bytes) -> bool:
    """Whether this is what is in the file. Raises OSError for what is there and cannot be read."""
    try:
        return read_at_most(path, len(content)) == content
    except (FileNotFoundError, ValueError):
        return False
