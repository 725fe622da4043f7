"""The paper's claims held against a sweep: each a test with its numbers and one of three outcomes.

`holds` and `does not hold` are told at 1.96 standard errors, more where several comparisons are looked at for one that
is large, or where few seeds tell of the error; all else `cannot be told`: too few images, no errors, or not swept. A
claim is on every curve of a sweep, each judged by itself: of many a true one may be refuted by chance.
"""

from cfgbench.report.claims.judging import CLAIMS, Judged, judge, judge_published

__all__ = ["CLAIMS", "Judged", "judge", "judge_published"]
