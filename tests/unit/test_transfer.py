"""Transfer: the weights are the ones asked for, and frozen means frozen, in both halves."""

import math

import pytest
import timm
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from torch import nn
from torchvision.models import ResNet18_Weights

import train_loop
import transfer
from expression.preprocessing import Preprocess


@pytest.fixture(scope="module")
def lite0():
    return transfer.build("efficientnet_lite0", num_classes=3)


def batches(count=4, size=32):
    return [(torch.randn(count, 3, size, size), torch.arange(count) % 3)]


def drawn_clock(size=224):
    """White face, black rim, twelve marks and two hands: what ImageNet calls an analog clock."""
    image = Image.new("RGB", (size, size), (230, 230, 230))
    draw = ImageDraw.Draw(image)
    draw.ellipse((32, 32, 192, 192), fill="white", outline="black", width=6)
    for hour in range(12):
        x, y = math.sin(hour * math.pi / 6), -math.cos(hour * math.pi / 6)
        draw.line((112 + 60 * x, 112 + 60 * y, 112 + 72 * x, 112 + 72 * y), fill="black", width=4)
    draw.line((112, 112, 112, 60), fill="black", width=5)
    draw.line((112, 112, 150, 130), fill="black", width=5)
    return image


def test_imagenet_weights_of_the_package_see_what_is_on_a_picture():
    # Filled in the wrong order, or into a network with other padding, weights answer noise
    model, state = (
        timm.create_model("tf_efficientnet_lite0"),
        transfer.imagenet_state("efficientnet_lite0"),
    )
    model.load_state_dict(dict(zip(model.state_dict(), state.values(), strict=True)))
    spec = transfer.BACKBONES["efficientnet_lite0"]
    image = torch.from_numpy(Preprocess(224, mean=spec.mean, std=spec.std)(drawn_clock()))
    with torch.inference_mode():
        probs = model.eval()(image[None]).softmax(1)[0]
    assert ResNet18_Weights.DEFAULT.meta["categories"][probs.argmax()] == "analog clock"
    assert probs.max() > 0.4


def test_head_is_new_and_body_is_the_pretrained_one(lite0):
    state = transfer.imagenet_state("efficientnet_lite0")
    assert torch.equal(lite0.conv_stem.weight, state["_conv_stem.weight"])
    assert transfer.head(lite0).weight.shape == (3, 1280)


@pytest.mark.parametrize("backbone", list(transfer.BACKBONES))
def test_frozen_backbone_is_bit_identical_after_training_batchnorm_included(backbone):
    # requires_grad=False alone lets running_mean and running_var drift
    model = transfer.freeze(transfer.build(backbone, 3, weights=None))
    name = transfer.BACKBONES[backbone].head
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for _ in range(2):
        train_loop.train_step(
            model, batches(), nn.CrossEntropyLoss(), transfer.optimizer(model, 0.1), "cpu"
        )
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) != key.startswith(f"{name}."), key


def test_a_head_trained_on_features_is_the_head_of_the_whole_network(lite0):
    # The same weights must answer the same, whichever way the picture went
    loader = batches(6)
    known = transfer.features(lite0, loader)
    assert known.tensors[0].shape == (6, 1280) and known.tensors[1].tolist() == [0, 1, 2, 0, 1, 2]
    before = transfer.head(lite0).weight.clone()
    train_loop.train_step(
        transfer.head(lite0),
        torch.utils.data.DataLoader(known, 3),
        nn.CrossEntropyLoss(),
        torch.optim.SGD(transfer.head(lite0).parameters(), 0.1),
        "cpu",
    )
    assert not torch.equal(before, transfer.head(lite0).weight)
    with torch.inference_mode():
        whole, split = lite0.eval()(loader[0][0]), transfer.head(lite0)(known.tensors[0])
    assert torch.allclose(whole, split, atol=1e-5)


