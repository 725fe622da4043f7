"""ADM's networks and how they are trained, for the paper's tables (Dhariwal & Nichol 2021, table 11).

Ho & Salimans 2022 take architecture and optimiser from there, with continuous time, a null class, a fixed variance and
fewer steps: 400 thousand at 64x64, 2.7 million at 128x128. What no preset says is ours: weights begin with embeddings
of classes of N(0, 0.02^2) and biases of 0, and the average of the weights is short at first (`ema_decay`).
"""

from collections.abc import Collection, Mapping
from typing import Any

MODELS: dict[str, Mapping[str, Any]] = {
    "adm-64": {
        "channels": 192,
        "multipliers": [1, 2, 3, 4],
        "blocks": 3,
        "attention": [32, 16, 8],
        "head_channels": 64,
        "dropout": 0.1,
    },
    "adm-128": {
        "channels": 256,
        "multipliers": [1, 1, 2, 3, 4],
        "blocks": 2,
        "attention": [32, 16, 8],
        "heads": 4,
        "dropout": 0.0,
    },
}
"""`model: {preset: adm-64}`: 296 M and 422 M parameters."""

_ADM = {"warmup_steps": 0, "weight_decay": 0.0, "ema_decay": 0.9999, "gradient_clip": 0.0}

TRAININGS: dict[str, Mapping[str, Any]] = {
    "adm-64": _ADM | {"steps": 400_000, "batch_size": 2048, "learning_rate": 3e-4},
    "adm-128": _ADM | {"steps": 2_700_000, "batch_size": 256, "learning_rate": 1e-4},
}
"""`training: {preset: adm-64}`: constant learning rate, no clipping, as in ADM's released code."""


def on_preset(content: Any, presets: Mapping[str, Mapping[str, Any]]) -> Any:
    """The section's content on top of its preset's; a name that is no preset is refused by the field's own type."""
    preset = content.get("preset") if isinstance(content, dict) else None
    if not isinstance(preset, str):
        return content
    out = displaced(content)
    return {key: value for key, value in presets.get(preset, {}).items() if key not in out} | content


def displaced(given: Collection[str]) -> set[str]:
    """The keys of a section that do not stand beside those that are given over it: `heads`, which decides where it is
    there, beside `head_channels` alone."""
    return {"heads"} if "head_channels" in given and "heads" not in given else set()
