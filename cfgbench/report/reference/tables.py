"""The paper's tables and the literature, from the CSV files beside this one.

They are read as text: what is printed is what stands there. An FID has two decimals, as in the paper's captions (1.80);
an Inception Score has the decimals of the file.
"""

from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Literal

import pandas as pd

from cfgbench.report.rows.slice import Slice
from cfgbench.report.rows.slices import slices

PAPER = "Ho & Salimans 2022"
TITLE = "Classifier-Free Diffusion Guidance (Ho & Salimans 2022, arXiv 2207.12598)"
PROTOCOL = (
    "as published: FID after Heusel et al. 2017, IS after Salimans et al. 2016; reference set, Inception graph, "
    "IS splits, clipping and balance of classes not stated"
)


@dataclass(frozen=True)
class Published:
    """One table of the paper: its numbers, the models it quotes, and what has to be known when it is read."""

    number: int
    figure: int
    """The figure that draws the same numbers."""
    resolution: int
    key: Literal["p_uncond", "T"]
    """What the columns stand for; the other of the two is `unstated`."""
    v: float

    @property
    def unstated(self) -> Literal["p_uncond", "T"]:
        """What the paper does not state of p_uncond and T."""
        return "T" if self.key == "p_uncond" else "p_uncond"

    @property
    def dataset(self) -> str:
        """`ImageNet 64x64`."""
        return f"ImageNet {self.resolution}x{self.resolution}"

    @property
    def name(self) -> str:
        return f"{PAPER}, Table {self.number}"

    @cached_property
    def part(self) -> Slice:
        """The numbers as a slice of a sweep: what tables and figures take."""
        (part,) = slices(self.rows)
        return part

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The numbers as rows of a sweep; what the paper does not state is null."""
        text = _read(f"table{self.number}.csv")
        unknown = {"p_uncond": float("nan"), "T": float("nan")}
        return pd.DataFrame(
            {
                "sweep": "paper",
                "cell_id": [f"paper-table{self.number}-{row}" for row in range(len(text))],
                "status": "ok",
                "dataset": self.dataset,
                "w": text["w"].astype(float),
                **unknown,
                self.key: text[self.key].astype(float),
                "v": self.v,
                "sampler": "ancestral",
                "guidance": "cfg",
                "samples": 50_000,
                "fid": text["fid"].astype(float),
                "fid_printed": text["fid"].map(lambda fid: f"{float(fid):.2f}"),
                "is_mean": text["is"].astype(float),
                "is_mean_printed": text["is"],
                "features_id": "inception",
                "reference_id": None,
                "protocol": PROTOCOL,
                "source": self.name,
            }
        )

    @cached_property
    def baselines(self) -> pd.DataFrame:
        """The other models in the table, as text: model, citation, fid, is; empty where the table has no number."""
        every = _read("baselines.csv")
        return every[every["table"] == str(self.number)][["model", "citation", "fid", "is"]].reset_index(drop=True)

    def notes(self, kind: Literal["open", "contradiction"], claim: int | None = None) -> list[str]:
        """What the paper leaves open for this table, or where its text and its table say different things; all of it,
        or what bears on one of the claims (see claims.CLAIMS)."""
        every = _read("notes.csv")
        every = every[every["table"].isin(["", str(self.number)]) & (every["kind"] == kind)]
        return list((every if claim is None else every[every["claim"] == str(claim)])["note"])


TABLES = (
    Published(number=1, figure=4, resolution=64, key="p_uncond", v=0.3),
    Published(number=2, figure=5, resolution=128, key="T", v=0.2),
)


def literature() -> pd.DataFrame:
    """Later and earlier results on ImageNet, all columns as text, each with its source and how well it is known."""
    found = _read("literature.csv")
    return found.assign(NFE_or_steps=found["NFE_or_steps"].str.removesuffix(".0"))


def _read(name: str) -> pd.DataFrame:
    with (files(__package__) / name).open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)
