"""The claims, in their order, and the verdicts on them: of a sweep's rows, and of a table of the paper."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from cfgbench.report.claims.allowance import NOTE, with_allowance
from cfgbench.report.claims.frontier import ALIKE, GOOD, WORSE, alike, worse_everywhere
from cfgbench.report.claims.rules import classifier_trades, cold_does_not
from cfgbench.report.claims.setting import Setting, settings
from cfgbench.report.claims.steps import ENOUGH, steps_help
from cfgbench.report.claims.strength import SMALL, best_is_small, is_rises, rises_again
from cfgbench.report.claims.verdict import Finding, Verdict, unknown
from cfgbench.report.reference import Published
from cfgbench.report.rows.doubt import SIGMAS
from cfgbench.report.words import FID, IS, METRICS, Metric, joined
from cfgbench.sweep.results.influences import Influences
from cfgbench.sweep.results.row import Row

Judge = Callable[[Influences, Setting], list[Finding]]


@dataclass(frozen=True)
class Claim:
    """What the paper claims, the test of it, and what the paper itself says against it."""

    text: str
    test: Judge
    metrics: tuple[Metric, ...] = METRICS
    """What it cannot be told without."""
    contradiction: str = ""


@dataclass(frozen=True)
class Judged:
    """The verdicts on one setting. `note` is what holds for all of them."""

    name: str
    verdicts: tuple[Verdict, ...]
    note: str = ""


def _each_curve(judge: Callable[[Influences, str, list[Row]], Finding], *columns: str) -> Judge:
    """A claim on one curve as a claim on every curve of classifier-free guidance; a single w is none, such as where T
    is swept at one, unless there is nothing else."""

    def judged(influences: Influences, setting: Setting) -> list[Finding]:
        curves = [(curve.name, curve.having(*columns)) for curve in setting.curves()]
        swept = [curve for curve in curves if len(curve[1]) > 1]
        found = [judge(influences, *curve) for curve in swept or curves]
        return found or [unknown("classifier-free guidance", "not swept, or no cell has numbers")]

    return judged


_GOOD = " and ".join(f"{p:g}" for p in GOOD)

CLAIMS: tuple[Claim, ...] = (
    Claim(f"The best FID is at a small w > 0, in (0, {SMALL:g}]", _each_curve(best_is_small, "fid"), (FID,)),
    Claim("IS rises with w", _each_curve(is_rises, "is_mean"), (IS,)),
    Claim(
        "FID rises again after its minimum (a trade-off)",
        _each_curve(rises_again, "fid"),
        (FID,),
        "The paper's text has FID fall monotonically with w; in both of its tables it rises again.",
    ),
    Claim(f"p_uncond {WORSE:g} is worse than {_GOOD} over the whole frontier", worse_everywhere),
    Claim(f"p_uncond {_GOOD} perform alike (FID at equal IS within {ALIKE:.0%})", alike),
    Claim(f"More steps help up to some T (in the paper {ENOUGH}), and hardly beyond", steps_help, (FID,)),
    Claim("Classifier guidance gives a similar trade-off", classifier_trades),
    Claim("A scaled score or a low temperature gives no such trade-off", cold_does_not, (FID,)),
)
"""In the order in which they are numbered, from 1."""

_TOLD = (
    f"A difference is told where it is {SIGMAS:g} or more of its own standard errors (95 %); more where many points "
    "are looked at, or where few seeds show the spread."
)
_ONE_TRAINING = "What another training would change is not in the errors: the verdicts are on these networks."
_SOME_OF_ONE = "Where points are of one training, what another would change is not in their errors."


def judge(rows: pd.DataFrame, influences: Influences) -> list[Judged]:
    """The verdicts on a sweep's rows, a set for each group of rows that compares (see setting.settings).

    Raises UserError for rows that no sweep wrote, and for influences that are not finite.
    """
    contradictions = [claim.contradiction for claim in CLAIMS]
    return [_judged(setting, influences, contradictions) for setting in settings(rows)]


def judge_published(table: Published) -> Judged:
    """The verdicts on a table of the paper, with an allowance in place of errors (see allowance)."""
    (setting,) = settings(with_allowance(table.rows))
    contradictions = [" ".join(table.notes("contradiction", number)) for number, _ in enumerate(CLAIMS, 1)]
    judged = _judged(setting, Influences(), contradictions)
    return Judged(f"{table.name}: {judged.name}", judged.verdicts, NOTE)


def _judged(setting: Setting, influences: Influences, contradictions: Sequence[str]) -> Judged:
    """`contradictions` are one a claim, "" where there is none."""
    verdicts = [
        Verdict(number, claim.text, tuple(_findings(claim, influences, setting)), contradiction)
        for number, (claim, contradiction) in enumerate(zip(CLAIMS, contradictions, strict=True), 1)
    ]
    return Judged(setting.name, tuple(verdicts), _on_errors(setting))


def _findings(claim: Claim, influences: Influences, setting: Setting) -> list[Finding]:
    lacking = [metric.name for metric in claim.metrics if not setting.has(metric.column)]
    if lacking and any(setting.has(metric.column) for metric in METRICS):  # more cells would be no way out
        return [Finding("all curves", "cannot be told", f"{joined(lacking)} was not measured (evaluation.metrics)")]
    return claim.test(influences, setting)


def _on_errors(setting: Setting) -> str:
    """By what is told, and what is not in the errors, where there are any."""
    if not setting.has_errors:
        return ""
    trainings = setting.trainings
    if not (setting.trained and 1 in trainings):
        return _TOLD
    return f"{_TOLD} {_SOME_OF_ONE if len(trainings) > 1 else _ONE_TRAINING}"
