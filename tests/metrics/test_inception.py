import numpy as np
import pytest
import torch

from msdsr.errors import UserError
from msdsr.metrics.features import FeatureSet
from msdsr.metrics.fid import fid
from msdsr.metrics.inception import Inception, load_torchscript
from msdsr.metrics.mmd import Kid


@pytest.fixture(scope="module")
def network(inception_path):
    return Inception(inception_path, "cpu", batch=8)


def test_a_picture_of_299_pixels_goes_through_unchanged(network, inception_path, rng):
    picture = rng.integers(0, 256, (1, 3, 299, 299), dtype=np.uint8)
    with torch.inference_mode():
        net = load_torchscript(inception_path, torch.device("cpu"))
        expected = net((torch.from_numpy(picture).float() - 128) / 128).numpy()
    found = network(picture)
    assert found.shape == (1, 2048)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_the_batch_does_not_matter(network, inception_path, rng):
    pictures = rng.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    one_by_one = Inception(inception_path, "cpu", batch=1)(pictures)
    np.testing.assert_allclose(network(pictures), one_by_one, atol=1e-4)


def test_small_pictures_are_enlarged_with_half_pixel_offsets(network, rng):
    small = rng.integers(0, 256, (1, 3, 13, 13), dtype=np.uint8)
    # An enlargement by 23 whose centres line up: 13 × 23 = 299.
    position = (np.arange(299) + 0.5) / 23 - 0.5
    low = np.clip(np.floor(position).astype(int), 0, 12)
    high = np.minimum(low + 1, 12)
    weight = np.clip(position, 0, None) - low
    rows = small[:, :, low] * (1 - weight)[:, None] + small[:, :, high] * weight[:, None]
    large = rows[..., low] * (1 - weight) + rows[..., high] * weight
    with torch.inference_mode():
        expected = network._net((torch.from_numpy(large).float() - 128) / 128).numpy()
    np.testing.assert_allclose(network(small), expected, atol=1e-4)


def test_blur_is_further_from_real_crops_than_real_crops_are(network):
    from scipy.ndimage import gaussian_filter

    def images(seed, blur=0.0):
        field = gaussian_filter(
            np.random.default_rng(seed).standard_normal((24, 32, 32)), (0, 2, 2)
        )
        shown = gaussian_filter(field / field.std(), (0, blur, blur))
        grey = (127 + 40 * shown).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, None], 3, axis=1)

    real, other = (FeatureSet.of(network(images(seed))) for seed in (1, 2))
    blurred = FeatureSet.of(network(images(2, blur=4.0)))
    assert fid(real, blurred) > 2 * fid(real, other)
    assert Kid(real)(blurred) > 10 * abs(Kid(real)(other))


def test_a_missing_network_says_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match="msdsr fetch inception"):
        Inception(tmp_path / "inception.pt")


def test_a_file_that_is_no_network_is_refused(tmp_path):
    (tmp_path / "inception.pt").write_bytes(b"<html>proxy error</html>")
    with pytest.raises(UserError, match="not a TorchScript file"):
        Inception(tmp_path / "inception.pt")
