"""From the rows of a sweep to tables, figures and a page."""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import pandas as pd

from cfgbench.errors import UserError, counted
from cfgbench.files import read_at_most
from cfgbench.report.claims import Judged, judge, text
from cfgbench.report.drawing.figure_files import begin
from cfgbench.report.figures import PLOTS, Shown, all_draws, draws
from cfgbench.report.output import parquet, save, texts
from cfgbench.report.page import SETTINGS, index
from cfgbench.report.published import beside_published
from cfgbench.report.reference.agreement import published_behind
from cfgbench.report.request import WHOLE, Request, checked_names, refuse_choice
from cfgbench.report.rows import protocols
from cfgbench.report.rows.current import asked_for
from cfgbench.report.rows.slices import arranged, settled, side_by_side, slices
from cfgbench.report.rows.tally import Tally, tally
from cfgbench.report.summary import summary
from cfgbench.report.tables import formats
from cfgbench.report.words import why_failed
from cfgbench.spec.yaml_file import LARGEST_FILE
from cfgbench.sweep.results.asked import cells_asked_for
from cfgbench.sweep.results.store import Store
from cfgbench.wording import run_again

_TEXTS = "table", "claims", "comparison", "literature", "reference"
_WRITTEN = re.compile(rf"({'|'.join(PLOTS)})(-\d+)?\.(png|svg|pdf)|({'|'.join(_TEXTS)})\.(md|csv|tex)")
_ONCE = "rows.parquet", "index.md", SETTINGS
"""The files that a whole report may have."""


class Report:
    """What is said of the rows of the sweep in `folder`, where its sample images and influences lie; all is found once.

    With `mixed`, rows of different protocols stand together, each with its mark; not beside published numbers. Raises
    UserError for rows that no sweep wrote.
    """

    def __init__(self, folder: Path, rows: pd.DataFrame, *, mixed: bool = False) -> None:
        self.rows, self.mixed = rows, mixed
        self._influences, self._asked = Store(folder).influences, cells_asked_for(folder)
        self._earlier: list[str] = []
        counting = asked_for(rows, self._asked)
        if counting.empty and len(rows):
            its = f"none of its {counted(len(rows), 'row')} is of a network that the sweep has now"
            raise UserError(f"{folder}: {its}; run: {run_again(folder)}")
        self.counted = settled(counting, where=folder)
        parts = slices(self.counted, mixed=mixed)
        beside = side_by_side(self.counted, mixed=mixed)
        self.shown = Shown(folder, parts, arranged(parts, beside))

    @cached_property
    def judged(self) -> list[Judged]:
        """The verdicts on the paper's claims. Raises UserError for influences that are not finite."""
        return judge(self.counted, self._influences)

    @cached_property
    def best(self) -> list[str]:
        """A line a curve: its best FID, what cannot be told from it, what guidance gained."""
        return summary(self._influences, self.shown.parts)

    @cached_property
    def _tally(self) -> Tally:
        return tally(self.rows, self.counted, self._asked)

    @property
    def notes(self) -> list[str]:
        """Lines on what is not in the report, or stands apart in it; as far as it is written or asked for by then."""
        tally = self._tally
        failed = tally.failed
        lines = [(protocols.left_apart if self.mixed else protocols.kept_apart)(self.counted)]
        lines += [f"{counted(tally.missing, 'cell')} of the sweep not run yet"] if tally.missing else []
        if len(failed):
            lines.append(f"{counted(len(failed), 'cell')} failed, such as: {why_failed(failed.iloc[-1])}")
        unused = f"{counted(tally.unused, 'row')} of seeds that most of their curve lack, left out"
        lines += [unused] if tally.unused else []
        others = f"{counted(tally.others, 'row')} of cells that the sweep no longer has, shown too"
        lines += [others] if tally.others else []
        if self._asked is not None and (lost := self._influences.lost):  # before that note few cells had them
            lines.append(f"{counted(len(lost), 'cell')} without readable influences, compared without pairing")
        lines += [f"of an earlier report, and not of this one: {', '.join(self._earlier)}"] if self._earlier else []
        return [line for line in lines if line]

    def write(self, out: Path, request: Request = WHOLE, *, published: bool = False) -> list[Path]:
        """Writes the report into the folder `out`; returns the files' paths.

        The whole has the page index.md, all rows as rows.parquet and settings.yaml too; else there is only what the
        request names (see figures.PLOTS and formats.FORMATS). A name that is not known, or for which the rows hold
        nothing, is a UserError; then nothing is written. Images that were chosen are written as samples-chosen, beside
        the whole sheet.

        With `published` the paper's numbers stand beside the measured: point by point in reference.md and .csv, each
        system among other models in comparison.md, .csv and .tex, both on the page, and in the trade-off where they
        share its axes.
        """
        if "samples" not in request.plots:
            refuse_choice(request)
        shown = self._beside_published() if published else self.shown
        if request.whole:
            files = self._whole(shown, pdf=request.pdf, published=published)
            self._earlier = _left_in(out, files)
        else:
            files = self._parts(shown, request, published=published)
        return save(files, out)

    def _beside_published(self) -> Shown:
        """The same with published curves behind the measured."""
        if any(part.marks for part in self.shown.parts):
            why = "published numbers stand beside one protocol"
            raise UserError(f"{self.shown.folder}: --mixed: {why}; leave out --reference or it")
        return self.shown._replace(behind=published_behind)

    def _parts(self, shown: Shown, request: Request, *, published: bool) -> dict[str, bytes]:
        """What the request names, and nothing else."""
        kinds = checked_names(request.tables, formats.FORMATS, "table")
        drawn = begin(draws(shown, checked_names(request.plots, PLOTS, "plot"), request.choice), with_pdf=request.pdf)
        files = texts("table", formats.FORMATS, shown.arranged, kinds)
        files |= beside_published(shown, kinds) if published else {}
        files |= drawn()
        return files | (texts("claims", text.FORMATS, self.judged) if request.claims else {})

    def _whole(self, shown: Shown, *, pdf: bool, published: bool) -> dict[str, bytes]:
        """All that the rows allow, and the page."""
        drawn = begin(all_draws(shown), with_pdf=pdf)
        judged, lines = self.judged, self.best  # while the figures are drawn
        files = texts("table", formats.FORMATS, shown.arranged)
        beside = beside_published(shown, formats.FORMATS) if published else {}
        files |= drawn() | beside | texts("claims", text.FORMATS, judged) | self._settings()
        page = index(shown, self.rows, self._tally, files, lines)
        return files | {"rows.parquet": parquet(self.rows), "index.md": page.encode()}

    def _settings(self) -> dict[str, bytes]:
        """The sweep as it was last run, whose network and training no row tells; nothing where it cannot be read. Not
        by its own name, which in a folder that is named with --out may be a user's sweep file."""
        try:
            return {SETTINGS: read_at_most(Store(self.shown.folder).sweep_file, LARGEST_FILE)}
        except (OSError, ValueError):
            return {}


def _left_in(out: Path, files: Mapping[str, bytes]) -> list[str]:
    """What a whole report would write into the folder, and did once, but for images that were chosen."""
    there = (path.name for path in out.glob("*.*"))
    return sorted(name for name in there if name not in files and (name in _ONCE or _WRITTEN.fullmatch(name)))
