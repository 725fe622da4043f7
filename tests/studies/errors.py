"""Do the errors hold? Coverage of 95 % intervals, and the extrapolated FID, on populations whose truth is known.

    python tests/studies/errors.py --photos tiny-imagenet.zip --weights inception.pth --cache features.npz

A population is a finite set of feature vectors, from which images are drawn with replacement: its FID and Inception
Score are known exactly, and what each repeat finds can be held against them. Features are those of photographs in the
Inception network (layers 64 and 768). Three sets of equal size: the reference, and, from other photographs, two
imitations of a generator (blurred a little, blurred more) whose images are pairs. Logits are those of a linear
classifier of the photographs' classes on the features, fitted to the reference. Writes the table errors.md.

With --paired N only the paired differences are counted, at 768 dimensions and fixed shares, in N repeats: the steps of
`measure` that they take, without those of the extrapolated FID, which take nearly all of its time. Writes paired.md.
"""

import argparse
import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from cfgbench.evaluation.features import Features
from cfgbench.evaluation.influence import fid_influence, is_influence
from cfgbench.evaluation.measure import SPLITS, Measurement, measure
from cfgbench.evaluation.metrics import factor, frechet_distance, inception_score
from cfgbench.evaluation.standard_error import standard_error
from cfgbench.evaluation.statistics import Moments, Predictions
from cfgbench.files import write_atomically
from cfgbench.models.extractors import Inception

BLURS = {"reference": 0.0, "one": 0.5, "other": 0.7}
LAYERS = 64, 768
COMMAND = "python tests/studies/errors.py --photos tiny-imagenet.zip --weights inception.pth --cache features.npz"
BATCH = 50
CASES = [(64, 500, False), (64, 5000, False), (64, 5000, True), (768, 5000, False), (768, 5000, True)]
"""(dimensions, images of a repeat, whether each class has its fixed share of them)."""

NAMES = {"fid": "FID", "is": "IS", "fid difference": "FID - FID'", "is difference": "IS - IS'"}


@dataclass(frozen=True)
class Population:
    """Features [N, d] and logits [N, k] of two sets whose images are pairs, with their classes, and the reference."""

    reference: Moments
    one: Features
    other: Features
    labels: np.ndarray


def draw(labels: np.ndarray, n: int, fixed: bool, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    """Indices of n of the images of these classes, drawn with replacement; and, where each class has its fixed share,
    the classes of those that were drawn: image i is of class i % classes."""
    if not fixed:
        return random.integers(0, len(labels), n), None
    classes = np.unique(labels)
    members = [np.flatnonzero(labels == c) for c in classes]
    shares = np.arange(n) % len(classes)
    return np.array([random.choice(members[c]) for c in shares]), shares


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="a zip with train/CLASS/*.JPEG")
    parser.add_argument("--weights", type=Path, required=True, help="the Inception network's, up to layer 768 at least")
    parser.add_argument("--cache", type=Path, required=True, help="where the features are kept (.npz)")
    parser.add_argument("--images", type=int, default=5000, help="of each of the three sets")
    parser.add_argument("--repeats", type=int, nargs=2, default=(1000, 200), help="with 64 dimensions, and with 768")
    parser.add_argument("--paired", type=int, help="repeats of the paired differences alone")
    parser.add_argument("--out", type=Path, help="the table (errors.md or paired.md beside this file)")
    options = parser.parse_args(words)
    layers = LAYERS[-1:] if options.paired else LAYERS
    if not options.cache.exists():
        features = features_of_photos(options.photos, options.weights, options.images, layers)
        np.savez(options.cache, images=options.images, layers=layers, **features)
    elif why := unfit(options.cache, options.images, layers):
        parser.exit(2, f"{options.cache}: {why}; name another --cache\n")
    command = f"{COMMAND} --images {options.images}"
    if options.paired:
        name, command = "paired.md", f"{command} --paired {options.paired}"
        rows = [paired_row(population(options.cache, d), d, options.images, options.paired) for d in layers]
    else:
        name, command = "errors.md", f"{command} --repeats {' '.join(map(str, options.repeats))}"
        rows = []
        for d, n, balanced in CASES:
            repeats = options.repeats[LAYERS.index(d)]
            rows.append(row_of(population(options.cache, d), d, n, balanced, repeats))
            print(rows[-1], flush=True)
    write_atomically(options.out or Path(__file__).with_name(name), table(rows, command).encode())


