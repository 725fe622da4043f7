"""In what the protocols of measured and published numbers agree."""

import re
from dataclasses import dataclass
from typing import Literal

from cfgbench.report.reference.tables import TABLES, Published
from cfgbench.report.rows.slice import Slice
from cfgbench.report.rows.systems import UNTURNED
from cfgbench.report.words import as_text, extractor_name, known, named
from cfgbench.wording import UNUSED

_OFFICIAL = re.compile(r"inception-2048-6726825d\b(?!.*-bf16)")
"""The weights' SHA-256 as the published evaluators have them, and their arithmetic."""
_REFERENCE = re.compile(r"; reference (\S+)(?: \(([^;]*)\))?, (\d+) images;")
TRAINING_IMAGES = 1_281_167
"""Of ImageNet."""
PREPARED = "area"
"""Ho & Salimans 2022, section 4: ImageNet `area-downsampled`; FIDs of other preparations do not compare."""
_IMAGENET = re.compile(r"imagenet[ _-]?(\d+)(x\1)?", re.IGNORECASE)


@dataclass(frozen=True)
class Note:
    """One thing in which two protocols agree or differ, or that the paper does not state."""

    kind: Literal["same", "differs", "not stated"]
    what: str
    text: str


def counterpart(part: Slice) -> Published | None:
    """The paper's table of the same data set."""
    return next((table for table in TABLES if table.resolution == imagenet_size(part.setting["dataset"])), None)


def published_behind(part: Slice) -> Slice | None:
    """The published numbers that may stand on the slice's axes: all of ImageNet of its size, through the same
    network."""
    table = counterpart(part)
    alike = _OFFICIAL.match(str(part.setting["features_id"])) and not _in_part(part)
    return table.part if table is not None and alike and prepared(part) in ("", PREPARED) else None


def imagenet_size(dataset: str) -> int | None:
    """64 for imagenet64, ImageNet 64x64 and the like; None for other data sets."""
    match = _IMAGENET.fullmatch(dataset)
    return int(match[1]) if match else None


def agreement(part: Slice, published: Published) -> list[Note]:
    """In what the slice's numbers were made as the table's were, in what not, and what is not known of the latter."""
    held, stated = part.setting, published.part.setting
    unused = UNUSED.get(held.get("sampler"), frozenset())
    return [
        _data_set(part, published),
        *([_note("preparation", made, PREPARED)] if (made := prepared(part)) else []),
        _features(str(held["features_id"])),
        _note("number of images", f"{int(held['samples']):,}", "50,000", same=held["samples"] == stated["samples"]),
        *(_note(key, held.get(key), stated[key]) for key in ("sampler", "v", "guidance") if key not in unused),
        *_temperature(part),
        *_unstated(part, published.unstated),
    ]


def _data_set(part: Slice, published: Published) -> Note:
    held, stated, alike = part.setting["dataset"], published.part.setting["dataset"], counterpart(part) == published
    if few := _in_part(part):
        of = f"{few:,} of the {TRAINING_IMAGES:,} images of {held}"
        held = of if imagenet_size(held) is not None else f"{held}, {few:,} images,"
    return _note("data set", held, stated, same=alike and not few)


def _in_part(part: Slice) -> int:
    """How many images of the data set were trained on and measured against, where that is not all of ImageNet's
    training images: fewer classes, a limit or the other split; 0 where it is, or is not known."""
    told = _reference(part)
    return int(told[3]) if told and int(told[3]) != TRAINING_IMAGES else 0


def prepared(part: Slice) -> str:
    """How the data set's images were made small; empty where that is not known."""
    told = _reference(part)
    return (told[2] or "").split(",")[0] if told else ""


def _reference(part: Slice) -> re.Match[str] | None:
    """What the protocol says of the data set as its reference; None where the reference is another."""
    told = _REFERENCE.search(part.provenance.get("protocol", ""))
    return told if told and told[1] == part.setting["dataset"] else None


def _note(what: str, ours: object, theirs: object, *, same: bool | None = None) -> Note:
    if ours == theirs if same is None else same:
        return Note("same", what, f"{what} {as_text(ours)}")
    return Note("differs", what, f"{what}: {as_text(ours)} here, {as_text(theirs)} in the paper")


def _temperature(part: Slice) -> list[Note]:
    """The paper's sampler has no temperature but 1, and does not speak of it."""
    found = [as_text(value) for value in sorted(part.rows["temperature"].unique()) if value != UNTURNED["temperature"]]
    return [Note("differs", "temperature", f"temperature: {', '.join(found)} here, 1 in the paper")] if found else []


def _features(features_id: str) -> Note:
    if _OFFICIAL.match(features_id):
        return Note("same", "features", "features of the Inception network, 2048 of them")
    if features_id.endswith("-bf16"):
        return Note("differs", "features", f"features: the Inception network's in bf16 here ({features_id})")
    if extractor_name(features_id) == "inception":
        words = f"weights of the Inception network that are not the published evaluators' ({features_id})"
        return Note("differs", "features", f"features: {words}")
    scale = "so neither FID nor IS is on the same scale"
    return Note("differs", "features", f"features: {features_id} here, the Inception network's in the paper, {scale}")


def _unstated(part: Slice, other: str) -> list[Note]:
    """What the paper does not say about its own numbers, and what holds here."""
    values = [known(value) for value in part.rows[other].sort_values().unique()]
    notes = [Note("not stated", other, f"{named(other, ', '.join(map(as_text, values)))} here")]
    provenance = part.provenance
    held = f" ({provenance['protocol']})" if "protocol" in provenance else ""
    return [
        *notes,
        Note("not stated", "reference", f"reference set, crop, IS splits, clipping, balance of classes{held}"),
    ]
