"""What others report for FER2013, and what their figure is, each with a source that was read.

Why: a list of accuracies looks like a ranking. It is one only if all were measured on the same
faces, in the same way, and chosen without a look at them. `how` says what was done, as the paper or
the published code shows it; `kind` puts like beside like.
"""

from dataclasses import dataclass

__all__ = ["KINDS", "PUBLISHED", "Published"]

KINDS = (
    "several networks",
    "chosen on the test faces",
    "ImageNet start",
    "not reproduced",
    "splits swapped",
)


@dataclass(frozen=True)
class Published:
    """One reported accuracy in [0, 1]. A split of FER2013 that is reported has 3,589 faces."""

    name: str
    accuracy: float
    kind: str  # one of KINDS
    how: str
    source: str


PUBLISHED = (
    Published(
        "Pramerdorfer & Kampel 2016", 0.752, KINDS[0],
        "the mean of eight networks", "https://arxiv.org/abs/1612.02903",
    ),
    Published(
        "VGG19 of WuJie1010, 2018", 0.7311, KINDS[1],
        "the epoch of 250 that was best on PrivateTest, ten crops",
        "https://github.com/WuJie1010/Facial-Expression-Recognition.Pytorch/blob/master/"
        "mainpro_FER.py",
    ),
    Published(
        "Khaireddin & Chen 2021", 0.7328, KINDS[4],
        "the code validates on PrivateTest and tests on PublicTest; ten crops",
        "https://github.com/usef-kh/fer/blob/master/data/fer2013.py",
    ),
    Published(
        "ResNet18 of LetheSec, 2021", 0.7370, KINDS[1],
        "the epoch of 300 that was best on PrivateTest, ten crops",
        "https://github.com/LetheSec/Fer2013-Facial-Emotion-Recognition-Pytorch/blob/main/dataset.py",
    ),
    Published(
        "ResMaskingNet, 2020", 0.7414, KINDS[2],
        "pretrained on ImageNet, augmented views at test",
        "https://github.com/phamquiluan/ResidualMaskingNetwork",
    ),
    Published(
        "ResMaskingNet and six more, 2020", 0.7682, KINDS[0],
        "the mean of seven networks", "https://github.com/phamquiluan/ResidualMaskingNetwork",
    ),
    Published(
        "EmoNeXt-XLarge, 2023", 0.7612, KINDS[2],
        "pretrained on ImageNet-22k, ten crops; for the tiny one users report 71.4 and 71.6 %",
        "https://github.com/yelboudouri/EmoNeXt/issues/6",
    ),
    Published(
        "ResEmoteNet, 2024", 0.7979, KINDS[3],
        "many users report 58 to 72 %, some over 90 % with the files that the authors shared",
        "https://github.com/ArnabKumarRoy02/ResEmoteNet/issues/13",
    ),
)  # fmt: skip
