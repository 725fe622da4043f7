"""The note on which cells a sweep has now: its folder keeps the rows of all that it ever had."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfgbench.files import identity, read_at_most, write_atomically

if TYPE_CHECKING:
    from cfgbench.spec import Cell

LARGEST = 1 << 30
"""Bytes."""
_ALWAYS = {"cell_id": str, "checkpoint_id": str, "p_uncond": int | float, "w": int | float, "T": int, "guidance": str}
_NOW = {"classifier_id": str, "on": str, "temperature": int | float, "settings": dict}
"""What the note says of a cell, by type: always, and since a later version."""


def note_cells(folder: Path, cells: Sequence["Cell"]) -> None:
    """Notes that the sweep in this folder has these cells. Raises UserError where it cannot be written."""
    noted = list(map(_noted, cells))
    if cells_asked_for(folder) != noted:
        content = {"digest": identity(noted), "cells": noted}
        write_atomically(_path(folder), f"{json.dumps(content)}\n".encode())


def cells_asked_for(folder: Path) -> list[dict[str, Any]] | None:
    """The cells of the sweep in this folder as it was last run: cell_id, checkpoint_id, and what a row says of where
    they stand. None where that was not noted, or is damaged."""
    try:
        noted = json.loads(read_at_most(_path(folder), LARGEST))
        whole = noted["digest"] == identity(noted["cells"]) and all(map(_is_noted, noted["cells"]))
        return noted["cells"] if whole and isinstance(noted["cells"], list) else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _path(folder: Path) -> Path:
    return folder / "asked.json"


def _noted(cell: "Cell") -> dict[str, Any]:
    """What the results folder keeps of a cell that is asked for: which row is its own, and all that the sweep file says
    of it, for that row has columns for the axes that the file had when it was made."""
    sections = {"training": cell.training, "sampling": cell.sampling}
    return {
        "cell_id": cell.id,
        "checkpoint_id": cell.checkpoint_id,
        "classifier_id": cell.classifier and cell.classifier.id,
        "p_uncond": cell.training.p_uncond,
        **{key: getattr(cell.sampling, key) for key in ("T", "w", "guidance", "on", "temperature")},
        "settings": {f"{name}.{key}": value for name, part in sections.items() for key, value in part},
    }


def _is_noted(cell: Any) -> bool:
    """Whether this says of a cell what `_noted` does; what is null or missing was not known to an earlier version."""
    known = isinstance(cell, dict) and all(isinstance(cell.get(key), kind) for key, kind in _ALWAYS.items())
    known = known and _can_be_shown(cell) and cell.get("settings", {}) is not None
    return known and all(cell.get(key) is None or isinstance(cell[key], kind) for key, kind in _NOW.items())


def _can_be_shown(content: Any) -> bool:
    """Whether all text in it is printable, and no whole number is too large for a float."""
    if isinstance(content, dict):
        return all(map(_can_be_shown, [*content, *content.values()]))
    if isinstance(content, list):
        return all(map(_can_be_shown, content))
    return abs(content) < 2**63 if isinstance(content, int) else not isinstance(content, str) or content.isprintable()
