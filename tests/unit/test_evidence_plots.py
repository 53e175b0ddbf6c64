"""lab/evidence_plots.py: the marks stand where the numbers are, and two panels share a range."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lab import evidence_plots
from lab.metrics import wilson


def places(line: Line2D) -> list[tuple[float, float]]:
    """The points of a line."""
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]


def spans(axes: Axes, axis: int) -> list[list[float]]:
    """From where to where the drawn intervals reach, along x (0) or y (1)."""
    drawn = [c for c in axes.collections if isinstance(c, LineCollection)]
    return [np.asarray(segment)[:, axis].tolist() for c in drawn for segment in c.get_segments()]


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def texts(figure: Figure) -> str:
    figure.canvas.draw()
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    return " ".join([*found, figure.get_supxlabel()])


def test_a_dot_stands_at_its_share_and_the_line_spans_its_interval() -> None:
    groups = {"a": {"one": (9, 10), "two": (1, 10)}, "b": {"one": (5, 10)}}
    figure = evidence_plots.dots(groups, "the point", ylabel="y", line=(0.3, "guess"))
    (axes,) = figure.axes
    dots = [places(line) for line in axes.lines if line.get_marker() in ("o", "s")]
    drawn = [points[0][1] for points in dots if points]
    assert sorted(drawn) == pytest.approx([0.1, 0.5, 0.9])
    assert [span for span in spans(axes, 1) if span[1] > 0.95] == [pytest.approx(wilson(9, 10))]
    assert "guess" in texts(figure) and "the point" in texts(figure)


def test_panels_have_one_range_and_no_empty_axes() -> None:
    each = {name: {"g": {"one": (5, 10)}} for name in "abc"}
    figure = evidence_plots.panels(each, "x", ylabel="y", ylim=(0.2, 0.8), line=0.5)
    shown = [axes for axes in figure.axes if axes.axison]
    assert len(shown) == 3 and {axes.get_ylim() for axes in shown} == {(0.2, 0.8)}


def test_a_single_pair_has_no_interval() -> None:
    rows = {"pair": (1.0, None, None), "seeds": (2.0, 1.0, 3.0), "wide": (0.5, -1.0, 2.0)}
    (axes,) = evidence_plots.differences(rows, "x", xlabel="points").axes
    assert spans(axes, 0) == [[1.0, 3.0], [-1.0, 2.0]]
    colours = [tuple(np.asarray(c.get_edgecolor())[0]) for c in axes.collections]
    assert colours[0] != colours[1], "an interval that leaves out 0 must be seen"


def test_both_yardsticks_have_one_scale() -> None:
    points = {"a": (0.6, 0.8), "b": (0.7, 0.7)}
    (axes,) = evidence_plots.yardsticks(
        points, ([0.6, 0.7], [0.8, 0.7]), "x", xlabel="x", ylabel="y", curve_name="mix"
    ).axes
    assert axes.get_xlim() == axes.get_ylim() and axes.get_aspect() == 1
    marks = [point for line in axes.lines for point in places(line)]
    assert (0.6, 0.8) in marks and (0.7, 0.7) in marks


def test_needs_bars_and_confidence_show_what_they_are_given() -> None:
    (axes,) = evidence_plots.needs({"n": ([1, 2], [400, 100])}, {"faces": 45}, "x", ylabel="n").axes
    assert axes.get_yscale() == "log" and places(axes.lines[0]) == [(1, 400), (2, 100)]
    (axes,) = evidence_plots.bars({"a": {"sad": 0.25}, "b": {"sad": 0.5}}, "x", ylabel="y").axes
    heights = [b.get_height() for c in axes.containers if isinstance(c, BarContainer) for b in c]
    assert heights == [0.25, 0.5]
    probs, labels = np.array([[0.9, 0.1]] * 20), np.array([0] * 15 + [1] * 5)
    figure = evidence_plots.confidence({"raw": (probs, labels)}, 0.5, "x")
    assert len(figure.axes) == 2 and "25 % wrong" in texts(figure)


def test_mistakes_are_red_and_each_map_lies_below_its_picture() -> None:
    faces = [np.full((4, 4), gray, np.uint8) for gray in (10, 20)]
    maps = [[np.full((4, 4, 3), gray, np.uint8) for gray in (110, 120)]]
    figure = evidence_plots.map_rows(faces, ["a", "b"], [True, False], maps, "x")
    shown = [np.asarray(axes.images[0].get_array()).max() for axes in figure.axes]
    assert shown == [10, 20, 110, 120]
    assert [axes.title.get_color() for axes in figure.axes[:2]] == ["black", "#b00000"]


def test_long_names_below_a_figure_do_not_meet() -> None:
    names = ["expression-fer2013", "expression_small-fer2013", "attention_cnn-fer2013",
             "baseline_cnn-fer2013", "custom_cnn-muxspace", "fer"]  # fmt: skip
    figure = evidence_plots.dots({name: {"one": (5, 10)} for name in names}, "x", ylabel="y")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].get_xticklabels()]
    assert all(a.x1 < b.x0 for a, b in zip(boxes, boxes[1:], strict=False))
    assert [text.get_text().replace("\n", "") for text in figure.axes[0].get_xticklabels()] == names
