"""The explaining figures are computed: shapes from the network, fields and power by hand."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from lab import lesson_plots
from tinyvgg import TinyVGG


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_boxes_bear_the_shapes_that_come_out():
    model = TinyVGG(1, 5, 3).train()
    steps = {"blocks.0": "first block", "blocks.1": "second block", "head.2": "logits"}
    figure = lesson_plots.architecture(model, torch.zeros(1, 1, 48, 48), steps, "the point")
    assert {"1 ×\n48 × 48", "5 ×\n24 × 24", "5 ×\n12 × 12", "3"} <= set(texts(figure))
    heights = [box.get_height() for box in figure.axes[0].patches]
    assert heights == sorted(heights, reverse=True)
    assert model.training  # as it was found
    with pytest.raises(AttributeError, match="7"):
        lesson_plots.architecture(model, torch.zeros(1, 1, 48, 48), {"blocks.7": "x"}, "")


def test_the_receptive_field_is_the_span_of_the_gradient():
    layers = [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 2, 5, stride=2)]
    _, field, stride = lesson_plots.receptive_fields(layers)[-1]
    picture = torch.rand(1, 1, 40, 40, requires_grad=True)
    torch.manual_seed(0)
    reached = torch.zeros(40, dtype=torch.bool)
    for _ in range(30):  # a maximum has a gradient for one pixel of four: other weights, others
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight)
        answer = nn.Sequential(*layers)(picture + torch.randn(1, 1, 40, 40))[0, :, 3, 3].sum()
        (gradient,) = torch.autograd.grad(answer, picture)
        reached |= (gradient[0, 0] != 0).any(0)
    span = reached.nonzero().flatten()
    assert int(span[-1] - span[0]) + 1 == field == 12 and stride == 4


def test_a_flat_picture_has_no_edges_not_even_at_its_border():
    edges = torch.tensor([[1.0, 1, 1], [0, 0, 0], [-1, -1, -1]])
    figure = lesson_plots.convolution(torch.full((6, 6), 0.5), {"edges": edges}, "the point")
    response = figure.axes[2].images[0].get_array()
    assert np.abs(response).max() == pytest.approx(0, abs=1e-6)


def test_the_marked_answers_lie_on_the_curve():
    (axes,) = lesson_plots.cross_entropy(4, {"sure": 0.9}, "the point").axes
    points = [line.get_xydata()[0].tolist() for line in axes.lines if line.get_marker() == "o"]
    assert points == [[0.25, pytest.approx(math.log(4))], [0.9, pytest.approx(-math.log(0.9))]]


def test_power_agrees_with_a_simulation():
    # Five points, 30 % discordant: some 950 faces find it four times in five
    n = 942
    assert lesson_plots.detectable_difference(n, 0.3) == pytest.approx(0.05, abs=5e-4)
    random = np.random.default_rng(0)
    draws = random.multinomial(n, [0.175, 0.125, 0.7], 4000)
    z = (draws[:, 0] - draws[:, 1]) / np.sqrt(draws[:, 0] + draws[:, 1])
    assert (np.abs(z) > 1.96).mean() == pytest.approx(0.8, abs=0.03)
    figure = lesson_plots.power({"here": 45}, (0.3,), "the point")
    figure.canvas.draw()
    (axes,) = figure.axes
    assert [45, 45] in [list(line.get_xdata()) for line in axes.lines]
    (above,) = axes.child_axes
    assert [label.get_text() for label in above.get_xticklabels()] == ["45\nhere"]


def test_a_range_test_and_spreads_show_what_they_are_given():
    (axes,) = lesson_plots.range_test([1e-3, 1e-2], [1.2, 0.9], 5e-3, 1.1, "the point").axes
    assert list(axes.lines[0].get_ydata()) == [1.2, 0.9] and axes.get_xscale() == "log"
    (axes,) = lesson_plots.spread_by_layer({"plain": [0.5, 0.2]}, "the point").axes
    assert list(axes.lines[0].get_ydata()) == [0.5, 0.2]
    lesson_plots.seen_by(np.zeros((8, 8)), [("Conv2d", 3, 1), ("MaxPool2d", 4, 2)], "the point")
