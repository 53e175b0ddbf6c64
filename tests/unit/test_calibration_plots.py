"""lab/calibration_plots.py: the marks stand where the numbers are."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lab import calibration_plots
from lab.calibration_plots import Point


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def test_bars_of_accuracy_and_the_threshold_stand_at_their_values() -> None:
    # 40 faces at 0.9 of which 30 are right, 10 at 0.6 of which none is
    top = np.array([0.9] * 40 + [0.6] * 10)
    probs = np.stack([top, 1 - top], axis=1)
    labels = np.array([0] * 30 + [1] * 20)
    plain = calibration_plots.calibration(probs, labels, "x")
    assert len(plain.axes) == 2  # without a temperature there is no "after"
    heights = [bar.get_height() for bar in plain.axes[0].containers[0]]
    assert heights[13] == pytest.approx(0.75) and heights[8] == 0 and sum(heights) == heights[13]
    gaps = plain.axes[0].containers[1]
    assert gaps[13].get_y() + gaps[13].get_height() == pytest.approx(0.9)
    scaled = calibration_plots.calibration(probs, labels, "x", temperature=2, min_confidence=0.7)
    assert len(scaled.axes) == 3  # over 2, 0.9 becomes 0.75 and 0.6 becomes 0.55
    (curve, mark) = scaled.axes[-1].lines
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (0.8, 0.25)
    assert curve.get_ydata()[-1] == pytest.approx(0.4)


def test_the_ring_is_round_the_chosen_point_and_colour_tells_the_third_figure() -> None:
    points = [Point("label", 0.70, 0.71, 0.5, 0.0), Point("", 0.66, 0.83, 0.6, 0.25)]
    drawn = calibration_plots.frontier(points, 1, "x", bounds=(0.66, 0.83), colour="elsewhere")
    rings = [c for c in drawn.axes[0].collections if c.get_sizes().max() == 220]
    assert rings[0].get_offsets().tolist() == [[0.66, 0.83]]
    assert drawn.axes[1].get_ylabel() == "elsewhere"
    assert [text.get_text() for text in drawn.axes[0].texts] == ["label"]
    plain = [point._replace(elsewhere=None) for point in points]
    drawn = calibration_plots.frontier(plain, 0, "x", bounds=(0.66, 0.83), colour="")
    assert len(drawn.axes) == 1
