"""Inception features each way, batch by batch in turn: images per second and FID, against torch-fidelity's own.

    python tests/studies/inception.py PHOTOGRAPHS --weights FILE --images 600

The first so many images of the folder or zip, as `cfgbench eval` shuffles them, are dealt to two sets in turn; the
FID is between these. The first way that is named is what the others are measured against.
"""

import argparse
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from cfgbench.data.image_batches import open_images
from cfgbench.evaluation.metrics import frechet_distance
from cfgbench.evaluation.statistics import Moments
from cfgbench.models.extractors import Inception
from cfgbench.models.inception import BATCH

Look = Callable[[Tensor], Tensor]


WAYS = ["torch-fidelity", "fp32", "fp32-compiled", "bf16", "bf16-compiled"]


def way(name: str, layer: int, weights: Path, device: torch.device) -> Look:
    """torch-fidelity as its users call it, or one of ours."""
    if name != "torch-fidelity":
        fast, compiled = name.startswith("bf16"), name.endswith("compiled")
        ours = Inception(layer, weights, device, logits=False, fast=fast, compiled=compiled)
        print(f"{name}: {ours.note or 'as it is'}", flush=True)
        return lambda images: ours(images).pooled
    network = FeatureExtractorInceptionV3("theirs", [str(layer)], feature_extractor_weights_path=str(weights))
    network = network.to(device).eval()

    def theirs(images: Tensor) -> Tensor:
        with torch.no_grad():
            return network(images.to(device))[0]

    return theirs


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--layer", type=int, default=768)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS)
    asked = parser.parse_args(words)
    device = torch.device(asked.device)
    size, photographs = BATCH[device.type], open_images(asked.photographs, channels=3)
    count = min(asked.images, photographs.count) // size
    if count < 2:  # the first batch warms up, and is not counted
        parser.exit(2, f"two batches of {size} are needed: {2 * size} photographs, and --images {2 * size} or more\n")
    looks = {name: way(name, asked.layer, asked.weights, device) for name in asked.ways}
    seconds: dict[str, list[float]] = {name: [] for name in looks}
    sets = {name: [Moments.empty(), Moments.empty()] for name in looks}
    for number, batch in enumerate(map(torch.from_numpy, islice(photographs.batches(size), count))):
        for name, look in looks.items():
            began = time.perf_counter()
            features = look(batch).cpu()
            seconds[name].append(time.perf_counter() - began)
            for part, moments in enumerate(sets[name]):
                sets[name][part] = moments.merge(Moments.of(features[part::2]))
        print(
            f"batch {number}: " + ", ".join(f"{name} {taken[-1]:.2f} s" for name, taken in seconds.items()), flush=True
        )
    base = next(iter(looks))
    fids = {name: frechet_distance(*both) for name, both in sets.items()}
    for name, taken in seconds.items():
        ratios = [a / b for a, b in zip(seconds[base][1:], taken[1:], strict=True)]
        off = fids[name] / fids[base] - 1
        print(
            f"{name}: {size / median(taken[1:]):.1f} images/s, {median(ratios):.2f} times {base} "
            f"({min(ratios):.2f} to {max(ratios):.2f}); FID {fids[name]:.6f} ({off:+.1e})"
        )


if __name__ == "__main__":
    main()
