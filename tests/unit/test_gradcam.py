"""Grad-CAM against the package `grad-cam`, rollout against timm's own attention, and manners."""

import numpy as np
import pytest
import torch
from torch import nn

from lab.gradcam import attention_maps, grad_cam, last_layer, overlay


class Residual(nn.Module):
    """A block whose ReLU changes its input in place and runs twice, as in torchvision."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(x + self.relu(self.bn(self.conv(x))))


def small_cnn():
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        Residual(6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(6, 4),
    )
    model[1].running_mean.uniform_(-0.5, 0.5)  # or evaluation mode would be no test
    model[1].running_var.uniform_(0.5, 2)
    return model


def small_vit(**kwargs):
    import timm

    settings = {"img_size": 48, "patch_size": 8, "num_classes": 7, "in_chans": 1, "depth": 3}
    return timm.create_model("vit_tiny_patch16_224", pretrained=False, **settings | kwargs)


def reference(model, layer, images, classes, reshape=None):
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(model, [layer], reshape) as cam:
        return torch.tensor(cam(images, [ClassifierOutputTarget(k) for k in classes]))


def assert_same_maps(ours, theirs):
    """Ours: 1 is the largest value and 0 no evidence; theirs: 0 is the smallest value.

    A class that nothing speaks for has an empty map in both.
    """
    seen = ours.amax((1, 2)) > 0
    assert seen.any() and torch.equal(seen, theirs.amax((1, 2)) > 0)
    ours, theirs = ours[seen], theirs[seen]
    low, high = ours.amin((1, 2), keepdim=True), ours.amax((1, 2), keepdim=True)
    assert (high == 1).all() and (low < 0.99).all()  # a flat map would be rounding, stretched
    torch.testing.assert_close((ours - low) / (high - low), theirs, atol=1e-4, rtol=0)


# --- the same maps as others ---


def test_small_cnn_agrees_with_the_package():
    model, images, classes = small_cnn().eval(), torch.randn(8, 1, 24, 24), [0, 1, 2, 3] * 2
    ours = grad_cam(model, images, "3", torch.tensor(classes))
    assert_same_maps(ours, reference(model, model[3], images, classes))


def test_resnet18_agrees_with_the_package():
    from torchvision.models import resnet18

    model, images = resnet18(weights=None, num_classes=7).eval(), torch.randn(7, 3, 96, 80)
    assert last_layer(model, images) == "layer4"
    ours = grad_cam(model, images, classes=range(7))
    assert_same_maps(ours, reference(model, model.layer4, images, range(7)))


def test_vit_agrees_with_the_package():
    def grid(tokens):  # the package leaves it to its user: drop the class token, channels first
        return tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, 6, 6)

    model, images = small_vit().eval(), torch.randn(3, 1, 48, 48)
    layer = model.blocks[-1].norm1
    nn.init.normal_(model.head.weight)  # timm begins with a head near 0: gradients of 1e-9
    assert last_layer(model, images) == "blocks.2.norm1"
    assert_same_maps(
        grad_cam(model, images, classes=[4, 5, 6]), reference(model, layer, images, [4, 5, 6], grid)
    )


# --- which class, which layer ---


def test_the_predicted_class_is_the_default():
    model, images = small_cnn().eval(), torch.randn(4, 1, 24, 24)
    maps = grad_cam(model, images)
    assert maps.shape == (4, 24, 24) and maps.min() >= 0 and maps.max() <= 1
    assert torch.equal(maps, grad_cam(model, images, classes=model(images).argmax(dim=1)))


def test_a_map_shows_what_speaks_for_the_class_and_not_against_it():
    # Channel 0 is the picture, channel 1 its negative; class 0 likes one, class 1 the other
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    model[0].weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 0, 0], image[0, 0, 3, 3] = 2, -3
    bright, dark = grad_cam(model, image, classes=0)[0], grad_cam(model, image, classes=1)[0]
    assert bright.nonzero().tolist() == [[0, 0]] and dark.nonzero().tolist() == [[3, 3]]
    assert not grad_cam(model, -image.abs(), classes=0).any()  # 0 and not 0 / 0


def test_a_layer_used_twice_counts_where_it_ends():
    # One ReLU before and after the second convolution: its last map is meant, not its first
    relu, images = nn.ReLU(), torch.rand(1, 1, 12, 12)
    first, second, *head = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 3), nn.Flatten(), nn.Linear(192, 2)
    shared = nn.Sequential(first, relu, second, relu, *head)
    apart = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), *head)
    assert (last_layer(shared, images), last_layer(apart, images)) == ("1", "3")
    for k in (0, 1):
        assert torch.equal(grad_cam(shared, images, classes=k), grad_cam(apart, images, classes=k))


def test_a_batch_gives_what_each_picture_gives_alone():
    # In train mode BatchNorm would mix the pictures: hence evaluation mode, whatever was set
    model, images = small_cnn().train(), torch.randn(4, 1, 24, 24)
    alone = torch.cat([grad_cam(model, image[None], classes=1) for image in images])
    assert torch.allclose(grad_cam(model, images, classes=1), alone, atol=1e-5)


def test_a_layer_by_name_or_as_module():
    model, images = small_cnn(), torch.randn(2, 1, 24, 24)
    assert last_layer(model, images) == "4"  # the block ends after the ReLU in it
    assert torch.equal(grad_cam(model, images), grad_cam(model, images, model[4], None))
    assert torch.equal(grad_cam(model, images, "4.bn"), grad_cam(model, images, model[4].bn))
    assert not torch.equal(grad_cam(model, images, "4.bn"), grad_cam(model, images, "4"))


def test_a_map_of_one_place_is_no_map():
    # ResNet18 on 32 pixels ends in 1 × 1: a map of it would be one flat colour
    from torchvision.models import resnet18

    model = resnet18(weights=None)
    assert last_layer(model, torch.randn(1, 3, 32, 32)) == "layer3"


def test_the_inside_of_attention_is_no_map():
    # (N, heads, tokens, tokens) is 4-d too, and comes last
    model, images = small_vit(depth=1), torch.randn(1, 1, 48, 48)
    model.blocks[0].attn.fused_attn = False
    with pytest.raises(ValueError, match="map: patch_embed.proj, blocks.0.norm1$"):
        grad_cam(model, images, "nowhere")


def test_channels_last_are_no_map():
    # (N, h, w, C) is 4-d as well; read as (N, C, h, w) it gives a map 24 places high, 2 wide
    class Last(nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1)

    model = nn.Sequential(nn.Conv2d(1, 2, 1), Last(), nn.Flatten(), nn.Linear(2 * 24 * 24, 3))
    assert last_layer(model, torch.randn(1, 1, 24, 24)) == "0"


# --- the model is left as it was ---


def state_of(model):
    return (
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [parameter.grad is None for parameter in model.parameters()],
        [len(module._forward_hooks) for module in model.modules()],
        [tensor.clone() for tensor in model.state_dict().values()],
    )


def same(before, after):
    pairs = zip(before[-1], after[-1], strict=True)
    return before[:-1] == after[:-1] and all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_models_and_callers_without_gradients(mode, frozen):
    model = small_cnn().train().requires_grad_(not frozen)
    model[1].eval()  # frozen BatchNorm in a model that trains must come back as just that
    expected, before = grad_cam(model, torch.ones(2, 1, 24, 24), classes=1), state_of(model)
    with mode():
        images = torch.ones(2, 1, 24, 24)  # in inference mode autograd refuses such a tensor
        maps = grad_cam(model, images, classes=1)
    assert torch.equal(maps, expected) and not maps.requires_grad
    assert same(before, state_of(model))


def test_an_error_midway_leaves_no_hook_and_no_mode():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("midway")

    model = nn.Sequential(small_cnn(), Broken()).train()
    before = state_of(model)
    for look in (grad_cam, attention_maps, last_layer):
        with pytest.raises(RuntimeError, match="midway"):
            look(model, torch.randn(1, 1, 24, 24))
        assert same(before, state_of(model))


# --- errors say what to do ---


def test_unknown_layers_are_answered_with_the_known():
    model, images = small_cnn(), torch.randn(1, 1, 24, 24)
    for layer, words in (
        ("layer4", "no layer 'layer4' in Sequential"),
        (nn.Conv2d(1, 1, 1), "no layer Conv2d"),
        ("8", "layer '8' gives no spatial map"),
        ("5", "layer '5' gives no spatial map"),
    ):
        with pytest.raises(ValueError, match=f"{words}.*spatial map: 0, 1, 2, 3, 4.conv, .*, 4$"):
            grad_cam(model, images, layer)


def test_a_model_without_a_map_is_told_so():
    svm = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(64, 3))  # the identity is no layer
    with pytest.raises(ValueError, match="no layer with a spatial map"):
        grad_cam(svm, torch.randn(2, 1, 8, 8))
    assert attention_maps(svm, torch.randn(2, 1, 8, 8)) == {}


@pytest.mark.parametrize("frozen", [True, False])
def test_an_answer_without_gradients_is_told_so(frozen):
    class Hard(nn.Module):
        def forward(self, x):
            return (x > 0).float()

    model = nn.Sequential(nn.Conv2d(1, 3, 3), Hard(), nn.Flatten(), nn.Linear(108, 2))
    with pytest.raises(ValueError, match="no gradient leads from the answer of Sequential to '0'"):
        grad_cam(model.requires_grad_(not frozen), torch.randn(2, 1, 8, 8), "0")


@pytest.mark.parametrize("classes", [4, -1, torch.tensor([0, 4])])
def test_a_class_the_model_does_not_have(classes):
    # -1 would silently be the last class
    with pytest.raises(ValueError, match=r"class (4|-1) for picture (0|1).*classes 0 to 3"):
        grad_cam(small_cnn(), torch.randn(2, 1, 24, 24), classes=classes)


def test_classes_and_images_of_other_shapes():
    model, images = small_cnn(), torch.randn(2, 1, 24, 24)
    for classes in (torch.tensor([1, 2, 3]), torch.tensor([0.9, 1.0])):  # 0.9 is not class 0
        with pytest.raises(ValueError, match=r"expected ints \(2,\)"):
            grad_cam(model, images, classes=classes)
    for shape in ((1, 24, 24), (0, 1, 24, 24)):
        with pytest.raises(ValueError, match=r"expected \(N, C, H, W\)"):
            grad_cam(model, torch.randn(shape))


def test_a_single_token_is_no_map():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Unflatten(1, (1, -1)), nn.Flatten())
    with pytest.raises(ValueError, match="layer '2' gives no spatial map"):
        grad_cam(model, torch.randn(2, 1, 6, 4), "2")


# --- attention ---


class Spatial(nn.Module):
    """Weighs places by a map; keeps the map when asked to."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.keep, self.attention = False, None

    def forward(self, x):
        weight = self.conv(x).sigmoid()
        self.attention = weight.detach() if self.keep else None
        return x * weight


