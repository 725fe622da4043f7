"""The words for what a slice turns: guidance strength w, which others may call scale = 1 + w, or the temperature τ."""

from cfgbench.report.rows.slice import Slice
from cfgbench.report.rows.systems import SIGNS, scaled

_SCALE = "scale = 1 + w"
_TEMPERATURE = f"{SIGNS['temperature']}: temperature"


def name(part: Slice) -> str:
    """`guidance strength`, `temperature`."""
    return "guidance strength" if part.knob == "w" else part.knob


def on_axis(part: Slice) -> str:
    """`guidance strength w (scale = 1 + w)`, `temperature`; on two lines where w is several things."""
    if part.knob == "temperature":
        return name(part)
    meanings = _meanings(part)
    apart = " " if len(meanings) == 1 else "\n"
    return f"{name(part)} w{apart}({'; '.join(meanings)})"


def in_caption(part: Slice) -> str:
    """What is turned down the table: `guidance strength w (scale = 1 + w)`, or of what the temperature is."""
    if part.knob == "temperature":
        return "the temperature of the reverse process's noise, without guidance (w 0)"
    return f"{name(part)} w ({'; '.join(_meanings(part))})"


def in_heading(part: Slice) -> list[str]:
    """What the sign over an image means: `scale = 1 + w`, `τ: temperature`, or nothing that needs words."""
    return [_SCALE] * part.scaled + [_TEMPERATURE] * (part.knob == "temperature")


def in_legend(part: Slice) -> str:
    """What the labels of points are: `w (scale = 1 + w)`, `τ: temperature`; of several systems `w (guidance) and τ
    (temperature)`."""
    if part.series == "system":
        words = {"w": "w (guidance)", "temperature": "τ (temperature)"}
        return " and ".join(words[one.knob] for one in part.by_knob)
    if part.knob == "temperature":
        return _TEMPERATURE
    return f"w ({_SCALE})" if part.scaled else "w"


def _meanings(part: Slice) -> list[str]:
    """What w is: of most systems a scale less 1, of those with a classifier its weight."""
    weight = any(not scaled(system) for system in part.rows["system"].unique())
    return [_SCALE] * part.scaled + ["of a classifier w is the weight"] * weight
