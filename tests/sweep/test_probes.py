"""Networks and extractors that are broken in ways that no number shows: each stops the sweep with what was seen."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from cfgbench import data
from cfgbench.data import Images
from cfgbench.errors import UserError
from cfgbench.evaluation.features import Features
from cfgbench.models import feature_classifier
from cfgbench.models.compile_choice import CompileDecision
from cfgbench.models.extractors import ClassifierFeatures
from cfgbench.models.precision import Compute
from cfgbench.spec import Dataset
from cfgbench.sweep.extractor import packaged_extractor
from cfgbench.sweep.networks import _decision
from cfgbench.sweep.probes import _check_classifier, _check_null, _Probe, check_extractor
from cfgbench.tensors import load_tensors, save_tensors

SWEEP = """
name: probed
dataset: {name: digits}
model: {factory: "brokenmodel:FUNCTION", prediction: eps, p_uncond: 0.1}
sampling: {samples: 20, batch_size: 20}
grid: {w: [0, 1], T: [2]}
"""
NETWORKS = """
import torch

BASIS = torch.rand(7)  # as modules draw that are loaded: the first time only

class Denoiser(torch.nn.Module):
    num_classes = 10
    def __init__(self, null=10, knows=True, dropout=0.0, training=False):
        super().__init__()
        self.null, self.knows, self.drop = null, knows, torch.nn.Dropout(dropout)
        self.train(training)
    def forward(self, z, lam, c):
        c = torch.where(c == 10, self.null, c) * self.knows
        return self.drop(z * (0.5 + 0.01 * c[:, None, None, None]))

def sound(): return Denoiser()
def counted():
    with open("made", "a") as file:
        file.write(".")
    return Denoiser()
def ignores(): return Denoiser(knows=False)
def aliased(): return Denoiser(null=9)
def third(): return Denoiser(null=3)
def drops(): return Drops(dropout=0.1, training=True)
def fails(): return Fails()

def rounds(): return Rounds(2**-9)
def errs(): return Rounds(0.2)
def changes_z(): return Spoils("z")
def changes_c(): return Spoils("c")
def takes_gradients(): return Energy()
def drawn(): return Drawn()
def ends(): return Ends([*range(11, 100)], SystemExit(3))
def ends_probed(): return Ends([10], SystemExit(3))
def breaks(): return Ends([*range(11, 100)], KeyError("boom"))
def breaks_probed(): return Ends([10], KeyError("boom"))

class Fails(torch.nn.Module):
    num_classes = 10
    def forward(self, z, lam, c): raise KeyError("boom")

class Rounds(Denoiser):  # as half types on a GPU, in batches of one size otherwise than in others
    def __init__(self, part):
        super().__init__()
        self.part = part
    def forward(self, z, lam, c):
        return super().forward(z, lam, c) * (1 + self.part * (len(z) > 2))

class Spoils(Denoiser):
    def __init__(self, what):
        super().__init__()
        self.what = what
    def forward(self, z, lam, c):
        eps = super().forward(z, lam, c)
        if self.what == "values":
            return eps * float("nan")
        z.mul_(2) if self.what == "z" else c.clamp_(max=9)
        return eps

class Energy(Denoiser):
    def forward(self, z, lam, c):
        with torch.enable_grad():
            energy = (z.requires_grad_() * super().forward(z, lam, c)).sum() / 2
            return torch.autograd.grad(energy, z)[0]

class Drawn(Denoiser):
    def __init__(self):
        super().__init__()
        self.scale = 0.9 + 0.1 * torch.rand(())
    def forward(self, z, lam, c):
        return super().forward(z, lam, c) * self.scale

class Ends(Denoiser):
    def __init__(self, sizes, error):
        super().__init__()
        self.sizes, self.error = sizes, error
    def forward(self, z, lam, c):
        if len(z) in self.sizes:
            raise self.error
        return super().forward(z, lam, c)

def not_finite(): return Spoils("values")
def says_x(): return SaysX()
def no_null(): return NoNull()
def null_alone(): return NullAlone()
def tight(): return Ends([*range(9, 100)], torch.OutOfMemoryError("CUDA out of memory"))
def no_room(): return Ends([2], torch.OutOfMemoryError("CUDA out of memory"))
def no_room_at_all(): raise torch.OutOfMemoryError("CUDA out of memory")
def says_memory(): raise ValueError("not enough memory for the weights")
def unnumbered(): return torch.nn.Identity()

