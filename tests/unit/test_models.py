"""lab/models/: the networks that are compared have the sizes that they are known by."""

import pytest
import timm
import torch
from torch import nn

from expression.checkpoint import load_checkpoint
from lab import models
from lab.export import save_network
from lab.models import vit_tiny
from lab.models.attention_cnn import AttentionCNN, ChannelAttention, SpatialAttention
from lab.models.gray_resnet import GrayResNet

LARGE = ("custom_cnn", "attention_cnn", "gray_resnet", "vit_tiny")


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "millions", "classes"),
    [
        ("baseline_cnn", 0.4, 7),
        ("attention_cnn", 1.2, 7),
        ("vit_tiny", 5.5, 7),
        ("gray_resnet", 11.17, 4),
    ],
)
def test_parameter_counts_are_the_published_ones(name, millions, classes):
    parameters = count(models.build(name, num_classes=classes, in_channels=1)) / 1e6
    digits = len(str(millions).split(".")[1])
    assert abs(parameters - millions) < (0.15 if name == "vit_tiny" else 0.5 * 10**-digits)


def test_the_stock_vit_is_the_published_one():
    assert round(count(vit_tiny.build(3, 1000, size=224, patch=16)) / 1e6, 1) == 5.7


@pytest.mark.parametrize(
    "name", ["tinyvgg", "baseline_cnn", *(pytest.param(n, marks=pytest.mark.slow) for n in LARGE)]
)
def test_every_system_learns_a_batch_by_heart_and_survives_its_file(name, tmp_path, card):
    torch.manual_seed(0)
    images, labels = torch.randn(6, 1, 32, 32), torch.arange(6) % 3
    options = {"size": 32} if name == "vit_tiny" else {}
    model = models.build(name, num_classes=3, in_channels=1, **options)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    first = None
    for _ in range(16):
        loss = nn.functional.cross_entropy(model(images), labels)
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 2
    model.eval()
    state, _ = load_checkpoint(save_network(tmp_path / "x.safetensors", model, card, half=False))
    again = models.build(name, num_classes=3, in_channels=1, **options)
    again.load_state_dict(models.as_tensors(state))
    with torch.inference_mode():
        assert torch.equal(again.eval()(images), model(images))


def test_convolutions_take_any_size_and_any_number_of_channels():
    for name in ("baseline_cnn", "custom_cnn", "attention_cnn", "gray_resnet"):
        model = models.build(name, num_classes=5, in_channels=2).eval()
        for side in (40, 48, 96):
            assert model(torch.rand(2, 2, side, side)).shape == (2, 5)


def test_channel_attention_weighs_channels_and_spatial_attention_places():
    maps = torch.rand(2, 16, 6, 6) + 0.5
    weights = ChannelAttention(16)(maps) / maps
    assert torch.allclose(weights, weights[:, :, :1, :1].expand_as(weights), atol=1e-6)
    look = SpatialAttention()
    weights = look(maps) / maps
    assert torch.allclose(weights, weights[:, :1].expand_as(weights), atol=1e-6)
    assert look.attention is None  # nothing is held that nobody asked for
    look.keep = True
    look(maps)
    assert torch.allclose(look.attention, weights[:, :1], atol=1e-6)
    assert ((look.attention > 0) & (look.attention < 1)).all()


def test_attention_maps_have_the_size_of_each_block():
    model = AttentionCNN().eval()
    kept = [m for m in model.modules() if isinstance(m, SpatialAttention)]
    for module in kept:
        module.keep = True
    model(torch.rand(1, 1, 48, 48))
    assert [tuple(m.attention.shape[2:]) for m in kept] == [(48, 48), (24, 24), (12, 12), (6, 6)]


def test_the_small_stem_keeps_every_pixel():
    for stem, side in (("stock", 12), ("3x3", 48)):
        model = GrayResNet(stem=stem)
        assert model.maxpool(model.conv1(torch.rand(1, 1, 48, 48))).shape[2:] == (side, side)
    with pytest.raises(ValueError, match='"stock" and "3x3"'):
        GrayResNet(stem="5x5")


def test_one_vit_tiny_serves_every_patch():
    # A name with another patch, such as vit_tiny_patch8_224, is none that timm knows
    assert set(timm.list_models("vit_tiny_patch*_224")) == {vit_tiny.NAME}
    for size, patch in ((48, 8), (48, 6), (224, 16)):
        model = vit_tiny.build(size=size, patch=patch)
        assert model.patch_embed.proj.kernel_size == (patch, patch)
        assert model.patch_embed.num_patches == (size // patch) ** 2


def test_vit_may_see_through_small_convolutions():
    # An eighth of 48 pixels in three halvings; whoever would halve no whole number of times is told
    model = vit_tiny.build(size=48, patch=8, stem="conv", drop_path=0.1)
    strides = [layer.stride[0] for layer in model.patch_embed.proj if hasattr(layer, "stride")]
    assert strides == [2, 2, 2, 1]
    assert model.patch_embed.proj(torch.rand(2, 1, 48, 48)).shape == (2, 192, 6, 6)
    assert model(torch.rand(2, 1, 48, 48)).shape == (2, 7)
    with pytest.raises(ValueError, match="patch 6.*power of two"):
        vit_tiny.build(size=48, patch=6, stem="conv")
    with pytest.raises(ValueError, match='pretrained weights are those of stem="patch"'):
        vit_tiny.build(stem="conv", weights="imagenet")


def test_vit_starts_from_a_file_as_it_would_from_the_hub(tmp_path):
    # A stand-in of the published weights: 224 px, patches of 16, colour, 1000 classes
    torch.manual_seed(0)
    published = vit_tiny.build(3, 1000, size=224, patch=16)
    torch.save(published.state_dict(), tmp_path / "vit.pth")
    model = vit_tiny.build(1, 7, size=48, patch=8, weights=tmp_path / "vit.pth")
    block = published.blocks[3].mlp.fc1.weight
    assert torch.equal(model.blocks[3].mlp.fc1.weight, block)
    assert model.head.out_features == 7 and model(torch.rand(1, 1, 48, 48)).shape == (1, 7)
    filters, given = model.patch_embed.proj.weight, published.patch_embed.proj.weight.sum(1)
    smaller = nn.functional.avg_pool2d(given, 2)  # (192, 8, 8): alike, not random ones
    alike = torch.corrcoef(torch.stack([filters.flatten(), smaller.flatten()]))[0, 1]
    assert alike > 0.5


def test_vit_weights_that_cannot_be_had_are_an_error_not_a_random_start(tmp_path):
    with pytest.raises(vit_tiny.WeightsUnavailable, match="no weights at"):
        vit_tiny.build(weights=tmp_path / "absent.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    with pytest.raises(vit_tiny.WeightsUnavailable, match="broken.safetensors"):
        vit_tiny.build(weights=tmp_path / "broken.safetensors")
    with pytest.raises(vit_tiny.WeightsUnavailable, match="imagenet"):
        vit_tiny.build(size=224, patch=16, weights="imagenet")  # the tests are offline
    with pytest.raises(ValueError, match="no multiple"):
        vit_tiny.build(size=48, patch=7)


def test_an_unknown_system_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no system 'vgg'; known: hog_svm, baseline_cnn"):
        models.build("vgg", num_classes=7)