def unfit(cache: Path, count: int, layers: Sequence[int]) -> str:
    """Why a cache does not do for so many images and these layers; nothing where it does."""
    with np.load(cache, allow_pickle=False) as file:
        if not {"images", "layers"} <= set(file):
            return "does not say of what its features are"
        if (found := file["images"].item()) != count:
            return f"has features of {found} images, not of {count}"
        lacking = set(layers) - set(file["layers"].tolist())
        return f"has no features of {min(lacking)} dimensions" if lacking else ""


def features_of_photos(photos: Path, weights: Path, count: int, layers: Sequence[int]) -> dict[str, np.ndarray]:
    """Features of these layers and of each set, and the classes, which go round: each has its share of each set."""
    archive = zipfile.ZipFile(photos)
    names = [name for name in archive.namelist() if name.startswith("train/") and name.endswith(".JPEG")]
    if len(names) < 2 * count:
        raise SystemExit(f"{photos}: {len(names)} photographs in train/, where {2 * count} are needed")
    names.sort(key=lambda name: (int(name.rpartition("_")[2].removesuffix(".JPEG")), name))
    found = {}
    for d in layers:
        extractor = Inception(d, weights, torch.device("cpu"), logits=False)
        for kind, blur in BLURS.items():
            chosen = names[:count] if kind == "reference" else names[count : 2 * count]
            found[f"{kind}-{d}"] = np.concatenate(list(_features(extractor, archive, chosen, blur)))
            found[f"{kind}-classes"] = np.array([name.split("/")[1] for name in chosen])
            print(f"features {d}, {kind}: {len(chosen)}", flush=True)
    return found


def _features(extractor: Inception, archive: zipfile.ZipFile, names: list[str], blur: float) -> Iterator[np.ndarray]:
    for first in range(0, len(names), BATCH):
        images = []
        for name in names[first : first + BATCH]:
            image = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
            images.append(np.asarray(image.filter(ImageFilter.GaussianBlur(blur)) if blur else image))
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        with torch.autocast("cpu", torch.bfloat16):  # which population it is does not matter, only that it is known
            yield extractor(batch).pooled.numpy()


def population(cache: Path, d: int) -> Population:
    """The population of a layer's features."""
    with np.load(cache, allow_pickle=False) as file:
        sets = {kind: torch.from_numpy(file[f"{kind}-{d}"]).double() for kind in BLURS}
        _, classes = np.unique(file["reference-classes"], return_inverse=True)
        _, labels = np.unique(file["one-classes"], return_inverse=True)
    head = _linear_classifier(sets["reference"], torch.from_numpy(classes))
    one, other = (Features(sets[kind], head(sets[kind])) for kind in ("one", "other"))
    return Population(Moments.of(sets["reference"]), one, other, labels)


def _linear_classifier(features: Tensor, labels: Tensor) -> torch.nn.Module:
    """Logistic regression on whitened features."""
    mean, std = features.mean(dim=0), features.std(dim=0).clamp(min=1e-6)
    head = torch.nn.Linear(features.shape[1], int(labels.max()) + 1).double()
    torch.nn.init.zeros_(head.weight)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=50)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = (
            torch.nn.functional.cross_entropy(head((features - mean) / std), labels) + 1e-3 * head.weight.square().sum()
        )
        value.backward()
        return value

    optimizer.step(loss)
    return lambda x: head((x - mean) / std).detach()


def row_of(people: Population, d: int, n: int, balanced: bool, repeats: int) -> dict[str, object]:
    """A line of the table."""
    random = np.random.default_rng([d, n, balanced])
    found = [_repeat(people, *draw(people.labels, n, balanced, random)) for _ in range(repeats)]
    truth = _true_fid(people)
    values = {key: np.array([one[key] for one in found]) for key in found[0]}
    row: dict[str, object] = {"d": d, "n": n, "classes": "fixed shares" if balanced else "drawn", "repeats": repeats}
    for key in NAMES:
        row |= _coverage(key, values)
    row["true FID"], row["mean FID"] = truth, values["fid"].mean()
    if np.isfinite(values["infinity"]).all():
        row["mean FID∞"] = values["infinity"].mean()
        row["FID∞ nearer"] = np.mean(abs(values["infinity"] - truth) < abs(values["fid"] - truth))
        row["truth in FID∞ ± 1.96 se"] = np.mean(abs(values["infinity"] - truth) < 1.96 * values["infinity se"])
    return row


