"""What a verdict is: a claim, one of three outcomes, and the findings that it follows from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cfgbench.report.claims.chance import pairing, weakest
from cfgbench.report.rows.differences import Difference

Outcome = Literal["holds", "does not hold", "cannot be told"]


@dataclass(frozen=True)
class Finding:
    """What one curve, or one pair of curves, says to a claim. `text` has the numbers."""

    of: str
    outcome: Outcome
    text: str
    differences: tuple[Difference, ...] = ()
    """The comparisons that the outcome rests on."""
    swept: bool = True
    """Whether the sweep has the cells that tell."""

    @property
    def difference(self) -> Difference | None:
        """Of these the one that is the fewest standard errors from zero."""
        return weakest(self.differences) if self.differences else None

    @property
    def words(self) -> str:
        """The text, and whether its differences are paired."""
        return f"{self.text} ({pairing(self.differences)})" if self.differences else self.text


@dataclass(frozen=True)
class Verdict:
    """What a sweep says to the claim `number` of the paper."""

    number: int
    claim: str
    findings: tuple[Finding, ...]
    note: str = ""

    @property
    def outcome(self) -> Outcome:
        """That of all findings (see `together`)."""
        return together(finding.outcome for finding in self.findings)

    @property
    def words(self) -> str:
        """The outcome, and whether it is for want of cells alone: `cannot be told (cells are missing)`."""
        return (
            self.outcome if any(finding.swept for finding in self.findings) else f"{self.outcome} (cells are missing)"
        )


def decided(*, holds: bool, fails: bool) -> Outcome:
    """`cannot be told` where neither could be shown."""
    return "does not hold" if fails else "holds" if holds else "cannot be told"


def together(outcomes: Iterable[Outcome]) -> Outcome:
    """Of a claim on several things: holds if for all of them, does not hold if told so for one."""
    found = set(outcomes)
    return decided(holds=found == {"holds"}, fails="does not hold" in found)


def unknown(of: str, why: str) -> Finding:
    """What the sweep does not have the cells for."""
    return Finding(of, "cannot be told", why, swept=False)
