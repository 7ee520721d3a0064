import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.models import inception

from polylens.data.images import ImageProcessor
from polylens.errors import UserError
from polylens.models.checkpoints.build import load_vision
from polylens.models.checkpoints.registry import resolve_model
from polylens.models.config import VisionConfig
from polylens.painting.scores.frechet import Moments, TowerFeatures, frechet_distance, moments
from polylens.painting.scores.inception import InceptionFeatures, fid_inception

torch.set_num_threads(1)


def of(values, parts=1):
    found = Moments()
    for part in np.array_split(np.asarray(values), parts):
        found.add(torch.from_numpy(part))
    return found


def noise(seed, count=40, width=6, scale=1.0):
    return np.random.default_rng(seed).normal(scale=scale, size=(count, width))


def test_distances_worked_by_hand():
    values = noise(0)
    assert frechet_distance(of(values), of(values)) == pytest.approx(0, abs=1e-9)
    # A shift moves the mean only, a factor of 2 on one axis its standard deviation only.
    assert frechet_distance(of(values), of(values + 3)) == pytest.approx(6 * 9)
    line = noise(1, width=1)
    assert frechet_distance(of(line - line.mean()), of(2 * (line - line.mean()))) == pytest.approx(
        line.std(ddof=1) ** 2
    )


def test_equal_to_pytorch_fid():
    fid_score = pytest.importorskip("pytorch_fid.fid_score")
    first, second = noise(2, 300, 12), noise(3, 200, 12, 1.7) + 0.3
    wanted = fid_score.calculate_frechet_distance(
        first.mean(0), np.cov(first, rowvar=False), second.mean(0), np.cov(second, rowvar=False)
    )
    assert frechet_distance(of(first), of(second)) == pytest.approx(wanted, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.integers(1, 7), st.floats(-50, 50))
def test_batches_order_and_place_do_not_matter(seed, parts, shift):
    first, second = noise(seed) + shift, noise(seed + 1) + shift
    distance = frechet_distance(of(first, parts), of(second[::-1].copy()))
    assert distance == pytest.approx(frechet_distance(of(second), of(first)), rel=1e-6, abs=1e-7)
    assert distance == pytest.approx(
        frechet_distance(of(first - shift), of(second - shift)), rel=1e-5, abs=1e-6
    )


def test_fewer_pictures_than_features_and_too_few():
    assert frechet_distance(of(noise(4, 3)), of(noise(5, 3))) > 0
    with pytest.raises(UserError, match="at least 2 pictures, and there are 1"):
        frechet_distance(of(noise(4, 1)), of(noise(5, 3)))


def test_inception_equals_pytorch_fids(tmp_path, monkeypatch):
    other = pytest.importorskip("pytorch_fid.inception")
    torch.manual_seed(0)
    state = fid_inception().state_dict()
    # Random weights of the usual size let nothing through 94 layers.
    for name, value in state.items():
        if name.endswith("conv.weight"):
            value.normal_(std=(2 / value[0].numel()) ** 0.5)
    torch.save(state, tmp_path / "weights.pth")
    monkeypatch.setattr(other, "load_state_dict_from_url", lambda *args, **more: state)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    features = InceptionFeatures(tmp_path / "weights.pth")
    mine = features([Image.fromarray(pixels)])
    with torch.no_grad():
        [theirs] = other.InceptionV3().eval()(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    assert mine.shape == (1, 2048)
    assert float(mine.std()) > 0
    torch.testing.assert_close(mine, theirs[:, :, 0, 0], rtol=1e-4, atol=1e-6)
    assert features.settings["resize"] == "bilinear to 299 x 299 without antialiasing"
    assert len(features.settings["weights_sha256"]) == 64


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(inception.BasicConv2d(3, 4, kernel_size=1).state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match="does not hold the weights of FID's Inception"):
        InceptionFeatures(tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UserError, match="does not hold the weights"):
        InceptionFeatures(tmp_path / "text.pth")
    with pytest.raises(UserError, match="cannot be read"):
        InceptionFeatures(tmp_path / "none.pth")


class Plain:
    def __init__(self, colour, size=64):
        self.colour, self.size = colour, size

    @property
    def key(self):
        return str(self.colour)

    def load(self):
        return Image.new("RGB", (self.size, self.size), self.colour)


def test_fd_encoder_tells_drawings_from_plain_colours():
    from polylens.picto.world import concepts

    folder = resolve_model("picto-parts/vision")
    tower, processor = load_vision(VisionConfig(path=str(folder))), ImageProcessor.from_folder(folder)
    features = TowerFeatures(tower, processor, {"encoder": "picto-parts/vision"})
    drawn = [concept.picture("noto") for concept in concepts()[:24]]
    first, second = moments(drawn[:12], features, 5), moments(drawn[12:], features, 12)
    plain = moments([Plain((20 * n, 90, 30)) for n in range(12)], features)
    assert first.count == 12
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(first, second) < frechet_distance(first, plain)
    assert features.settings["pooling"] == "mean of patches"
