"""The models of a paper's table, those that it quotes, and one's own systems: a line each."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cfgbench.report.reference.agreement import agreement, counterpart, prepared
from cfgbench.report.reference.tables import TABLES, Published, literature
from cfgbench.report.rows.seeds import mean_phrase
from cfgbench.report.rows.slice import Slice
from cfgbench.report.rows.systems import CFG, rank, turned
from cfgbench.report.words import METRICS, known, named, number, plus_minus

_BASELINE = re.compile(r"ADM-G|ADM|CDM|BigGAN-deep|LOGAN")
_OWN_PAPERS = ("arXiv 2105.05233", "arXiv 2106.15282", "arXiv 1912.00953")  # of ADM, CDM and LOGAN themselves
_PREPARATION = "preparation"
_SCALE = {"data set": "dataset", "features": "features_id", "number of images": "samples"}
"""What two numbers must share to be on one scale -> its column, and how images were made small; all else is a
condition, which the row names."""
_COMPARES = "yes, as far as the paper states its protocol"


@dataclass(frozen=True)
class Line:
    """A row of the comparison. `fid` and `score` are as they are shown; `numbers` are those of a measured row,
    unrounded: fid, fid_se, is_mean, is_se. `apart` says why a measured row does not compare, "" where it does."""

    model: str
    which: str
    source: str
    fid: str
    score: str
    conditions: str
    numbers: tuple[float, float, float, float] | None = None
    apart: str = ""

    @property
    def measured(self) -> bool:
        return self.numbers is not None

    @property
    def verdict(self) -> str:
        """Whether it compares with the published rows."""
        return "published" if not self.measured else f"no: {self.apart}" if self.apart else _COMPARES


def lines(parts: Sequence[Slice]) -> dict[Published, list[Line]]:
    """A paper's table -> the models that it quotes, others of their papers, its own best rows, and the best
    rows of each measured system on the same data set; Table 1 stands beside data sets that the paper does not have."""
    found: dict[Published, list[Line]] = {}
    for group in _alike(parts):
        table = counterpart(group[0]) or TABLES[0]
        found.setdefault(table, []).extend(_measured(group, table))
    return {table: [*_quoted(table), *_papers(table), *found[table]] for table in TABLES if table in found}


def _quoted(table: Published) -> Iterator[Line]:
    """The models of the paper's table, with what is known of their conditions, and others of the same papers."""
    others = _literature(table.resolution)
    for model, citation, fid, score in table.baselines.itertuples(index=False):
        same = [other for other in others if _is(other, model, fid)]
        others = [other for other in others if other not in same]
        words = [f"quoted in {table.name}", *(other["conditions"] for other in same)]
        yield Line(model, "", citation, fid, score, "; ".join(word for word in words if word))
    for other in others:
        yield Line(other["model"], "", other["source"], other["FID"], other["IS"], other["conditions"])


def _literature(resolution: int) -> list[dict[str, str]]:
    """What the papers of the baselines say themselves: model, source, FID, IS ("" where there is none), conditions."""
    rows = literature()
    kept = (rows["resolution"] == str(resolution)) & rows["source_paper"].isin(_OWN_PAPERS)
    kept &= rows["model"].map(lambda model: _BASELINE.match(model) is not None)
    found = []
    keys = ["model", "guidance", "NFE_or_steps", "source_paper"]
    for (model, guidance, steps, source), of_model in rows[kept].groupby(keys, sort=False):
        values = dict(zip(of_model["metric"], of_model["value"], strict=True))
        notes = [guidance if guidance != "none" else "", f"network calls or steps: {steps}" if steps else ""]
        notes += [note for metric, note in zip(of_model["metric"], of_model["notes"], strict=True) if metric == "FID"]
        conditions = "; ".join(word for word in notes if word)
        numbers = {name: values.get(name, "") for name in ("FID", "IS")}
        found.append({"model": model, "source": source, "conditions": conditions, **numbers})
    return found


