"""Which results folders a command is about."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cfgbench.errors import UserError
from cfgbench.files import SWEEP_FILES
from cfgbench.sweep.results.store import Store, find_sweeps
from cfgbench.wording import no_sweeps


def chosen_folders(
    sweeps: Sequence[str], results: Path, note: Callable[[str], None], *, with_rows: bool = False
) -> list[Path]:
    """The results folders of these sweeps, given by name or file; of the newest sweep when none is given, the newest
    `with_rows` if that is asked for and there is one. Raises UserError for a sweep that is not there; `note` is told of
    a file that is not as it was run."""
    found = find_sweeps(results)
    if not sweeps:
        if not found:
            raise UserError(no_sweeps(results))
        return [next((folder for folder in found if not with_rows or Store(folder).has_rows), found[0])]
    names = [
        _named_in(Path(name), results, note) if name.lower().endswith(SWEEP_FILES) else _called(name, results)
        for name in sweeps
    ]
    for name in names:
        if results / name not in found:
            if (results / name / "cells").is_dir():
                raise UserError(f"{results / name}: its sweep.yaml is gone; run its sweep file, which brings it back")
            known = ", ".join(folder.name for folder in found) or "none"
            raise UserError(f"{name}: no such sweep under {results}; there are: {known}")
    return [results / name for name in dict.fromkeys(names)]


def _called(name: str, results: Path) -> str:
    """The sweep's name, where the path to its folder is given too."""
    place = Path(name).resolve()
    return place.name if place.parent == results.resolve() else name


def _named_in(path: Path, results: Path, note: Callable[[str], None]) -> str:
    """The name of the sweep in a file. Says so where another sweep of that name was run last."""
    from cfgbench.spec import load_sweep, resolved  # takes as long as all else here, and names do without

    spec = load_sweep(path)
    if (kept := Store(results / spec.name).sweep_file).exists():
        try:
            same = resolved(load_sweep(kept)) == resolved(spec)
        except UserError:  # an earlier version took what is refused now
            same = False
        if not same:
            note(f"{path} is not as it was run; this is the sweep of {kept}")
    return spec.name
