"""Inception features of the same images, exact and fast, against torch-fidelity's; and what FID comes out."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from photographs import batches, photographs, weights
from timing import Contestant, Setup, in_turn, relative, table
from torch import Tensor

from cfgbench.evaluation.extractors import Inception
from cfgbench.evaluation.metrics import frechet_distance
from cfgbench.evaluation.statistics import Moments

LAYER = 768
Extract = Callable[[Tensor], Tensor]


def run(setup: Setup) -> Iterator[str]:
    """Images a second in batches of 50, and the FID of two sets of photographs under each contestant."""
    count, batch = (60, 10) if setup.quick else (1000, 50)
    images, what = photographs(count, 64)
    path, trained = weights()
    extractors: dict[str, Extract] = {}

    def make(name: str, build: Callable[[], Extract]) -> Callable[[], Tensor]:
        extractors[name] = build()
        first = torch.from_numpy(images[:batch])
        return lambda: extractors[name](first)

    builders = _contestants(path, setup.device)
    contestants = [
        Contestant(name, lambda name=name, build=build: make(name, build), ours=name.startswith("cfgbench"))
        for name, build in builders.items()
    ]
    found = in_turn(contestants, setup)
    fids = {one.name: _fid(extractors[one.name], images, batch) for one in found if not one.error}
    agreed = {name: f"FID {relative(fid, fids.get('torch-fidelity', float('nan')))}" for name, fid in fids.items()}
    notes = [
        f"{what} {trained} FID of the even against the odd ones, by our Frechet distance for all: what differs is the "
        f"features; relative to torch-fidelity's. Batches of {batch}.",
        "torchmetrics computes its features with torch-fidelity's network. pytorch-fid and clean-fid download weights "
        "of their own and are not measured here.",
    ]
    yield table(f"Inception features, layer {LAYER}", found, rates={"images/s": batch}, agreed=agreed, notes=notes)


def _contestants(path: Path, device: torch.device) -> dict[str, Callable[[], Extract]]:
    return {
        "cfgbench exact": lambda: _ours(path, device),
        "cfgbench exact, compiled": lambda: _ours(path, device, compiled=True),
        "cfgbench fast, compiled": lambda: _ours(path, device, compiled=True, fast=True),
        "torch-fidelity": lambda: _torch_fidelity(path, device),
    }


def _ours(path: Path, device: torch.device, **how: Any) -> Extract:
    extractor = Inception(LAYER, path, device, logits=False, **how)
    return lambda images: extractor(images).pooled


def _torch_fidelity(path: Path, device: torch.device) -> Extract:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    name = "inception-v3-compat"
    network = FeatureExtractorInceptionV3(name, [str(LAYER)], feature_extractor_weights_path=str(path)).to(device)

    @torch.no_grad()
    def extract(images: Tensor) -> Tensor:
        return network(images.to(device))[0]

    return extract


def _fid(extract: Extract, images: np.ndarray, batch: int) -> float:
    sets = []
    for half in (images[::2], images[1::2]):
        pooled = torch.cat([extract(part).double().cpu() for part in batches(half, batch)])
        sets.append(Moments.of(pooled))
    return frechet_distance(*sets)