class SaysX(Denoiser):
    def forward(self, z, lam, c):  # the best that is linear, for pixels of mean -0.4 and variance 0.6
        alpha, sigma = (torch.sigmoid(s * lam).sqrt()[:, None, None, None] for s in (1, -1))
        x = -0.4 + 0.6 * alpha / (0.6 * alpha**2 + sigma**2) * (z + 0.4 * alpha)
        x[:, 0, 0, 0] += 0.01 * c
        return x

class NullAlone(Denoiser):
    def forward(self, z, lam, c):
        return super().forward(z, lam, c) * torch.where(c == 10, 1.0, 9.0)[:, None, None, None]

class NoNull(Denoiser):
    def forward(self, z, lam, c):
        assert (c < 10).all()
        return super().forward(z, lam, c)

def reuses(): return Reuses()
def mixes(): return Mixes()
def random_at_the_end(): return Random()

class Random(Denoiser):
    def forward(self, z, lam, c):
        return super().forward(z, lam, c) + torch.randn_like(z) * (lam.abs() > 3)[:, None, None, None]

class Mute(RuntimeError):
    def __str__(self): raise TypeError("no words")

def mute(): return Ends((1, 2), Mute())

class Reuses(Denoiser):
    def forward(self, z, lam, c):
        eps = super().forward(z, lam, c)
        self.memory = {**getattr(self, "memory", {})}
        return self.memory.setdefault(eps.shape, eps).copy_(eps)

class Mixes(Denoiser):
    def forward(self, z, lam, c):
        z = super().forward(z, lam, c)
        return z - z.mean(dim=0, keepdim=True)

class Drops(Denoiser):
    def eval(self): return self
    def train(self, mode=True): return super().train(True)