def _is(other: dict[str, str], model: str, fid: str) -> bool:
    """Whether a result of the literature is the one that the paper quotes: a model of that name, with that FID."""
    ours, theirs = (_BASELINE.match(name) for name in (model, other["model"]))
    return ours is not None and theirs is not None and ours[0] == theirs[0] and float(other["FID"]) == float(fid)


def _papers(table: Published) -> Iterator[Line]:
    """The rows of the paper's own table with the best FID and the highest IS."""
    for which, row in _best(table.part.rows):
        printed = (row["fid_printed"], row["is_mean_printed"])
        yield Line(CFG, which, table.name, *printed, _conditions(table.part, row))


def _measured(group: Sequence[Slice], table: Published) -> Iterator[Line]:
    """The same rows of one's own system, which the slices of `group` are of; cells of other systems do not count."""
    rows = pd.concat([part.ok[~part.ok["shared"]] for part in group], ignore_index=True)
    differing = [note.what for note in agreement(group[0], table) if note.kind == "differs"]
    apart = ", ".join(_named_here(group[0], what) for what in differing if what in (*_SCALE, _PREPARATION))
    for which, row in _best(rows):
        numbers = tuple(number(row, key) for metric in METRICS for key in (metric.column, metric.se))
        texts = ["" if np.isnan(value) else plus_minus(value, se) for value, se in (numbers[:2], numbers[2:])]
        whole = mean_phrase(row["asked_seeds"]) if row["seeds"] == len(row["asked_seeds"]) else None
        source = ", ".join(filter(None, ["measured here", group[0].setting["dataset"], whole, known(row["shortfall"])]))
        yield Line(row["system"], which, source, *texts, _conditions(group[0], row), numbers, apart)


def _named_here(part: Slice, what: str) -> str:
    """What is its own in a slice: `data set digits`, `features digits-4ea6047e`, `1,000 images`, `preparation adm`."""
    if what not in _SCALE:
        return f"{what} {prepared(part)}"
    value = part.setting[_SCALE[what]]
    return f"{what} {value}" if what == "data set" else named(_SCALE[what], value)


def _alike(parts: Sequence[Slice]) -> list[list[Slice]]:
    """The slices in groups of one system that differ in p_uncond and T only."""
    groups: dict[str, list[Slice]] = {}
    for part in parts:
        held = {key: repr(value) for key, value in part.setting.items() if key not in ("p_uncond", "T")}
        groups.setdefault(repr((part.rows["system"].iloc[0], held)), []).append(part)
    return sorted(groups.values(), key=lambda group: rank(group[0].rows["system"].iloc[0]))


def _best(rows: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """(`best FID`, its row) and (`max IS`, its row), all where several are equal; a row that is both comes once. Means
    over other seeds than most of their curve's only where there is nothing else."""
    rows = rows if rows["other_seeds"].all() else rows[~rows["other_seeds"]]
    found: dict[int, list[str]] = {}
    for metric, name in zip(METRICS, ("best FID", "max IS"), strict=True):
        if metric.column in rows and rows[metric.column].notna().any():
            best = getattr(rows[metric.column], metric.best)()
            for place in rows.index[rows[metric.column] == best]:
                found.setdefault(place, []).append(name)
    for place, names in found.items():
        yield " and ".join(names), rows.loc[place]


def _conditions(part: Slice, row: pd.Series) -> str:
    """`w 0.3 (scale 1.3), p_uncond 0.1, T 256, 512 network passes an image, 50,000 images, sampler ancestral ...`."""
    place = [turned(row), *(named(key, known(row[key])) for key in ("p_uncond", "T"))]
    passes = known(row.get("nfe"))
    elsewhere = [named(key, part.setting.get(key)) for key in ("p_uncond", "T", "system", "guidance", "source")]
    shown = [text for text in part.conditions if text not in elsewhere]
    return ", ".join([*place, *([f"{passes:g} network passes an image"] if passes is not None else []), *shown])
