"""What must hold between the sections of a sweep file."""

from cfgbench.spec.grid import owner, points
from cfgbench.spec.sections import INCEPTION, PACKAGED, Checkpoint, Factory, Pretrained, Sampling, SweepSpec, Training


def check_together(spec: SweepSpec) -> None:
    """Raises ValueError where two sections contradict each other, with the way out."""
    if isinstance(spec.model, Pretrained):
        _check_nothing_is_trained(spec)
    for _, training, sampling in points(spec):
        _check_branches(spec, training, sampling)
    _check_features(spec)


def _check_nothing_is_trained(spec: SweepSpec) -> None:
    if "training" in spec.model_fields_set:
        raise ValueError("training: nothing is trained where the model is a checkpoint or a factory; remove it")
    for axis in spec.grid:
        if owner(axis)[0] == "training":
            raise ValueError(f"grid.{axis}: nothing is trained where the model is a checkpoint or a factory; remove it")


def _check_branches(spec: SweepSpec, training: Training, sampling: Sampling) -> None:
    """What is sampled was trained: with the class, without it, or both."""
    where = f"w = {sampling.w:g} with p_uncond = {training.p_uncond:g}"
    if isinstance(spec.model, Checkpoint) and sampling.w != 0:
        raise ValueError(f"w = {sampling.w:g}: ADM's released networks have no null class; take w: [0] only")
    if training.p_uncond == 0 and sampling.w != 0:
        key = "model.p_uncond" if isinstance(spec.model, Factory) else "p_uncond"
        raise ValueError(f"{where}: the null class was never trained; take {key} > 0, or w = 0 only")
    if training.p_uncond == 1 and sampling.w != -1:
        raise ValueError(f"{where}: the classes were never trained; take p_uncond < 1, or w = -1 only")


def _check_features(spec: SweepSpec) -> None:
    features = spec.features
    if features in PACKAGED and features != spec.dataset.name:
        way_out = f"leave it out for the data set's own, or name one of {', '.join(INCEPTION)}"
        raise ValueError(f"evaluation.features = {features}: made for the data set {features} only; {way_out}")
    if features in INCEPTION[1:] and "is" in spec.evaluation.metrics:
        raise ValueError(
            f"evaluation.features = {features}: has no logits for the Inception Score; take metrics: [fid]"
        )
