"""Maps by covering parts of a face: warm where the answer comes from."""

import numpy as np
import pytest
from PIL import Image

from expression.occlusion import occlusion, occlusion_maps
from expression.preprocessing import Preprocess

RULE = Preprocess(48, "L", mean=(0.5,), std=(0.25,))


def reads(rows, columns):
    """A network of two classes whose answer is the contrast of one part of the picture."""

    def probabilities(images):
        contrast = images[:, 0, rows, columns].std(axis=(1, 2))
        return np.stack([contrast, 3 - contrast], axis=1) / 3

    return probabilities


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(0, 2, (1, 48, 48)).astype(np.float32)


@pytest.mark.parametrize("rows, columns", [(np.s_[:12], np.s_[:12]), (np.s_[36:], np.s_[:12])])
def test_it_is_warm_where_the_network_reads_and_cold_elsewhere(noise, rows, columns):
    # Rows and columns in the wrong order show an eye where the mouth is
    fall = occlusion(noise, reads(rows, columns))
    assert fall.shape == (48, 48) and fall.min() == 0
    part = fall[rows, columns]
    assert part.mean() > 5 * (fall.sum() - part.sum()) / (fall.size - part.size)


def test_the_fall_is_that_of_the_class_that_was_answered(noise):
    def second(images):
        return reads(np.s_[:12], np.s_[:12])(images)[:, ::-1]

    np.testing.assert_array_equal(
        occlusion(noise, second), occlusion(noise, reads(np.s_[:12], np.s_[:12]))
    )


@pytest.mark.parametrize("rule", [RULE, Preprocess(32, "RGB"), Preprocess(32, "L", channels=3)])
def test_a_picture_a_crop_even_where_nothing_changes(rule):
    crops = [Image.effect_noise((70, 90), 60), Image.new("RGB", (20, 20), "red")]
    maps = occlusion_maps(crops, rule, lambda images: np.full((len(images), 3), 1 / 3))
    assert [(one.size, one.mode) for one in maps] == [((240, 240), "RGB")] * 2