"""
TRAINED = """
name: trained
dataset: {name: digits, limit: 200}
model: {channels: 8, multipliers: [1], attention: []}
training: {steps: 20, batch_size: 16, learning_rate: 3e-3}
sampling: {samples: 20, batch_size: 20}
grid: {w: [0, 1], T: [2]}
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch, run):
    """sweep(function) runs the network that this function of the module above gives."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("brokenmodel.py").write_text(NETWORKS)

    def sweep(function, more="", T=2):
        Path("sweep.yaml").write_text(SWEEP.replace("FUNCTION", function).replace("T: [2]", f"T: [{T}]") + more)
        return run("sweep", "sweep.yaml", "--quiet")

    return sweep


def test_a_network_that_raises_is_a_line_in_a_dry_run_too(sweep, run):
    code, _, err = sweep("fails")
    assert code == 2
    assert err == "cfgbench: sweep.yaml: model: does not fit the images: KeyError: 'boom'\n"
    assert run("sweep", "sweep.yaml", "--dry-run", "--quiet")[::2] == (2, err)


def test_what_a_network_raises_may_say_nothing(sweep, run):
    assert sweep("mute")[::2] == (2, "cfgbench: sweep.yaml: model: does not fit the images: Mute\n")


def test_a_sweep_file_whose_network_is_refused_leaves_what_is_finished_as_it_is(sweep, run):
    assert sweep("sound")[0] == 0
    words = ["report", "probed", "--table", "md"], ["ls", "probed"], ["sweep", "results/probed/sweep.yaml", "--quiet"]
    before = [run(*each) for each in words]
    for function in ("misspelt", "fails"):
        assert sweep(function)[0] == 2
        assert [run(*each) for each in words] == before


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_network_that_fails_does_so_before_the_data_set_is_measured(sweep, run, workers):
    sweep("misspelt", "evaluation: {features: classifier}")
    code, _, err = run("sweep", "sweep.yaml", "--quiet", "--workers", workers)
    assert (code, "sweep.yaml: model.factory = brokenmodel:misspelt: AttributeError" in err) == (2, True)
    assert not any(Path("results").rglob("*.safetensors"))


@pytest.mark.parametrize("function", ["sound", "reuses"])
def test_a_sound_network_passes(sweep, function):
    assert sweep(function)[0] == 0


@pytest.mark.parametrize("function", ["changes_z", "changes_c"])
def test_a_network_that_changes_its_inputs_changes_copies(sweep, function):
    for one in ("sound", function):
        assert sweep(one, T=4)[0] == 0
    fid = pd.read_parquet("results/probed/cells").groupby("w")["fid"].agg(["nunique", "count"])
    assert fid.values.tolist() == [[1, 2], [1, 2]]


def test_a_network_may_take_gradients_of_what_it_is_given(sweep):
    assert sweep("sound", T=4)[0] == sweep("takes_gradients", T=4)[0] == 0
    fid = pd.read_parquet("results/probed/cells").groupby("w")["fid"].agg(["max", "min"])
    assert (fid["max"] / fid["min"]).tolist() == pytest.approx([1, 1], rel=1e-4)


def test_weights_that_are_drawn_are_the_same_whenever_the_network_is_made(sweep):
    found = []
    for seed in (1, 2):
        sys.modules.pop("brokenmodel", None)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        assert sweep("drawn", T=4)[0] == 0
        assert torch.equal(torch.get_rng_state(), before)
        found.append(sorted(pd.read_parquet("results/probed/cells")["fid"]))
        shutil.rmtree("results/probed/cells")  # what the data set is measured by stays, for which it is made once more
    assert found[0] == found[1]


def test_weights_that_change_while_a_sweep_runs_stop_it(sweep, run, monkeypatch):
    from cfgbench.sweep import plan

    honest = plan.load_pretrained

    def changed(*given):
        Path("brokenmodel.py").write_text(f"{NETWORKS}# a change")
        return honest(*given)

    monkeypatch.delitem(sys.modules, "brokenmodel", raising=False)  # of another test, from another folder
    monkeypatch.setattr(plan, "load_pretrained", changed)
    code, _, err = sweep("sound")
    assert (code, "its weights or its function changed while the sweep runs; run it again" in err) == (2, True)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("ignores", "ignores its class: eps of the classes [0, 1, 8, 9] differ by 0.0e+00"),
        ("aliased", "its null class acts as class 9: their eps differ by 0.0e+00"),
        ("third", "its null class acts as class 3: their eps differ by 0.0e+00"),
        ("drops", "gives other values when called again: dropout is active, or it draws random numbers"),
        ("random_at_the_end", "gives other values when called again: dropout is active, or it draws random numbers"),
        ("mixes", "predicts otherwise for an image alone than beside another: batch norm is in training mode"),
        ("not_finite", "gives values that are not finite; look at its weights"),
        ("no_null", "does not take class 10, the null class that model.p_uncond > 0 announces: AssertionError"),
        ("unnumbered", "gives Identity without num_classes; give what it returns the number of its classes"),
    ],
)
def test_a_broken_network_stops_the_sweep(sweep, function, said):
    code, _, err = sweep(function)
    assert code == 2
    assert said in err
    assert not list(Path("results").glob("*/cells/*"))


def test_an_image_has_the_same_prediction_alone_without_a_null_class_too(sweep, run):
    sweep("mixes")
    text = Path("sweep.yaml").read_text()
    Path("sweep.yaml").write_text(text.replace("p_uncond: 0.1", "p_uncond: 0").replace("w: [0, 1]", "w: [0]"))
    code, _, err = run("sweep", "sweep.yaml", "--quiet")
    assert (code, "for an image alone than beside another" in err) == (2, True)


@pytest.mark.parametrize("function", ["ends", "ends_probed", "breaks", "breaks_probed"])
def test_a_network_that_ends_the_program_or_breaks_fails_its_cells(sweep, function):
    code, _, err = sweep(function)
    assert code == 1
    assert "2 cells failed; their rows say why" in err
    rows = pd.read_parquet("results/probed/cells")
    assert {*rows["status"]} == {"failed"}
    assert {*rows["reason"]} == {"SystemExit: 3" if "ends" in function else "KeyError: 'boom'"}


def test_a_network_that_ends_the_program_in_larger_batches_is_forecast_from_smaller_ones(sweep, run):
    sweep("ends")
    code, out, _ = run("sweep", "sweep.yaml", "--dry-run", "--quiet")
    assert code == 0
    assert "2 cells, 2 to run" in out


def test_guidance_that_is_not_the_conditional_network_at_0(sweep, monkeypatch):
    from cfgbench.diffusion.guidance import GUIDANCES, cfg

    monkeypatch.setitem(GUIDANCES, "cfg", lambda networks, c, w: cfg(networks.denoiser, c, w + 0.5))
    code, _, err = sweep("sound")
    assert code == 2
    assert "guidance cfg at w = 0 differs from the conditional eps" in err


def test_each_rule_of_a_network_is_probed(sweep, run, monkeypatch):
    from cfgbench.diffusion.guidance import GUIDANCES

    monkeypatch.setitem(
        GUIDANCES, "score-scale", lambda networks, c, w: lambda z, lam: 5 * networks.denoiser(z, lam, c)
    )
    sweep("sound")
    text = Path("sweep.yaml").read_text()
    Path("sweep.yaml").write_text(text.replace("w: [0, 1]", "w: [0.5], guidance: [cfg, score-scale]"))
    code, _, err = run("sweep", "sweep.yaml", "--quiet")
    assert (code, "guidance score-scale at w = 0 differs from the conditional eps" in err) == (2, True)


@pytest.mark.parametrize(("prediction", "told"), [("x", False), ("eps", True), ("v", True)])
def test_a_prediction_that_is_another_than_the_networks_is_told(sweep, run, prediction, told):
    sweep("sound")
    text = Path("sweep.yaml").read_text().replace(":sound", ":says_x")
    Path("sweep.yaml").write_text(text.replace("prediction: eps", f"prediction: {prediction}"))
    code, _, err = run("sweep", "sweep.yaml")
    assert code == 0
    assert ("times as far from the noise as none at all would be" in err) == told


def test_what_was_trained_without_classes_is_held_against_the_noise_without_one(sweep, run):
    sweep("sound")
    text = Path("sweep.yaml").read_text().replace(":sound", ":null_alone")
    for p_uncond, w, told in ((0.1, "[0]", True), (1, "[-1]", False)):
        Path("sweep.yaml").write_text(text.replace("p_uncond: 0.1", f"p_uncond: {p_uncond}").replace("[0, 1]", w))
        code, _, err = run("sweep", "sweep.yaml")
        assert (code, "times as far from the noise" in err) == (0, told)


def test_no_probe_takes_more_memory_than_sampling_can_do_with(sweep, run):
    sweep("sound")
    Path("sweep.yaml").write_text(Path("sweep.yaml").read_text().replace(":sound", ":tight"))
    assert run("sweep", "sweep.yaml", "--quiet")[0] == 0
    assert {*pd.read_parquet("results/probed/cells")["status"]} == {"ok"}


def test_a_noisy_classifier_is_probed_in_parts_where_memory_runs_out():
    images, seen = data.load(Dataset(name="digits")), []
    packaged = feature_classifier.load(feature_classifier.packaged("digits"))

    class Noisy(torch.nn.Module):
        num_classes = 10

        def forward(self, z, lam):
            if len(z) > 60:
                raise torch.OutOfMemoryError("CUDA out of memory")
            seen.append(len(z))
            return packaged(z)[1] * self.knows

    classifier = Noisy()
    classifier.knows = 1.0
    _check_classifier(classifier, "c", images, torch.device("cpu"))
    assert seen == [50] * 4
    classifier.knows = 0.0
    with pytest.raises(UserError, match=r"right for .* of 200 of the data set's own images"):
        _check_classifier(classifier, "c", images, torch.device("cpu"))


@pytest.mark.parametrize("function", ["no_room", "no_room_at_all"])
def test_memory_that_a_network_of_ones_own_lacks_is_no_mistake_in_the_file(sweep, run, function):
    """It is told before the data set is measured; where that is done already, its cells fail and others may go on."""
    code, _, err = sweep(function)
    assert (code, err.startswith("cfgbench: out of memory; what is finished is kept")) == (1, True), err
    assert not Path("results/probed/references").exists()
    sweep("sound")
    code, _, err = sweep(function)
    assert (code, err.splitlines()[-1].startswith("2 cells failed")) == (1, True), err
    rows = pd.read_parquet("results/probed/cells")
    assert {*rows[rows["status"] == "failed"]["reason"]} == {"OutOfMemoryError: CUDA out of memory"}


def test_a_network_that_rounds_otherwise_in_larger_batches_is_sound(sweep):
    assert sweep("rounds")[0] == 0
    assert sweep("errs")[0] == 2


def test_it_is_loaded_once_more_only_where_the_data_set_is_to_be_measured_or_the_sweep_is_new(sweep):
    assert sweep("counted")[0] == 0
    assert Path("made").read_text() == ".."
    next(Path("results/probed/cells").iterdir()).unlink()
    assert sweep("counted")[0] == 0
    assert Path("made").read_text() == "..."
    next(Path("results/probed/cells").iterdir()).unlink()
    assert sweep("counted", "evaluation: {keep_features: true}")[0] == 0
    assert Path("made").read_text() == "....."


def test_where_results_cannot_be_written_it_is_not_loaded(sweep, run):
    Path("file").touch()
    Path("sweep.yaml").write_text(SWEEP.replace("FUNCTION", "counted"))
    code, _, err = run("sweep", "sweep.yaml", "--results", "file/results", "--quiet")
    assert (code, "cannot be written" in err) == (2, True), err
    assert not Path("made").exists()


@pytest.mark.parametrize("asked", [True, False])
def test_whether_to_compile_is_as_asked_whatever_is_there(asked):
    bench = SimpleNamespace(compute=Compute(torch.device("cpu"), "fp32", compiled=asked))
    assert _decision(bench, [], torch.nn.Identity(), None) == CompileDecision(asked, "as asked")


def test_words_about_memory_of_ones_own_are_told_as_they_are(sweep):
    code, _, err = sweep("says_memory")
    assert (code, "ValueError: not enough memory for the weights" in err) == (2, True), err


def test_features_that_are_constant(sweep, monkeypatch):
    honest = ClassifierFeatures.__call__

    def constant(self, images):
        found = honest(self, images)
        return Features(torch.ones_like(found.pooled), found.logits)

    monkeypatch.setattr(ClassifierFeatures, "__call__", constant)
    code, _, err = sweep("sound")
    assert code == 2
    assert "gives the same features for 16 images" in err


def test_images_that_are_all_the_same_are_no_fault_of_what_looks_at_them():
    pixels = np.full((20, 1, 8, 8), 7, np.uint8)
    images = Images("folder", pixels, np.zeros(20, np.int64), ("a",), flips=False)
    features = check_extractor(packaged_extractor("digits", None, torch.device("cpu")), images).pooled
    assert torch.equal(features, features[:1].expand_as(features))


def test_weights_that_are_not_the_average(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    Path("trained.yaml").write_text(TRAINED)
    assert run("train", "trained.yaml", "--quiet")[0] == 0
    (path,) = Path("results/trained/checkpoints").glob("*.safetensors")
    ema, header = load_tensors(path)
    save_tensors(path, {name: value + 1e-3 for name, value in ema.items()}, header)
    code, _, err = run("sweep", "trained.yaml", "--quiet")
    assert code == 2
    assert "not their average (EMA) but others" in err


def test_the_last_weights_of_training_are_known_for_what_they_are(tmp_path, monkeypatch, run):
    from cfgbench.training import state

    monkeypatch.chdir(tmp_path)
    Path("trained.yaml").write_text(TRAINED)
    honest = state.save_tensors

    def raw(path, tensors, header):
        wrong = dict(latest[0].named_parameters()) if "ema" in header else tensors
        honest(path, wrong, header)

    latest = []
    monkeypatch.setattr(state, "save_tensors", raw)
    begin = state.begin
    from cfgbench.training import diffusion

    monkeypatch.setattr(diffusion, "begin", lambda network, *rest: latest.append(network) or begin(network, *rest))
    code, _, err = run("sweep", "trained.yaml", "--quiet")
    assert code == 2
    assert "not their average (EMA) but the last ones of training" in err


class Convolution(torch.nn.Module):
    """A network of 1,000 classes; one alone and one in a batch may differ by rounding. `null` is what acts as null."""

    def __init__(self, null, scale):
        super().__init__()
        self.num_classes, self.null, self.calls = 1000, null, []
        draw = torch.Generator().manual_seed(0)
        self.table = scale * torch.randn(1001, 64, generator=draw)
        self.weight = torch.randn(64, 64, 3, 3, generator=draw) / 24

    def forward(self, z, lam, c):
        self.calls.append(len(z))
        h = z.repeat(1, 64, 1, 1) + self.table[torch.where(c == 1000, self.null, c)][:, :, None, None]
        return torch.nn.functional.conv2d(h, self.weight, padding=1).mean(dim=1, keepdim=True)


@pytest.mark.parametrize("scale", [1.0, 1e-5])
def test_the_null_class_is_compared_with_each_of_a_thousand(scale):
    names = tuple(map(str, range(1000)))
    pixels = Images("some", np.zeros((1000, 1, 8, 8), np.uint8), np.arange(1000), names, flips=False)
    for alike in (2, 437, 998):
        with pytest.raises(UserError, match=f"who: its null class acts as class {alike}: "):
            _check_null(_Probe(Convolution(alike, scale), pixels, torch.device("cpu")), "who")
    sound = Convolution(1000, scale)
    _check_null(_Probe(sound, pixels, torch.device("cpu")), "who")
    assert len(sound.calls) < 50
    assert sum(sound.calls) < 1100
