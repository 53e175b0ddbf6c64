"""lab/cam_controls.py: controls that must be able to fail a map."""

import pytest
import torch
from torch import nn

from lab import cam_controls
from lab.gradcam import grad_cam


class Corner(nn.Module):
    """Looks for light: its one channel is the picture, its logits light and dark."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.conv.weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        light = self.conv(images).mean((1, 2, 3))
        return torch.stack([light, -light], dim=1)


def spot(row: int, column: int) -> torch.Tensor:
    image = torch.zeros(1, 1, 12, 12)
    image[..., row : row + 3, column : column + 3] = 1
    return image


def test_the_map_moves_with_what_it_shows_and_stays_where_nothing_moves() -> None:
    image = spot(2, 2)
    here = grad_cam(Corner(), image, "conv", classes=0)
    there = grad_cam(Corner(), cam_controls.move(image, 4, 3), "conv", classes=0)
    assert cam_controls.agreement(cam_controls.move(here, 4, 3), there) == pytest.approx(1)
    assert cam_controls.agreement(here, there).item() < 0.1
    assert torch.equal(cam_controls.move(image, 4, 3), spot(6, 5))
    assert torch.equal(cam_controls.move(image, -1, -2), spot(1, 0))


def test_covering_what_the_map_names_costs_most() -> None:
    model, image = Corner(), spot(2, 2)
    cam = grad_cam(model, image, "conv", classes=0)
    best, least = cam_controls.highest(cam, 9 / 144), cam_controls.highest(-cam, 9 / 144)
    assert best.sum() == least.sum() == 9 and not (best & least).any()
    lost = [
        (model(image) - model(cam_controls.cover(image, chosen)))[0, 0] for chosen in (best, least)
    ]
    assert lost[0] > 0 >= lost[1]
    assert torch.equal(image, spot(2, 2)), "covering must not change the picture that was given"


def test_random_weights_are_others_and_leave_the_network_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    before = [weight.clone() for weight in model.parameters()]
    copies = [cam_controls.with_random_weights(model, seed) for seed in (0, 0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    first, again, other = (copy[0].weight for copy in copies)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.allclose(first, before[0])


def test_a_map_without_evidence_agrees_with_nothing() -> None:
    cams = torch.stack([torch.zeros(4, 4), torch.eye(4)])
    told = cam_controls.agreement(cams, torch.eye(4).expand(2, 4, 4))
    assert told.tolist() == pytest.approx([0, 1])


def test_four_controls_tell_a_map_that_means_something() -> None:
    torch.manual_seed(0)
    model = Corner()
    images = torch.cat([spot(1, 1), spot(5, 2), spot(2, 5)])

    def draw(model: nn.Module, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        return grad_cam(model, images, "conv", classes)

    probs = torch.tensor([[0.9, 0.1]] * 3)
    told = {n: v.mean().item() for n, v in cam_controls.compare_maps(
        model, images, draw, probs, step=3).items()}  # fmt: skip
    assert told["the moved face, map moved too"] == pytest.approx(1)
    assert told["the moved face, map not moved"] < 0.2
    assert told["the second most likely class"] < 0.2  # dark places, not light ones


def test_covering_is_compared_with_the_same_number_of_places() -> None:
    model, counted = Corner(), []

    def answer(images: torch.Tensor) -> torch.Tensor:
        counted.append(images)
        return model(images).softmax(1)

    images = torch.cat([spot(1, 1), spot(8, 8)])
    maps = grad_cam(model, images, "conv", classes=0)
    lost = cam_controls.covering_costs(answer, images, maps, share=9 / 144)
    assert (lost["the map's most important"] > lost["the map's least important"]).all()
    assert len(counted) == 5 and all(images.shape == (2, 1, 12, 12) for images in counted)
    again = cam_controls.covering_costs(answer, images, maps, share=9 / 144)
    assert torch.equal(lost["single pixels at random"], again["single pixels at random"])
