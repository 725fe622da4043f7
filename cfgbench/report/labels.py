"""Labels beside points that do not lie on each other, on the curves, or outside the axes."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text

_RADII = (8.0, 12.0, 17.0, 24.0)  # points between a mark and the edge of its label
_ANGLES = np.deg2rad([0, 180, 90, 270, 45, 135, 225, 315, 22, 158, 202, 338, 68, 112, 248, 292])
_LEADER_FROM = 15.0  # points; a label farther away than this is tied to its mark by a line


@dataclass(frozen=True)
class Label:
    """Text for the point (x, y) in data units. One that is not `required` is left out where there is no room."""

    x: float
    y: float
    text: str
    colour: str
    required: bool = False
    bold: bool = False


def place(axes: Axes, labels: Sequence[Label], lines: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Annotation]:
    """Writes labels into the axes, required ones first; returns those that found room.

    `lines` are the curves (xs, ys) in data units; labels keep off them and off the legend. The figure has to be
    settled. Greedy: each label takes the nearest free place around its point.
    """
    figure = axes.get_figure(root=True)
    points = np.concatenate([_dense(axes.transData.transform(np.column_stack(line))) for line in lines])
    legend = axes.get_legend()
    taken = np.empty((0, 4))
    if legend is not None:
        taken = np.array([legend.get_window_extent(figure.canvas.get_renderer()).extents])
    placed = []
    for label in sorted(labels, key=lambda label: not label.required):
        note = _annotation(axes, label)
        room = list(_candidates(note, axes.transData.transform((label.x, label.y)), label.required))
        costs = _costs(np.array([box for *_, box in room]), taken, points, axes.bbox.extents)
        if min(costs) > 0 and not label.required:
            note.remove()
            continue
        offset, radius, box = room[int(np.argmin(costs))]
        note.set_position(offset)
        if radius >= _LEADER_FROM and note.arrow_patch is not None:
            note.arrow_patch.set_visible(True)
        taken = np.concatenate([taken, [box]])
        placed.append(note)
    return placed


def _annotation(axes: Axes, label: Label) -> Annotation:
    note = axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=(0, 0),
        textcoords="offset points",
        ha="center",
        va="center",
        color=label.colour,
        fontsize=8.5,
        fontweight="bold" if label.bold else "normal",
        zorder=6,
        arrowprops={"arrowstyle": "-", "color": label.colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 4},
    )
    note.arrow_patch.set_visible(False)
    return note


def _candidates(note: Annotation, at: np.ndarray, far: bool) -> Iterator[tuple[tuple[float, float], float, np.ndarray]]:
    """(offset of the text's centre in points, radius, its box x0, y0, x1, y1 in pixels), nearest places first."""
    figure = note.get_figure(root=True)
    scale = figure.dpi / 72
    size = Text.get_window_extent(note, figure.canvas.get_renderer())  # without the leader
    half = np.array([size.width, size.height]) / 2 / scale
    for radius in _RADII if far else _RADII[:2]:
        for angle in _ANGLES:
            direction = np.array([np.cos(angle), np.sin(angle)])
            offset = direction * radius + half * np.clip(direction * 1.4, -1, 1)
            centre = at + offset * scale
            yield tuple(offset), radius, np.concatenate([centre - half * scale, centre + half * scale])


def _costs(boxes: np.ndarray, taken: np.ndarray, points: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """0 for each of the boxes [n, 4] that lies free; overlapping other labels [m, 4] weighs most, then leaving the
    frame [4], then covering points [k, 2] of a curve."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    overlaps = np.all((low - 1.5 <= taken[:, 2:]) & (taken[:, :2] <= high + 1.5), axis=2).sum(axis=1)
    inside = np.all((frame[:2] <= boxes[:, :2]) & (boxes[:, 2:] <= frame[2:]), axis=1)
    near = points[np.all((points > low.min(axis=0) - 2) & (points < high.max(axis=0) + 2), axis=1)]
    covered = np.all((near > low - 2) & (near < high + 2), axis=2).sum(axis=1)
    return 1000.0 * overlaps + 300.0 * ~inside + covered


def _dense(corners: np.ndarray, step: float = 3.0) -> np.ndarray:
    """Points every `step` pixels along the polyline through `corners` [n, 2]."""
    pieces = [corners]
    for start, end in itertools.pairwise(corners):
        count = int(np.hypot(*(end - start)) // step)
        pieces.append(start + (end - start) * np.linspace(0, 1, count + 2)[:, None])
    return np.concatenate(pieces)