def test_unfreezing_goes_from_the_output_and_moves_what_it_frees():
    model = transfer.unfreeze(transfer.freeze(transfer.build("resnet18", 3, weights=None)), last=1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    train_loop.train_step(
        model, batches(), nn.CrossEntropyLoss(), transfer.optimizer(model, 0.1), "cpu"
    )
    moved = {
        k.split(".")[0] for k, v in model.state_dict().items() if not torch.equal(v, before[k])
    }
    assert moved == {"layer4", "fc"}
    with pytest.raises(ValueError, match="has 5 stages"):
        transfer.unfreeze(model, last=6)


@pytest.mark.parametrize("backbone", list(transfer.BACKBONES))
def test_stages_and_head_are_the_whole_network(backbone):
    # A stage forgotten in the table could never be fine-tuned
    model = transfer.build(backbone, 3, weights=None)
    modules = [transfer.head(model), *(m for stage in transfer.stages(model) for m in stage)]
    assert sum(p.numel() for m in modules for p in m.parameters()) == transfer.trainable(model)[1]
    assert (
        transfer.trainable(transfer.unfreeze(transfer.freeze(model)))[0]
        == transfer.trainable(model)[1]
    )


@pytest.mark.parametrize("weight_decay", [0.01, 0.0])
def test_groups_hold_every_free_parameter_once_at_its_rate(weight_decay):
    model = transfer.unfreeze(transfer.freeze(transfer.build("resnet18", 3, weights=None)), last=2)
    groups = transfer.parameter_groups(model, 1e-2, 1e-4, weight_decay)
    held = [id(p) for g in groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert {g["name"]: g["lr"] for g in groups} == {"backbone": 1e-4, "head": 1e-2}
    assert all(p.ndim > 1 for g in groups if g["weight_decay"] for p in g["params"])


def test_an_old_optimizer_does_not_know_what_was_set_free():
    model = transfer.freeze(transfer.build("resnet18", 3, weights=None))
    old = transfer.optimizer(model, 0.1)
    transfer.unfreeze(model)
    before = model.layer4[0].conv1.weight.clone()
    train_loop.train_step(model, batches(), nn.CrossEntropyLoss(), old, "cpu")
    assert torch.equal(before, model.layer4[0].conv1.weight)
    train_loop.train_step(
        model, batches(), nn.CrossEntropyLoss(), transfer.optimizer(model, 0.1), "cpu"
    )
    assert not torch.equal(before, model.layer4[0].conv1.weight)


@pytest.mark.parametrize("form", ["safetensors", "pth"])
def test_a_checkpoint_of_our_own_is_a_start_whatever_its_classes(tmp_path, form):
    old = transfer.build("resnet18", 7, weights=None)
    path = tmp_path / f"own.{form}"
    (save_file if form == "safetensors" else torch.save)(old.half().state_dict(), path)
    new = transfer.build("resnet18", 3, weights=path)
    assert torch.equal(new.layer1[0].conv1.weight, old.layer1[0].conv1.weight.float())
    assert new.fc.weight.shape == (3, 512)


def test_missing_or_foreign_weights_never_become_random_ones(tmp_path):
    with pytest.raises(transfer.WeightsUnavailable, match="no weights at"):
        transfer.build(weights=tmp_path / "none.safetensors")
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"PK broken")
    with pytest.raises(transfer.WeightsUnavailable, match="cannot be read"):
        transfer.build(weights=broken)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"layer1.0.conv1.weight": torch.zeros(1)}, foreign)
    with pytest.raises(transfer.WeightsUnavailable, match="of 120 tensors are missing"):
        transfer.build(weights=foreign)


def test_imagenet_resnet18_out_of_reach_says_where_and_what_to_do(tmp_path, monkeypatch):
    import torchvision.models._api as api

    def no_network(url, *_, **__):
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(api, "load_state_dict_from_url", no_network)
    with pytest.raises(transfer.WeightsUnavailable) as caught:
        transfer.build("resnet18", weights="imagenet")
    for part in (str(tmp_path), "https://", "no route to host", "resnet18-f37072fd.pth", "lite0"):
        assert part in str(caught.value)


def test_imagenet_resnet18_is_read_from_the_cache_folder(tmp_path, monkeypatch):
    # A stand-in for the download: the file lies where torchvision would put it
    from torchvision.models import resnet18

    stand_in = resnet18()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(stand_in.state_dict(), tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = transfer.build("resnet18", 3, weights="imagenet")
    assert torch.equal(model.conv1.weight, stand_in.conv1.weight)


def test_unknown_backbone_and_foreign_model_are_named():
    with pytest.raises(ValueError, match="no backbone 'vgg'; known: resnet18"):
        transfer.build("vgg")
    with pytest.raises(ValueError, match=r"not made by transfer\.build"):
        transfer.freeze(nn.Linear(1, 1))
