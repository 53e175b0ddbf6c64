"""Random changes: each picture its own, nothing where nothing is asked, one seed one result."""

from dataclasses import replace

import pytest
import torch

from augment import Augment, blurred

NOTHING = Augment(0, 0, 0, 0, 0, 0)


def test_augmentation_draws_anew_for_every_picture_of_a_batch():
    # torchvision's v2 transforms draw once for a whole batch: every picture turns the same way
    image = torch.rand(1, 1, 16, 16)
    same = image.expand(16, -1, -1, -1)
    for augment in (
        Augment(0, 20, 0, 0, 0, 0),
        Augment(0.5, 0, 0, 0, 0, 0),
        Augment(0, 0, 0.2, 0, 0, 0),
        Augment(0, 0, 0, 0, 0.3, 0),
        Augment(0, 0, 0, 0, 0, 0, 0.9),
        replace(NOTHING, darkness=0.9),
        replace(NOTHING, blur=0.1),
        replace(NOTHING, noise=0.2),
    ):
        out = augment(same, torch.Generator().manual_seed(0))
        assert len({tuple(x.flatten().tolist()) for x in out}) > 1, augment
        assert out.shape == same.shape and out.min() >= 0 and out.max() <= 1


def test_augmentation_of_nothing_changes_nothing_and_flip_is_a_mirror():
    images, generator = torch.rand(4, 3, 9, 9), torch.Generator()
    none = Augment(0, 0, 0, 0, 0, 0)(images, generator)
    assert torch.allclose(none, images, atol=1e-5)
    mirrored = Augment(1, 0, 0, 0, 0, 0)(images, generator)
    assert torch.allclose(mirrored, images.flip(-1), atol=1e-5)


@pytest.mark.parametrize("share", [0.02, 0.05])
def test_blur_spreads_a_point_by_the_asked_deviation(share):
    images = torch.zeros(2, 1, 101, 101)
    images[:, :, 50, 50] = 1
    sharp, spread = blurred(images, torch.tensor([0.0, share]))[:, 0]
    assert torch.equal(sharp, images[0, 0])
    rows = spread.sum(1)  # of a Gaussian blur: mean 50, variance (share · 101)²
    variance = (rows * (torch.arange(101.0) - 50) ** 2).sum()
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    assert variance.sqrt() == pytest.approx(share * 101, rel=0.01)
    flat = torch.full((1, 1, 12, 20), 0.3)  # borders too: nothing dark comes in from outside
    assert torch.allclose(blurred(flat, torch.tensor([share])), flat)


def test_darkness_and_noise_reach_what_they_name_and_are_mostly_slight():
    faces = torch.full((4000, 1, 4, 4), 0.5)
    left = replace(NOTHING, darkness=0.9)(faces, torch.Generator().manual_seed(0)).amax((1, 2, 3))
    lost = 1 - left / 0.5
    assert lost.min() >= 0 and 0.85 < lost.max() <= 0.9
    assert lost.median() == pytest.approx(0.9 / 4, abs=0.02)
    noisy = replace(NOTHING, noise=0.1)(faces, torch.Generator().manual_seed(0))
    deviations = (noisy - 0.5).std((1, 2, 3))
    assert 0.09 < deviations.max() < 0.2 and deviations.median() < 0.035
    assert noisy.mean() == pytest.approx(0.5, abs=0.002)


def test_what_a_setting_adds_leaves_the_other_draws_as_they_were():
    # so that a training of an older card repeats, and a trial is paired
    images = torch.rand(6, 1, 16, 16)
    plain, worse = (
        augment(images, torch.Generator().manual_seed(3))
        for augment in (Augment(), replace(Augment(), darkness=1e-9, blur=1e-9, noise=1e-9))
    )
    assert torch.allclose(plain, worse, atol=1e-5)
