"""Does the error of an Inception Score hold where the extractor is sure? Coverage of 95 % intervals on the digits.

    python tests/studies/scores.py --repeats 600

The population is scikit-learn's digits through the classifier that is shipped for them, which is right on 99 %. Of it n
images are drawn with replacement, with classes as they come or in fixed shares; each repeat is measured as `eval` and
`sweep` do. The error is the spread of the repeats, and the truth their mean: the score of n images, not of all. Writes
scores.md.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from errors import draw

from cfgbench import data
from cfgbench.evaluation.features import Features
from cfgbench.evaluation.measure import measure
from cfgbench.files import write_atomically
from cfgbench.report.tables.markup import markdown_table
from cfgbench.spec import Dataset
from cfgbench.sweep.extractor import packaged_extractor

COUNTS = 200, 500, 1000, 5000
HEADS = ["n", "classes", "spread of IS", "mean is_se", "covered"]


def main(words: list[str] | None = None) -> None:
    """Counts, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("scores.md"))
    arguments = parser.parse_args(words)
    images = data.load(Dataset(name="digits"))
    extractor = packaged_extractor("digits", None, torch.device("cpu"))
    features = extractor(torch.from_numpy(images.images))
    rows = [row_of(features, images.labels, n, fixed, arguments.repeats) for fixed in (False, True) for n in COUNTS]
    command = f"`python tests/studies/scores.py --repeats {arguments.repeats}`"
    write_atomically(arguments.out, f"{command}\n\n{markdown_table(HEADS, rows, 'rlrrr')}\n".encode())


def row_of(features: Features, labels: np.ndarray, n: int, fixed: bool, repeats: int) -> list[str]:
    """A case's row of the table."""
    random = np.random.default_rng(n)
    found = []
    for _ in range(repeats):
        chosen, shares = draw(labels, n, fixed, random)
        some = Features(features.pooled[chosen], features.logits[chosen])
        made = measure(lambda some=some: iter([(0, some)]), n, fid_against=None, inception=True, labels=shares)
        found.append((made.numbers["is_mean"], made.numbers["is_se"]))
    scores, errors = np.array(found).T
    covered = np.abs(scores - scores.mean()) <= 1.96 * errors
    how = "fixed shares" if fixed else "drawn"
    return [f"{n:,}", how, f"{scores.std(ddof=1):.4f}", f"{errors.mean():.4f}", f"{covered.mean():.1%}"]


if __name__ == "__main__":
    main()
