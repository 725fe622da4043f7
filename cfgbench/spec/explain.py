"""What is wrong with a sweep file, in the words of one who wants it mended."""

import difflib
import math
from typing import Any

from pydantic import ValidationError

from cfgbench.errors import LONGEST, brief
from cfgbench.spec.models import Checkpoint, Exact, Factory, Model
from cfgbench.spec.sections import SweepSpec, Training
from cfgbench.spec.values import Section

Location = tuple[int | str, ...]


def explain(error: ValidationError) -> str:
    """The first thing that is wrong, in one line: `key = value: what would be right`."""
    errors = error.errors(include_url=False)
    # a word that is not known explains a key that is missing, not the other way round
    first = min(errors, key=lambda one: one["type"] != "extra_forbidden")
    if first["type"] != "extra_forbidden":  # of what could be a number or a list the list says which element it is
        alike = [one for one in errors if _location(one["loc"]).partition("[")[0] == _location(first["loc"])]
        first = max([first, *alike], key=lambda one: len(one["loc"]))
    where = _location(first["loc"])
    kind = first["type"]
    places = {_location(one["loc"]) for one in errors}
    places -= {place.partition("[")[0] for place in places if "[" in place}  # it could be a number instead
    more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
    if kind == "extra_forbidden":
        return f"{where}: unknown key{did_you_mean(str(first['loc'][-1]), _known_keys(first['loc']))}{more}"
    if kind == "missing":
        return f"{where}: missing{more}"
    message = _message(first, where)
    of_lists = any(_location(one["loc"]) == where and one["type"] in _OF_LISTS for one in errors)
    if of_lists and kind != "too_short":
        message += f"{', or a list' if kind != 'list_type' else ''}, such as {_LISTS.get(where, '[1]')}"
    if where.partition("[")[0] == "grid" and kind != "list_type":
        message = "should name at least one axis with a list of values, such as w: [0, 0.1, 1]"
    return f"{where} = {_shown(first['input'])}: {message}{more}"


def _message(first: Any, where: str) -> str:
    """What would be right there, of one thing that is wrong."""
    kind, value = first["type"], first["input"]
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    if kind == "literal_error":
        expected = _NAMES.get(where, first["ctx"]["expected"])
        return f"should be one of {expected}{did_you_mean(str(value), _options(expected))}"
    if kind == "model_type":
        return f"should be keys with values, such as {{{_known_keys((*first['loc'], ''))[0]}: ...}}"
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(where, message)
    if kind == "bool_type":
        return f"{message}: true or false"
    if kind in _TEXTS and isinstance(value, int | float):
        return "should be text; put it in quotes"
    if kind == "int_type" and isinstance(value, float):
        return f"{message}, without point or exponent"
    return "should have at least one element" if kind == "too_short" else message


_TEXTS = "string_type", "path_type"

_OF_LISTS = "list_type", "too_short"
"""What is wrong with a list, or that it is none."""
_LISTS = {"evaluation.metrics": "[fid, is]", "dataset.classes": "[cat, dog]"}

_NAMES = {"model.name": "'unet' or 'gaussians'"}
"""Of what is taken for a U-Net where no key says otherwise."""

_PATTERNS = {
    "name": "should be a plain folder name: letters, digits, '.', '_' and '-', beginning with a letter or digit, "
    "100 at most",
    "model.factory": "should be package.module:function",
}


_KINDS = {
    *(("model", kind) for kind in ("unet", "checkpoint", "factory", "gaussians")),
    *(("grid", kind) for kind in ("one", "several")),
}
"""Where the validation names which of several kinds it took something for."""


_SCALES = "scale", "guidance_scale", "cfg_scale"
"""What others call 1 + w."""


def did_you_mean(word: str, known: list[str]) -> str:
    """The nearest of the known words, or all of them, to end an error with."""
    word = word[:LONGEST]
    if word.rpartition(".")[2] in _SCALES and "w" in known:
        return "; write w, which is the scale less 1"
    same = [name for name in known if name.casefold() == word.casefold()]
    close = same or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def _known_keys(loc: Location) -> list[str]:
    """The keys that may stand where `loc` stands."""
    kinds: dict[int | str, type[Section]] = {
        **{"checkpoint": Checkpoint, "factory": Factory, "unet": Model, "gaussians": Exact},
        **{"model": Model, "training": Training},  # of the classifier
    }
    if len(loc) > 2:
        others = ["checkpoint", "factory"] if loc[:2] == ("model", "unet") else []
        return [*kinds[loc[1]].model_fields, *others]
    section = SweepSpec.model_fields.get(str(loc[0])) if len(loc) > 1 else None
    return list((section.annotation if section else SweepSpec).model_fields)  # type: ignore[union-attr]


def _location(loc: Location) -> str:
    """`model.channels`, `grid.T[1]`: the path without the validation's own words for lists and kinds of model."""
    words = [part for part in loc if not (isinstance(part, str) and part.startswith(("list[", "constrained-")))]
    if tuple(words[:2]) in _KINDS:
        del words[1]
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{_cut(part)}" for part in words)
    return text.removeprefix(".") or "the file"


def _cut(key: str) -> str:
    return key if len(key) <= LONGEST else f"{key[: LONGEST - 3]}..."


def _options(expected: str) -> list[str]:
    return [option.strip(" '") for option in expected.replace(" or ", ",").split(",")]


def _shown(value: Any) -> str:
    return f"{value}" if isinstance(value, float) and not math.isfinite(value) else brief(value)
