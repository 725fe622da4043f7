"""What a user would write for a sweep with diffusers and torch-fidelity: sample to PNG files, measure the folder.

python users_script.py OUT REFERENCE WEIGHTS LAYER DEVICE IMAGES STEPS BATCH W [W ...]
"""

import sys
from pathlib import Path

import networks
import torch
import torch_fidelity
from diffusers import DDPMScheduler
from PIL import Image
from sampling import sample_diffusers


def main() -> None:
    out, reference, weights, layer, device = Path(sys.argv[1]), *sys.argv[2:6]
    images, steps, batch = map(int, sys.argv[6:9])
    model = networks.diffusers_unet().to(device).eval()
    scheduler = DDPMScheduler(num_train_timesteps=1000)
    scores = []
    for w in map(float, sys.argv[9:]):
        folder = out / f"w-{w:g}"
        folder.mkdir(parents=True)
        for first in range(0, images, batch):
            indices = torch.arange(first, min(first + batch, images), device=device)
            pixels = sample_diffusers(model, scheduler, steps, indices % networks.CLASSES, 1 + w)
            for index, image in zip(indices.tolist(), pixels.permute(0, 2, 3, 1).cpu().numpy(), strict=True):
                Image.fromarray(image).save(folder / f"{index:05}.png")
        scores.append(_measure(folder, reference, weights, layer, out, device))
    print(*(f"{score:.4f}" for score in scores))


def _measure(folder: Path, reference: str, weights: str, layer: str, out: Path, device: str) -> float:
    metrics = torch_fidelity.calculate_metrics(
        input1=str(folder),
        input2=reference,
        fid=True,
        isc=layer == "2048",
        feature_layer_fid=layer,
        feature_extractor_weights_path=weights,
        samples_find_deep=True,
        input2_cache_name="reference",
        cache_root=str(out / "cache"),
        cuda=device.startswith("cuda"),
        verbose=False,
    )
    return metrics["frechet_inception_distance"]


if __name__ == "__main__":
    main()
