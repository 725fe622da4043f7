import hashlib
import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hostile import Bomb
from PIL import Image
from torch import nn

from cfgbench.errors import UserError
from cfgbench.evaluation.features import FeatureExtractor, Features
from cfgbench.evaluation.statistics import Moments
from cfgbench.models.extractors import ClassifierFeatures, Inception

SHARED = Path(__file__).parents[3] / "shared"
WEIGHTS = SHARED / "weights" / "inception-2015-12-05-folded-upto768.pth"
PHOTOGRAPHS = SHARED / "data" / "tiny-imagenet-50.zip"
CPU = torch.device("cpu")


class Probe(nn.Module):
    """Gives back what it sees, and would differ in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(0.5)

    def forward(self, images):
        return self.scale * self.dropout(images.flatten(1)), images.mean(dim=(2, 3))


def _ramp(side: int) -> torch.Tensor:
    return torch.arange(side * side, dtype=torch.uint8).view(1, 1, side, side)


def test_a_classifier_sees_minus_one_to_one_in_evaluation_mode_without_gradients():
    extractor = ClassifierFeatures(Probe().train(), "probe-1", side=16, device=CPU)
    assert isinstance(extractor, FeatureExtractor)
    features = extractor(_ramp(16))
    assert isinstance(features, Features)
    torch.testing.assert_close(features.pooled[0], torch.arange(256) / 127.5 - 1)
    assert (features.pooled.min(), features.pooled.max()) == (-1, 1)
    assert not features.pooled.requires_grad


def tight(network, most):
    """The network on a device that holds so many images."""
    seen = []

    def call(x):
        seen.append(len(x))
        if len(x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return network(x)

    return call, seen


def test_where_memory_runs_out_a_classifier_looks_at_half_as_many():
    network, images = Probe().eval(), torch.arange(7 * 64, dtype=torch.uint8).view(7, 1, 8, 8)
    whole = ClassifierFeatures(network, "probe-1", side=8, device=CPU)(images)
    call, seen = tight(network, 1)
    parts = ClassifierFeatures(call, "probe-1", side=8, device=CPU)(images)
    assert seen == [7, 4, 2, 1, 1, 2, 1, 1, 3, 2, 1, 1, 1]
    assert torch.equal(parts.pooled, whole.pooled)
    assert torch.equal(parts.logits, whole.logits)
    with pytest.raises(torch.OutOfMemoryError):
        ClassifierFeatures(tight(network, 0)[0], "probe-1", side=8, device=CPU)(images)
    with pytest.raises(RuntimeError, match="other"):
        ClassifierFeatures(lambda x: (_ for _ in ()).throw(RuntimeError("other")), "p", side=8, device=CPU)(images)


def test_a_border_is_cut_off_before_the_classifier():
    extractor = ClassifierFeatures(Probe(), "probe-1", side=8, device=CPU)
    bordered = torch.nn.functional.pad(_ramp(8), (2, 2, 2, 2), value=77)
    assert torch.equal(extractor(bordered).pooled, extractor(_ramp(8)).pooled)


def test_images_of_another_side_are_refused():
    with pytest.raises(ValueError, match=r"probe-1 looks at 8 x 8 pixels, not \(7, 7\)"):
        ClassifierFeatures(Probe(), "probe-1", side=8, device=CPU)(_ramp(7))
    with pytest.raises(ValueError, match=r"not \(12, 12\)"):
        ClassifierFeatures(Probe(), "probe-1", side=8, device=CPU, crop=False)(_ramp(12))


def test_torch_fidelity_is_imported_only_when_it_is_used():
    code = "import sys, cfgbench.models.extractors; sys.exit('torch_fidelity' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0


def _complaint(weights: Path | None) -> str:
    with pytest.raises(UserError) as caught:
        Inception(768, weights, CPU, logits=False)
    message = str(caught.value)
    assert "\n" not in message
    assert "weights-inception-2015-12-05-6726825d.pth" in message
    return message


def test_no_weights_and_no_network_say_what_to_put_where(monkeypatch):
    def unreachable(*_args, **_kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", unreachable)
    assert "no route to host" in _complaint(None)


def test_files_that_are_no_weights_are_named_and_not_run(tmp_path):
    path, fired = tmp_path / "weights.pth", tmp_path / "fired"
    assert str(path) in _complaint(path)  # not there
    path.write_bytes(b"PK\x03\x04 and then nothing")
    assert str(path) in _complaint(path)
    torch.save({"other.weight": torch.ones(1)}, path)
    assert str(path) in _complaint(path)
    path.write_bytes(pickle.dumps(Bomb(fired), protocol=2))
    assert str(path) in _complaint(path)
    assert not fired.exists()


def _photographs(n: int) -> torch.Tensor:
    with zipfile.ZipFile(PHOTOGRAPHS) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith("val/") and name.endswith("JPEG"))
        pixels = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names[::40][:n]]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()


inception_here = pytest.mark.skipif(
    not (WEIGHTS.exists() and PHOTOGRAPHS.exists()), reason="needs the weights and photographs of ../shared"
)


@pytest.fixture(scope="module")
def inception() -> Inception:
    return Inception(768, WEIGHTS, CPU, logits=False)


@inception_here
def test_inception_features_of_photographs_are_torch_fidelitys(inception):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    images = _photographs(6)
    network = FeatureExtractorInceptionV3("oracle", ["768"], feature_extractor_weights_path=str(WEIGHTS))
    features = inception(images)
    assert features.pooled.shape == (6, 768)
    assert features.pooled.isfinite().all()
    assert features.logits is None
    torch.testing.assert_close(features.pooled, network(images)[0], rtol=1e-5, atol=1e-6)
    assert features.pooled.std(dim=0).max() > 0.1  # the photographs do differ


@inception_here
def test_grey_images_are_seen_as_three_equal_channels(inception):
    grey = _photographs(2)[:, :1]
    torch.testing.assert_close(inception(grey).pooled, inception(grey.repeat(1, 3, 1, 1)).pooled)


@inception_here
def test_inceptions_name_holds_layer_weights_and_resize(inception):
    digest = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert inception.id == f"inception-768-{digest[:8]}-unofficial-tf1-bilinear-299"


@inception_here
def test_layers_that_the_weights_lack_are_not_taken_for_numbers():
    features = Inception(2048, WEIGHTS, CPU, logits=True)(_photographs(2))
    assert features.pooled.shape == (2, 2048)
    assert features.logits.shape == (2, 1008)
    with pytest.raises(ValueError, match="not finite, in 2 of 2 images"):
        Moments.of(features.pooled)
