"""Labels beside points that do not lie on each other, on the curves, or outside the axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.text import Annotation, Text

_RADII = (8.0, 12.0, 17.0, 24.0)  # points between a mark and the edge of its label
_ANGLES = np.deg2rad([0, 180, 90, 270, 45, 135, 225, 315, 22, 158, 202, 338, 68, 112, 248, 292])
_DIRECTIONS = np.column_stack([np.cos(_ANGLES), np.sin(_ANGLES)])
_STEP = 3.0  # pixels between the points of a curve that labels keep off
_SPACE = 4.0  # pixels between labels side by side, or 0.8 and 2 are read as 0.82
_LEADER_FROM = 2  # of _RADII; a label that far away is tied to its mark by a line
_LEADER = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 1, "shrinkB": 4}


@dataclass(frozen=True)
class Label:
    """Text for the point (x, y) in data units. One that is not `required` is left out where there is no room; without
    text it is a point that others of its colour are not to be taken for."""

    x: float
    y: float
    text: str
    colour: str
    required: bool = False
    bold: bool = False


def place(axes: Axes, labels: Sequence[Label], lines: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Annotation]:
    """Writes labels into the axes, required ones first; returns those that found room.

    `lines` are curves and error bars (xs, ys) in data units; labels keep off them and off the legend, and are nearest
    to their own point of all in their colour. The figure has to be settled. Greedy: each label takes the nearest free
    place around its point.
    """
    renderer = axes.get_figure(root=True).canvas.get_renderer()
    points = _along(axes, lines)
    legend = axes.get_legend()
    taken = np.empty((0, 4)) if legend is None else np.array([legend.get_window_extent(renderer).extents])
    colours = {label.colour for label in labels}
    marks = {colour: _pixels(axes, [label for label in labels if label.colour == colour]) for colour in colours}
    near = _LEADER_FROM * len(_ANGLES)
    sizes: dict[tuple[str, bool], np.ndarray] = {}
    placed = []
    for label in sorted((label for label in labels if label.text), key=lambda label: not label.required):
        if (look := (label.text, label.bold)) not in sizes:
            sizes[look] = _size(axes, label, renderer)
        offsets, boxes = _candidates(axes, label, sizes[look])
        costs = _costs(boxes, taken, points, axes.bbox.extents, required=label.required)
        open_ = np.flatnonzero((costs[:near] == 0) | label.required)  # the others have a line to their mark
        if len(open_):
            costs[open_] += 100.0 * _mistaken(boxes[open_], _pixels(axes, [label])[0], marks[label.colour])
        best = int(np.argmin(costs))
        if costs[best] == 0 or label.required:
            taken = np.concatenate([taken, boxes[best : best + 1]])
            placed.append(_annotation(axes, label, tuple(offsets[best]), leader=best >= near))
    return placed


def _pixels(axes: Axes, labels: Sequence[Label]) -> np.ndarray:
    """Where the labels' points are, [n, 2]."""
    return axes.transData.transform([(label.x, label.y) for label in labels])


def _annotation(axes: Axes, label: Label, offset: tuple[float, float], *, leader: bool) -> Annotation:
    return axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=offset,
        textcoords="offset points",
        color=label.colour,
        zorder=6,
        arrowprops=dict(_LEADER, color=label.colour) if leader else None,
        **_look(label),
    )


def _look(label: Label) -> dict[str, Any]:
    return {"ha": "center", "va": "center", "fontsize": 8.5, "fontweight": "bold" if label.bold else "normal"}


def _size(axes: Axes, label: Label, renderer: RendererBase) -> np.ndarray:
    """Width and height of a label in pixels."""
    text = Text(0, 0, label.text, figure=axes.get_figure(root=True), **_look(label))
    return text.get_window_extent(renderer).size


def _candidates(axes: Axes, label: Label, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets [n, 2] of the text's centre in points, nearest first, and its boxes there [n, 4], (x0, y0, x1, y1) in
    pixels; far ones only for a label that must be written."""
    scale = axes.get_figure(root=True).dpi / 72
    radii = _RADII if label.required else _RADII[:2]
    offsets = np.concatenate([_DIRECTIONS * radius for radius in radii])
    offsets += np.tile(size / 2 / scale * np.clip(_DIRECTIONS * 1.4, -1, 1), (len(radii), 1))
    centres = _pixels(axes, [label]) + offsets * scale
    return offsets, np.hstack([centres - size / 2, centres + size / 2])


def _costs(
    boxes: np.ndarray, taken: np.ndarray, points: np.ndarray, frame: np.ndarray, *, required: bool
) -> np.ndarray:
    """0 for each of the boxes [n, 4] that lies free; overlapping other labels [m, 4] weighs most, then leaving the
    frame [4], then covering points [k, 2] of a curve. The last is left out where a label that is not `required` has no
    place for another reason."""
    left, low, right, high = boxes.T[:, :, None]
    beside = (left - _SPACE <= taken[:, 2]) & (taken[:, 0] <= right + _SPACE)
    overlaps = (beside & (low - 1.5 <= taken[:, 3]) & (taken[:, 1] <= high + 1.5)).sum(axis=1)
    inside = np.all((frame[:2] <= boxes[:, :2]) & (boxes[:, 2:] <= frame[2:]), axis=1)
    costs = 1000.0 * overlaps + 300.0 * ~inside
    asked = np.ones(len(boxes), bool) if required else costs == 0
    if asked.any():
        costs[asked] += _covered(boxes[asked], points)
    return costs


def _mistaken(boxes: np.ndarray, own: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Which of the boxes [n, 4] are nearer to another of the marks [m, 2], which are pixels, than to their own: by what
    lies between mark and edge."""
    corners = boxes.reshape(-1, 1, 2, 2)
    gaps = np.maximum(corners[:, :, 0] - marks, marks - corners[:, :, 1]).clip(min=0)
    apart = np.hypot(gaps[..., 0], gaps[..., 1])
    mine = np.hypot(*(marks - own).T) < 1
    return apart[:, ~mine].min(axis=1, initial=np.inf) < apart[:, mine].min(axis=1)


def _covered(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How many points lie in each box or within 2 pixels of it."""
    left, low, right, high = boxes.T[:, :, None] + np.array([-2, -2, 2, 2])[:, None, None]
    x, y = points.T
    near = (x > left.min()) & (x < right.max()) & (y > low.min()) & (y < high.max())
    x, y = x[near], y[near]
    return ((x > left) & (x < right) & (y > low) & (y < high)).sum(axis=1)


def _along(axes: Axes, lines: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Points every few pixels along the lines (xs, ys), [n, 2] in pixels."""
    corners = axes.transData.transform(np.hstack(lines).T)
    last = np.cumsum([len(xs) for xs, _ in lines]) - 1
    first = np.delete(np.arange(len(corners)), last)  # of each piece between two corners of a line
    steps = corners[first + 1] - corners[first]
    counts = (np.hypot(*steps.T) // _STEP).astype(int) + 1
    piece = np.repeat(np.arange(len(first)), counts)
    number = np.arange(len(piece)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.concatenate([corners, corners[first[piece]] + steps[piece] * (number / counts[piece])[:, None]])
