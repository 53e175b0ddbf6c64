"""Random changes: each picture its own, nothing where nothing is asked, one seed one result."""

import torch

from augment import Augment


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
