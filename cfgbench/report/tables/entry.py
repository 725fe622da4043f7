"""One number of a table, and how it is written."""

from dataclasses import dataclass

import numpy as np

from cfgbench.report.words import digits


@dataclass(frozen=True)
class Entry:
    """One number of the table. A failed cell has no value and a `note`, the letter of its footnote; a cell that was
    not run has neither. A published number has the digits that its source has, `printed`. Of a mean over `seeds`,
    `extreme` is the best of `seeds` values, `word` says whether that is their min or max. `mark` says by which protocol
    it was measured. A mean over `other_seeds` than most of its column's is not its best."""

    value: float = np.nan
    se: float = np.nan
    best: bool = False
    note: str = ""
    printed: str = ""
    seeds: int = 0
    extreme: float = np.nan
    word: str = "min"
    mark: str = ""
    other_seeds: bool = False

    def text(self, decimals: int, *, plus_minus: str = " ± ", dash: str = "–", join: str = " ") -> str:
        """The number rounded, with its standard error where that is known: `1.800 ± 0.021 (min of 3: 1.781) [a] (b)`.

        `join` stands before the best of several seeds. An error that `decimals` would show as zero gets its own.
        """
        decimals = self._decimals(decimals)
        ends = [f"[{self.mark}]"] * bool(self.mark) + [f"({self.note})"] * bool(self.note)
        if np.isnan(self.value):
            return " ".join([dash, *ends]) if self.note else ""
        error = "" if np.isnan(self.se) else f"{plus_minus}{self.se:.{decimals}f}"
        several = self.seeds > 1 and np.isfinite(self.extreme)
        extreme = f"({self.word} of {self.seeds}: {self.extreme:.{decimals}f})" if several else ""
        mean = f"{self.number(decimals)}{error}"
        return " ".join([f"{mean}{join}{extreme}" if extreme else mean, *ends])

    def number(self, decimals: int) -> str:
        """The number alone, rounded as in `text`."""
        return self.printed or f"{self.value:.{self._decimals(decimals)}f}"

    def _decimals(self, decimals: int) -> int:
        return digits(self.se) if np.isfinite(self.se) and 0 < self.se < 0.5 * 10.0**-decimals else decimals