def test_modules_that_keep_their_attention():
    model = nn.Sequential(Spatial(), nn.MaxPool2d(2), Spatial(), nn.Flatten(), nn.Linear(16, 3))
    images = torch.randn(2, 1, 8, 8)
    maps = attention_maps(model, images)
    assert {name: value.shape for name, value in maps.items()} == {"0": (2, 8, 8), "2": (2, 4, 4)}
    assert torch.allclose(maps["0"], model[0].conv(images).sigmoid()[:, 0])
    assert not any(model[i].keep or model[i].attention is not None for i in (0, 2))


def test_an_attention_that_is_no_map_is_left_out():
    # A layer of that name, heads, one number a picture, and what another batch left behind
    for other in (nn.Linear(1, 1), torch.rand(2, 4, 9, 9), torch.rand(2), torch.rand(5, 8, 8)):
        model = nn.Sequential(Spatial(), nn.Flatten(), nn.Linear(64, 3))
        model[1].attention = other
        assert list(attention_maps(model, torch.randn(2, 1, 8, 8))) == ["0"]


@pytest.mark.parametrize("size", [(48, 48), (48, 32)])
@pytest.mark.parametrize("qk_norm", [True, False])
def test_rollout_is_that_of_the_attention_timm_computes(size, qk_norm):
    model, images = small_vit(qk_norm=qk_norm, img_size=size).eval(), torch.randn(2, 1, *size)
    for block in model.blocks:
        nn.init.normal_(block.attn.qkv.weight, std=0.2)  # attention that is far from even
    maps = attention_maps(model, images)
    matrices = []
    for block in model.blocks:
        block.attn.fused_attn = False  # timm then passes the softmax through its dropout
        block.attn.attn_drop.register_forward_hook(lambda _m, _x, out: matrices.append(out))
    model(images)
    joint = torch.eye(matrices[0].shape[-1]).expand(2, -1, -1)
    for matrix in matrices:
        joint = torch.bmm(0.5 * matrix.mean(1) + 0.5 * torch.eye(len(joint[0])), joint)
    assert list(maps) == ["rollout"]
    expected = joint[:, 0, 1:].view(2, size[0] // 8, size[1] // 8)
    torch.testing.assert_close(maps["rollout"], expected.detach(), atol=1e-6, rtol=1e-4)
    assert (expected.std(dim=(1, 2)) > 1e-4).all()


def test_no_rollout_without_a_class_token():
    model = small_vit(class_token=False, global_pool="avg")
    assert attention_maps(model, torch.randn(1, 1, 48, 48)) == {}


# --- overlays ---


@pytest.mark.parametrize("shape", [(48, 40), (48, 40, 3)])
def test_overlay_brightens_the_place_of_the_map(shape):
    picture, cam = np.full(shape, 100, np.uint8), torch.zeros(6, 5)
    cam[1, 4] = 0.3
    shown = overlay(picture, cam)
    assert shown.shape == (48, 40, 3) and shown.dtype == np.uint8
    top = np.unravel_index(shown.sum(axis=2).argmax(), (48, 40))
    assert 8 <= top[0] < 16 and 32 <= top[1] < 40
    assert np.array_equal(overlay(picture, cam, alpha=0), np.broadcast_to(100, (48, 40, 3)))
    assert len(np.unique(shown[12, :, 0])) > 6  # enlarged smoothly: five columns, more colours


def test_overlay_refuses_what_it_would_draw_wrongly():
    picture = np.zeros((8, 8), np.uint8)
    for image in (picture / 255, picture[None], np.zeros((8, 8, 4), np.uint8)):
        with pytest.raises(ValueError, match="expected uint8"):
            overlay(image, torch.zeros(2, 2))
    for cam in (torch.zeros(1, 2, 2), torch.full((2, 2), torch.nan), -torch.ones(2, 2)):
        with pytest.raises(ValueError, match="numbers from 0 up"):
            overlay(picture, cam)
    assert overlay(picture, torch.zeros(2, 2)).shape == (8, 8, 3)  # an empty map is no error
