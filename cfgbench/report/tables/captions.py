"""What stands over and under a table: what its numbers are, what follows ±, and what bias to expect."""

import numpy as np

from cfgbench.evaluation.columns import biased
from cfgbench.report.rows import knobs
from cfgbench.report.rows.seeds import alike_network, measured, seeds_phrase, vary_twice
from cfgbench.report.rows.slice import Slice
from cfgbench.report.rows.systems import UNTURNED
from cfgbench.report.words import FID, INFINITY, IS, Metric, joined, known, number, significant
from cfgbench.wording import NOTES_APART


def caption(part: Slice, metrics: tuple[Metric, ...]) -> str:
    """One paragraph: data set, what stands in the table, conditions, extractor, reference and protocol, errors."""
    if metrics == (INFINITY,):
        head = f"{part.setting['dataset']}: {INFINITY.long_name}, all else as in the table before."
        return f"{head} {reading(part, metrics)}".strip()
    names = joined([metric.long_name for metric in metrics])
    provenance = "; ".join(f"{name}: {value}" for name, value in part.provenance.items())
    sentences = [
        f"{part.setting['dataset']}: {names} over {knobs.in_caption(part)}, by {part.series}.",
        _begun(part),
        f"{', '.join(part.conditions)}.",
        f"{provenance[:1].upper()}{provenance[1:]}.",
        reading(part, metrics),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _begun(part: Slice) -> str:
    """Sentences on the entries that systems share with another, or nothing."""
    sentences = []
    for (w, temperature), shared in part.rows[part.rows["shared"]].groupby(["w", "temperature"], sort=False):
        systems = list(dict.fromkeys(shared["system"]))
        lack = f"{joined(systems)} {'has' if len(systems) == 1 else 'have'} no cell"
        start = f"the {'unguided' if w == 0 else 'unconditional'} one (w {w:g}{_at(temperature)})"
        place = f"{part.knob} {shared['at'].iloc[0]:g}"
        sentences.append(f"Where {lack} at {place}, {start} of another system stands in.")
    return " ".join(sentences)


def _at(temperature: float) -> str:
    return "" if temperature == UNTURNED["temperature"] else f", temperature {temperature:g}"


def reading(part: Slice, metrics: tuple[Metric, ...]) -> str:
    """A sentence on what an entry's parts are: the mean over seeds and their minimum, or what follows ±."""
    phrase = spread(part, metrics)
    if not part.seeds:
        return f"{phrase}." if phrase else ""
    count = seeds_phrase(part.seeds).split()[0]
    best = [f"{word} of {count}" for metric, word in ((FID, "minimum"), (IS, "maximum")) if metric in metrics]
    words = f", and the {best[0]}{f' (of IS the {best[1]})' if len(best) > 1 else ''}" if best else ""
    return f"Entries: {phrase}{words}."


def spread(part: Slice, metrics: tuple[Metric, ...]) -> str:
    """What a number is and what its error says: `mean over 3 seeds (0, 1, 2) ± its standard error over seeds`."""
    if part.seeds:
        return f"mean over {seeds_phrase(part.seeds)} ± its standard error over {_chances(part, metrics)}"
    known = [metric for metric in metrics if part.has(metric.se)]
    direct = [f"the {metric.name}" for metric in known if metric != INFINITY]
    images = f"{int(part.setting['samples']):,} images"
    phrases = [f"± one standard error of {joined(direct)} of {images} (influence function)"] if direct else []
    return "; ".join([*phrases, *(["FID∞ ± one standard error of the extrapolation"] if INFINITY in known else [])])


def _chances(part: Slice, metrics: tuple[Metric, ...]) -> str:
    """What the error of a mean over seeds has in it, and what it lacks."""
    if vary_twice(part.seeds):
        return "trainings and noise, of which some numbers share one"
    of_draws = alike_network(part.seeds)
    members, enough = [one for held in part.rows["members"] for one in held], all if of_draws else any
    known = [m for m in metrics if enough(np.isfinite(number(one, m.se)) for one in measured(members, m.column))]
    lacking = [metric.name for metric in metrics if metric not in known]
    if of_draws:
        return "seeds" if not known else f"images{f', of {joined(lacking)} over seeds' if lacking else ''}"
    if not lacking:
        return "trainings and images"
    of_some = f"trainings and images, of {joined(lacking)} over" if known else ""
    return f"{of_some} trainings, whose images have the same noise: what that does is not in it".strip()


def bias(*parts: Slice) -> str:
    """That FID is too high (see `biased`), and by how much where FID∞ was measured beside it; else nothing. Of several
    tables of as many images, from the least to the most."""
    there = [part for part in parts if FID in part.metrics and part.has(FID.column)]
    few = [part for part in there if _is_biased(part)]
    if not few:
        return ""
    note = f"FID of {int(few[0].setting['samples']):,} images is biased upwards"
    if not all(part.has(INFINITY.column) and not part.marks for part in few):
        return f"{note}: compare it only with FIDs of as many images."
    found = [excess for excess in map(_excess, few) if excess > 0]  # by chance it may be less, which says nothing
    ends = dict.fromkeys(significant(end(found), 2) for end in (min, max)) if found else ()
    over = "the table" if len(there) == 1 else "each table" + " where it shows" * (len(found) < len(there))
    return f"{note}; here by about {' to '.join(ends)} (FID − FID∞, mean over {over})." if ends else f"{note}."


def _is_biased(part: Slice) -> bool:
    both = all(map(part.has, (INFINITY.column, FID.se)))
    excess, se = (_excess(part), float(part.ok[FID.se].mean())) if both else (np.nan, np.nan)
    return biased(int(part.setting["samples"]), excess, se)


def _excess(part: Slice) -> float:
    """FID − FID∞, mean over the table, of the points that have both."""
    return float((part.ok[FID.column] - part.ok[INFINITY.column]).mean())


def notes(part: Slice, metrics: tuple[Metric, ...]) -> list[str]:
    """The lines under a table that belong to no single entry: the bias, what has no error, what its rows say beside
    their numbers, and what the marks mean."""
    lines = [bias(part), _without_error(part)] if FID in metrics else []
    rows = [row for members in part.rows["members"] for row in members if row["status"] == "ok"]
    said = [note for row in rows for note in (known(row.get("notes")) or "").split(NOTES_APART)]
    names = tuple(f"{metric.name}: " for metric in metrics)
    lines += [f"{note}." for note in dict.fromkeys(said) if note.startswith(names)]
    return [text for text in [*lines, *(f"[{mark}] {meaning}" for mark, meaning in part.marks.items())] if text]


def _without_error(part: Slice) -> str:
    """Why single cells have an FID without an error, beside an IS with one: published numbers and those of earlier
    versions have neither."""
    cells = [members[0] for members in part.rows["members"] if len(members) == 1]
    cells = [row for row in cells if np.isfinite([number(row, FID.column), number(row, IS.se)]).all()]
    if not any(np.isnan(number(row, FID.se)) for row in cells):
        return ""
    return (
        "An FID without ± has no error: that takes more images than the features have dimensions, and images that vary "
        "in each direction in which the reference does."
    )
