"""Inception features of the same images, exact and fast, against torch-fidelity's; and what FID comes out."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from photographs import batches, photographs, weights
from timing import Contestant, Setup, in_turn, relative, table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cfgbench.evaluation.metrics import frechet_distance
from cfgbench.evaluation.statistics import Moments
from cfgbench.models.extractors import Inception

LAYER = 768
PEER, EXACT_PEER = "torch-fidelity", "torch-fidelity without TF32"
Extract = Callable[[Tensor], Tensor]


def run(setup: Setup) -> Iterator[str]:
    """Images a second in batches of 50, and the FID of two sets of photographs under each contestant."""
    on_gpu = setup.device.type == "cuda"
    count, batch = (60, 10) if setup.quick else (1000, 256 if on_gpu else 50)
    images, what = photographs(count, 64)
    path, trained = weights()
    cost = _gflop(path)
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
    reference = EXACT_PEER if on_gpu else PEER
    fids = {one.name: _fid(extractors[one.name], images, batch) for one in found if not one.error}
    agreed = {name: f"FID {relative(fid, fids.get(reference, float('nan')))}" for name, fid in fids.items()}
    notes = [
        f"{what} {trained} FID of the even against the odd ones, by our Frechet distance for all: what differs is the "
        f"features; relative to {reference}'s. Batches of {batch}. Operations are counted: {cost:.2f} GFLOP an image.",
        "torchmetrics computes its features with torch-fidelity's network. pytorch-fid and clean-fid download weights "
        "of their own and are not measured here.",
    ]
    yield table(
        f"Inception features, layer {LAYER}",
        found,
        rates={"images/s": batch, "GFLOP/s": cost * batch},
        agreed=agreed,
        notes=notes,
    )


def _contestants(path: Path, device: torch.device) -> dict[str, Callable[[], Extract]]:
    return {
        "cfgbench exact": lambda: _ours(path, device),
        "cfgbench exact, compiled": lambda: _ours(path, device, compiled=True),
        "cfgbench fast, compiled": lambda: _ours(path, device, compiled=True, fast=True),
        PEER: lambda: _torch_fidelity(path, device, rounded=True),
    } | ({EXACT_PEER: lambda: _torch_fidelity(path, device, rounded=False)} if device.type == "cuda" else {})


def _ours(path: Path, device: torch.device, **how: Any) -> Extract:
    extractor = Inception(LAYER, path, device, logits=False, **how)
    return lambda images: extractor(images).pooled


def _gflop(path: Path) -> float:
    """Of an image."""
    runner = Inception(LAYER, path, torch.device("cpu"), logits=False, compiled=False).runner
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        runner(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    return counter.get_total_flops() / 1e9


def _torch_fidelity(path: Path, device: torch.device, *, rounded: bool) -> Extract:
    """`rounded` as torch has it, which lets GPUs convolve in TF32."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    name = "inception-v3-compat"
    network = FeatureExtractorInceptionV3(name, [str(LAYER)], feature_extractor_weights_path=str(path)).to(device)

    @torch.no_grad()
    def extract(images: Tensor) -> Tensor:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=rounded):
            return network(images.to(device))[0]

    return extract


def _fid(extract: Extract, images: np.ndarray, batch: int) -> float:
    sets = []
    for half in (images[::2], images[1::2]):
        pooled = torch.cat([extract(part).double().cpu() for part in batches(half, batch)])
        sets.append(Moments.of(pooled))
    return frechet_distance(*sets)
