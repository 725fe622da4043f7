"""What must hold between the sections of a sweep file."""

from collections.abc import Sequence

from cfgbench.spec.grid import owner, points
from cfgbench.spec.models import Checkpoint, Exact, Factory, Model, Pretrained
from cfgbench.spec.sections import Sampling, SweepSpec, Training
from cfgbench.spec.values import INCEPTION, OWN

LARGEST_W = 3e38


def check_together(spec: SweepSpec) -> None:
    """Raises ValueError where two sections contradict each other, with the way out."""
    _check_metrics(spec.evaluation.metrics)
    _check_gaussians(spec)
    if isinstance(spec.model, Pretrained):
        _check_nothing_is_trained(spec)
    for _, training, sampling in points(spec):
        _check_guidance(spec, sampling)
        _check_branches(spec, training, sampling)
    _check_features(spec)


def _check_metrics(metrics: Sequence[str]) -> None:
    for place, metric in enumerate(metrics):
        if metric in metrics[:place]:
            raise ValueError(f"evaluation.metrics[{place}] = {metric}: stands in the list twice; remove one")


def _check_nothing_is_trained(spec: SweepSpec) -> None:
    if "training" in spec.model_fields_set:
        raise ValueError("training: nothing is trained where the model exists already; remove it")
    for where, grid in spec.grids.items():
        for axis in grid:
            if owner(axis, where)[0] == "training":
                raise ValueError(f"{where}.{axis}: nothing is trained where the model exists already; remove it")


def _check_gaussians(spec: SweepSpec) -> None:
    if isinstance(spec.model, Exact) and spec.dataset.name != "gaussians":
        raise ValueError(f"model.name = gaussians: it knows the data set gaussians only, not {spec.dataset.name}")
    if isinstance(spec.model, Exact) and spec.classifier.model_fields_set:
        raise ValueError("classifier: the model gaussians has its classifier in closed form; remove it")
    if isinstance(spec.model, Model | Checkpoint) and spec.dataset.name == "gaussians":
        raise ValueError("model: a network for images; for the data set gaussians take model: {name: gaussians}")


def _check_guidance(spec: SweepSpec, sampling: Sampling) -> None:
    """Keys that mean something together."""
    guidance, w = sampling.guidance, sampling.w
    if sampling.on != "conditional" and guidance != "classifier":
        raise ValueError(f"sampling.on = {sampling.on}: only guidance classifier has it; leave it out with {guidance}")
    if sampling.sampler == "ddim" and sampling.temperature != 1:
        raise ValueError(f"sampling.temperature = {sampling.temperature:g}: ddim has no noise; take sampler: ancestral")
    if abs(w) > LARGEST_W:
        raise ValueError(f"w = {w:g}: float32 does not hold it; take a w within {LARGEST_W:g}")
    if guidance == "score-scale" and w <= -1:
        raise ValueError(f"w = {w:g} with guidance score-scale: 1 + w scales the score; take w > -1")
    if sampling.classified and isinstance(spec.model, Factory) and spec.dataset.name == "gaussians":
        raise ValueError(
            "guidance = classifier: a classifier that is trained is for images; take model: {name: gaussians}"
        )
    if sampling.classified and isinstance(spec.model, Checkpoint | Factory) and spec.classifier.model is None:
        raise ValueError("classifier.model: missing; guidance classifier trains one, and this model does not say how")


def _check_branches(spec: SweepSpec, training: Training, sampling: Sampling) -> None:
    """What is sampled was trained: with the class, without it, or both."""
    where = f"w = {sampling.w:g} with p_uncond = {training.p_uncond:g}"
    if isinstance(spec.model, Checkpoint) and "null" in sampling.calls:
        way_out = "leave out on: unconditional" if sampling.on == "unconditional" else "with guidance cfg take w: [0]"
        raise ValueError(f"w = {sampling.w:g}: ADM's released networks have no null class; {way_out}")
    if training.p_uncond == 0 and "null" in sampling.calls:
        key = "model.p_uncond" if isinstance(spec.model, Factory) else "p_uncond"
        way_out = "w = 0 only" if sampling.guidance == "cfg" else "leave out on: unconditional"
        raise ValueError(f"{where}: the null class was never trained; take {key} > 0, or {way_out}")
    if training.p_uncond == 1 and "conditional" in sampling.calls:
        way_out = {"cfg": ", or w = -1 only", "classifier": ", or on: unconditional"}.get(sampling.guidance, "")
        raise ValueError(f"{where}: the classes were never trained; take p_uncond < 1{way_out}")


def _check_features(spec: SweepSpec) -> None:
    features = spec.features
    if features in OWN and features != spec.dataset.name:
        way_out = f"leave it out for the data set's own, or name one of {', '.join(INCEPTION)}"
        raise ValueError(f"evaluation.features = {features}: made for the data set {features} only; {way_out}")
    if spec.dataset.name == "gaussians" and features != "gaussians":
        raise ValueError(f"evaluation.features = {features}: looks at images; leave it out for gaussians")
    if spec.evaluation.precision == "bf16" and features not in INCEPTION:
        way_out = f"leave it out, or take features: {INCEPTION[0]}"
        raise ValueError(f"evaluation.precision = bf16: the features {features} have fp32 only; {way_out}")
    if spec.evaluation.inception_weights is not None and features not in INCEPTION:
        raise ValueError(
            f"evaluation.inception_weights = {spec.evaluation.inception_weights}: not for the features {features}; "
            f"leave it out, or take features: {INCEPTION[0]}"
        )
    if features in INCEPTION[1:] and "is" in spec.evaluation.metrics:
        raise ValueError(
            f"evaluation.features = {features}: has no logits for the Inception Score; take metrics: [fid]"
        )