def _coverage(key: str, values: dict[str, np.ndarray]) -> dict[str, float]:
    """The spread of a number over repeats, its mean standard error, and how often 1.96 of that hold its mean."""
    value, se, name = values[key], values[f"{key} se"], NAMES[key]
    covered = np.mean(abs(value - value.mean()) < 1.96 * se)
    return {f"{name} spread": value.std(ddof=1), f"{name} se": se.mean(), f"{name} covered": covered}


def paired_row(people: Population, d: int, n: int, repeats: int) -> dict[str, object]:
    """Of the paired differences, where each class has its fixed share."""
    random = np.random.default_rng([d, n, 2])
    root = factor(people.reference.covariance)
    found: dict[str, list[float]] = {}
    for repeat in range(repeats):
        drawn = draw(people.labels, n, True, random)
        differences = _differences(people, root, *drawn)
        if repeat == 0:
            whole = _repeat(people, *drawn)
            assert all(math.isclose(whole[key], value, rel_tol=1e-6) for key, value in differences.items())
        for key, value in differences.items():
            found.setdefault(key, []).append(value)
        if repeat % 50 == 49:
            print(f"{repeat + 1} repeats", flush=True)
    values = {key: np.array(numbers) for key, numbers in found.items()}
    row: dict[str, object] = {"d": d, "n": n, "classes": "fixed shares", "repeats": repeats}
    return row | _coverage("fid difference", values) | _coverage("is difference", values)


def _differences(people: Population, root: Tensor, chosen: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Both differences and their errors, by the same functions as `measure` takes."""
    numbers, pulls = [], []
    for features in (people.one, people.other):
        pooled, logits = features.pooled[chosen], features.logits[chosen]
        moments = Moments.of(pooled)
        parts = logits.tensor_split(SPLITS)  # of as many images each
        splits = [Predictions.of(part) for part in parts]
        score, _ = inception_score(splits)
        numbers.append((frechet_distance(moments, people.reference), score))
        fid = fid_influence(moments, people.reference.mean, root)[0].of(pooled).numpy()
        of_splits = [is_influence(part, split) for part, split in zip(parts, splits, strict=True)]
        pulls.append((fid, torch.cat(of_splits).numpy()))
    found = {}
    for place, key in enumerate(("fid difference", "is difference")):
        found[key] = numbers[0][place] - numbers[1][place]
        found[f"{key} se"] = standard_error(pulls[0][place] - pulls[1][place], labels)
    return found


def _repeat(people: Population, chosen: np.ndarray, labels: np.ndarray | None) -> dict[str, float]:
    one, other = (_measured(people, features, chosen, labels) for features in (people.one, people.other))
    found = {
        "fid": one.numbers["fid"],
        "fid se": one.numbers["fid_se"],
        "is": one.numbers["is_mean"],
        "is se": one.numbers["is_se"],
        "infinity": one.numbers["fid_infinity"] or math.nan,
        "infinity se": one.numbers.get("fid_infinity_se") or math.nan,
    }
    for key, column in (("fid", "fid"), ("is", "is_mean")):
        found[f"{key} difference"] = one.numbers[column] - other.numbers[column]
        found[f"{key} difference se"] = standard_error(one.influences[column] - other.influences[column], labels)
    return found


def _measured(people: Population, features: Features, chosen: np.ndarray, labels: np.ndarray | None) -> Measurement:
    drawn = Features(features.pooled[chosen], features.logits[chosen])
    return measure(lambda: iter([(0, drawn)]), len(chosen), fid_against=people.reference, inception=True, labels=labels)


def _true_fid(people: Population) -> float:
    """The FID of the population itself, whose covariance is that of a distribution: over N, not N - 1."""
    whole = Moments.of(people.one.pooled)
    return frechet_distance(Moments(whole.n + 1, whole.mean, whole.scatter), people.reference)


def table(rows: list[dict[str, object]], command: str) -> str:
    """The rows as Markdown, turned over: a column a case."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"| {key} | {' | '.join(_text(row.get(key, '')) for row in rows)} |" for key in keys]
    lines.insert(1, "|:--|" + "--:|" * len(rows))
    return f"`{command}` (see the script for what is drawn from what)\n\n" + "\n".join(lines) + "\n"


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
