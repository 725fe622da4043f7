"""What is said in the same words wherever it is said."""

from pathlib import Path
from shlex import quote

from cfgbench.errors import counted

GOES_ON = "what is finished is kept, and the same command goes on from here"


def no_sweeps(results: Path) -> str:
    """What is wrong with a results folder that holds none."""
    return f"{results}: no sweeps yet; run: {run_into(results, Path('sweeps/digits.yaml'))}"


def run_again(folder: Path) -> str:
    """The command that runs the sweep of this results folder."""
    return run_into(folder.parent, folder / "sweep.yaml")


def run_into(results: Path, sweep: Path) -> str:
    """The command that runs this sweep file, its rows there."""
    where = "" if results == Path("results") else f" --results {quote(str(results))}"
    return f"cfgbench sweep {quote(str(sweep))}{where}"


UNUSED = {"ddim": frozenset({"v", "temperature"})}
"""sampler -> the settings that it does not use: a deterministic step has no noise."""


def strength(w: float, guidance: str = "cfg") -> str:
    """`w 0.3 (scale 1.3)`: both conventions; `w 0.3` for the weight of a classifier, which is no such scale."""
    return f"w {w:g}" if guidance == "classifier" else f"w {w:g} (scale {1 + w:g})"


def passed_over(files: int, where: str = "") -> str:
    """`20 files are no PNG or JPEG and were passed over`; `where` says of which place only images count."""
    be, were = ("is", "was") if files == 1 else ("are", "were")
    return f"{counted(files, 'file')} {be} no PNG or JPEG{where and f' {where}'} and {were} passed over"


def no_error(dimensions: int) -> str:
    """Why an FID has no standard error: what `influence.fid_influence` takes."""
    return f"no error of the FID: it takes more images than the features' {dimensions:,} dimensions"


NOTES_APART = " | "
"""Between the notes of a row."""


def few_in_reference(images: int, dimensions: int) -> str:
    """The note on a reference of so many images, no more than the features have dimensions."""
    few = f"{counted(images, 'image')}, of {dimensions:,} dimensions"
    return f"the reference has {few}: FID is biased upwards by that too, and FID∞ does not take it out"


def small_split(images: int, classes: int) -> str:
    """The note on an Inception Score whose splits hold so many images, fewer than there are classes."""
    held = f"{counted(images, 'image')}, fewer than the {classes:,} classes"
    return f"a split of the Inception Score holds {held}: it is too low, and compares for as many images only"
