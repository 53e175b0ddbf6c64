"""TinyVGG: any size, any channels, and able to learn."""

import pytest
import torch
from torch import nn

from tinyvgg import TinyVGG


@pytest.mark.parametrize("size", [4, 33, 48, 224])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_size_and_any_number_of_channels(size, channels):
    # A hard-coded Linear after Flatten takes one size only
    logits = TinyVGG(channels, 8, 7)(torch.randn(2, channels, size, size + 3))
    assert logits.shape == (2, 7)


def test_two_blocks_of_conv_batchnorm_relu_twice_then_pool():
    kinds = [type(m).__name__ for m in TinyVGG().blocks.modules() if not list(m.children())]
    assert kinds == (["Conv2d", "BatchNorm2d", "ReLU"] * 2 + ["MaxPool2d"]) * 2


def test_without_batchnorm_there_is_none_and_convolutions_have_a_bias():
    plain = [m for m in TinyVGG(batch_norm=False).modules()]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in plain)
    assert all(m.bias is not None for m in plain if isinstance(m, nn.Conv2d))


def test_learns_one_batch_by_heart():
    # A model that cannot overfit eight pictures has a broken gradient somewhere
    model, images, labels = TinyVGG(1, 16, 4), torch.randn(8, 1, 32, 32), torch.arange(8) % 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_errors_say_what_was_found():
    with pytest.raises(ValueError, match=r"\(2, 3, 48, 48\).*\(N, 1, H, W\)"):
        TinyVGG(1)(torch.randn(2, 3, 48, 48))
    with pytest.raises(ValueError, match="num_classes is 0"):
        TinyVGG(num_classes=0)
