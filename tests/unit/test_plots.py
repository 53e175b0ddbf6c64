"""What figures show: marks at the given values, honest scales, no words cut off or colliding."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from lab import plots

NAMES = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
LONG = "Disgust is found rarely: classes with few faces are learned worst, and accuracy hides it. "


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def history(epochs, **more):
    shares = [(k + 1) / epochs for k in range(epochs)]
    return {
        "train_loss": [2 - share for share in shares],
        "val_loss": [2.5 - share for share in shares],
        "train_accuracy": [0.9 * share for share in shares],
        "val_accuracy": [0.7 * share for share in shares],
        **more,
    }


def classes(names):
    return {
        name: {"precision": 0.1 * k, "recall": 0.5, "f1": 1.0, "support": 55 + k}
        for k, name in enumerate(names)
    }


def systems(count):
    names = ("ResNet18 (ImageNet, fine-tuned in two phases)", "HOG + RBF SVM", "TinyVGG")
    return [
        {
            "name": f"{names[k % 3]} {k}",
            "accuracy": 0.7 - 0.03 * k,
            "interval_95": (0.68 - 0.03 * k, 0.72 - 0.03 * k),
            **({"published": 0.75, "note": "224 px, 5 seeds"} if k == 1 else {}),
        }
        for k in range(count)
    ]


def undrawn(axes):
    """Tick labels beyond the limits, or all of an axis that is off: there, but not drawn."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not (axes.axison and low <= tick.get_loc() <= high):
                yield from tick.findobj(Text)


def texts(figure):
    """Every text that is drawn, as (words, its box in pixels)."""
    figure.canvas.draw()
    hidden = {id(text) for axes in figure.axes for text in undrawn(axes)}
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [(t.get_text(), t.get_window_extent()) for t in found if id(t) not in hidden]


FIGURES = {
    "per_class 7": lambda: plots.per_class(classes(NAMES), LONG * 2),
    "per_class 3": lambda: plots.per_class(classes(NAMES[-3:]), LONG * 2),
    "confusion 7": lambda: plots.confusion(np.full((7, 7), 879), NAMES, LONG * 2),
    "confusion 3": lambda: plots.confusion(np.eye(3, dtype=int), NAMES[-3:], LONG),
    "comparison 10": lambda: plots.comparison(systems(10), LONG * 2, 0.25),
    "comparison 1": lambda: plots.comparison(systems(1), LONG),
    "cams 3": lambda: plots.cams(
        [np.zeros((8, 8), np.uint8)] * 3,
        [np.zeros((8, 8, 3), np.uint8)] * 3,
        ["surprise → neutral\n0.62"] * 3,
        LONG,
    ),
    "history 4": lambda: plots.history(
        history(4, lr=[1e-3] * 4), LONG * 2, chance=0.25, guess_loss=1.95, chosen=3
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_words_are_whole_and_apart(name):
    # Long captions used to run out of narrow figures; long names ran into one another
    figure = FIGURES[name]()
    words = texts(figure)
    page = figure.bbox
    for text, box in words:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1
        assert inside, f"cut off: {text!r}"
    for (first, a), (second, b) in itertools.combinations(words, 2):
        overlap = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        turned = "confusion" in name and {first, second} <= set(NAMES)  # boxes of slanted words
        assert min(overlap) <= 1 or turned, f"{first!r} over {second!r}"


@pytest.mark.parametrize("width", [3, 9])
def test_a_caption_keeps_its_words_whatever_the_width(width):
    figure = plt.figure(figsize=(width, 2))
    plots.caption(figure, LONG * 2)
    assert figure.get_supxlabel().split() == (LONG * 2).split()


# --- per class ---


@pytest.mark.parametrize("count", [3, 4, 7])
def test_three_bars_a_class_on_one_scale(count):
    figure = plots.per_class(classes(NAMES[:count]), "the point")
    (axes,) = figure.axes
    assert axes.get_ylim() == (0, 1) and figure.get_supxlabel() == "the point"
    assert [bars.get_label() for bars in axes.containers] == ["precision", "recall", "F1"]
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
    assert heights == [[pytest.approx(0.1 * k) for k in range(count)], [0.5] * count, [1.0] * count]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == [f"{name} ({55 + k})" for k, name in enumerate(NAMES[:count])]
    for place, tick in enumerate(axes.get_xticks()):  # the bars stand over their own name
        middles = [bars[place].get_x() + bars[place].get_width() / 2 for bars in axes.containers]
        assert np.allclose(middles, tick + np.array([-0.27, 0, 0.27]))


# --- systems side by side ---


def marks(axes, marker):
    return [
        (*line.get_xdata(), *line.get_ydata())
        for line in axes.lines
        if line.get_marker() == marker and len(line.get_xdata()) == 1
    ]


def test_systems_are_sorted_with_their_intervals():
    rows = systems(10)
    figure = plots.comparison(rows[5:] + rows[:5], "the point", 0.25)  # in another order
    (axes,) = figure.axes
    names = [label.get_text().split("\n")[0] for label in axes.get_yticklabels()]
    assert names == [row["name"] for row in reversed(rows)]  # the best is on top
    dots = [(row["accuracy"], y) for y, row in enumerate(reversed(rows))]
    assert marks(axes, "o") == [pytest.approx(dot) for dot in dots]
    lines = [lines.get_segments()[0] for lines in axes.collections]
    for y, (row, line) in enumerate(zip(reversed(rows), lines, strict=True)):
        assert np.allclose(line, [(row["interval_95"][0], y), (row["interval_95"][1], y)])
    written = {text.get_text() for text in axes.texts}
    assert "70.0 % (68.0–72.0)" in written and len(written) == 10


def test_a_published_result_is_hollow_and_in_its_systems_row():
    (axes,) = plots.comparison(systems(10), "the point", 0.25).axes
    assert marks(axes, "D") == [(0.75, 8)]  # second from the top
    (diamond,) = (x for x in axes.lines if x.get_marker() == "D" and len(x.get_xdata()))
    assert diamond.get_markerfacecolor() == "none"
    assert axes.get_yticklabels()[8].get_text() == "HOG + RBF SVM 1\n224 px, 5 seeds"


def test_the_legend_names_what_is_there_and_nothing_else():
    def legend(*args):
        return [text.get_text() for text in plots.comparison(*args).legends[0].get_texts()]

    everything = ["measured here", "published", "majority class"]
    assert legend(systems(3), "the point", 0.25) == everything
    assert legend(systems(1), "the point") == ["measured here"]
    grouped = [{**row, "group": f"group {k % 2}"} for k, row in enumerate(systems(4)[2:])]
    assert legend(grouped, "the point") == ["group 0", "group 1"]


@pytest.mark.parametrize(
    ("low", "high", "baseline", "limits"),
    [(0.42, 0.68, 0.25, (0.2, 0.7)), (0.42, 0.68, None, (0.4, 0.7)), (0.0, 1.0, 0.5, (0, 1))],
)
def test_the_scale_holds_all_that_is_drawn_and_ends_at_tenths(low, high, baseline, limits):
    row = {"name": "a", "accuracy": 0.5, "interval_95": (low, high)}
    (axes,) = plots.comparison([row], "the point", baseline).axes
    assert axes.get_xlim() == pytest.approx(limits)
    dashed = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert dashed == ([] if baseline is None else [baseline])


# --- one run ---


@pytest.mark.parametrize("epochs", [1, 2, 7, 40])
def test_epochs_are_whole_numbers_and_visible(epochs):
    figure = plots.history(history(epochs), "the point", chance=0.25, guess_loss=1.95)
    left, right = figure.axes
    for axes in (left, right):
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks and all(tick == int(tick) for tick in ticks)
        line = axes.lines[1]
        assert list(line.get_xdata()) == list(range(1, epochs + 1))
        assert epochs > 2 or line.get_marker() == "o"  # a line of one point is nothing
    assert left.get_ylim()[0] == 0 and left.get_ylim()[1] > 2.5 - 1 / epochs
    assert right.get_ylim() == (0, 1.02)
    # In the legend, not at the line: there it would be printed over by the curves
    legends = [text.get_text() for axes in (left, right) for text in axes.get_legend().get_texts()]
    assert {"uniform guess", "majority class"} < set(legends)


def test_the_chosen_epoch_is_marked_where_it_is():
    figure = plots.history(history(5), "the point", chance=0.25, guess_loss=1.95, chosen=4)
    for axes, value in zip(figure.axes, (2.5 - 0.8, 0.7 * 0.8), strict=True):
        assert marks(axes, "o") == [pytest.approx((4, value))]
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert f"chosen: epoch 4, {value:.3f}" in labels
    for chosen in (0, 6):  # 0 would silently mark the last epoch at the first place
        with pytest.raises(ValueError, match=f"epoch {chosen}; the history has epochs 1 to 5"):
            plots.history(history(5), "", chance=0.25, guess_loss=1.95, chosen=chosen)


@pytest.mark.parametrize(
    ("rates", "scale", "limits"),
    [([1e-2, 3e-3, 2e-4], "log", (1e-4, 1e-1)), ([0.9e-3], "log", (1e-4, 1e-3))],
)
def test_the_learning_rate_has_its_own_scale_in_whole_decades(rates, scale, limits):
    run = history(len(rates), lr=rates)
    panel = plots.history(run, "the point", chance=0.25, guess_loss=1.95).axes[2]
    assert (panel.get_ylabel(), panel.get_yscale()) == ("learning rate", scale)
    assert list(panel.lines[0].get_ydata()) == rates
    assert panel.get_ylim() == pytest.approx(limits)


def test_a_rate_of_0_needs_a_linear_scale():
    run = history(3, lr=[1e-3, 5e-4, 0.0])
    panel = plots.history(run, "the point", chance=0.25, guess_loss=1.95).axes[2]
    assert panel.get_yscale() == "linear" and panel.get_ylim()[0] == 0


# --- pictures and confusion ---


@pytest.mark.parametrize(("count", "shape"), [(1, (2, 1)), (3, (2, 3)), (9, (4, 8))])
def test_each_map_lies_below_its_picture(count, shape):
    pictures = [np.full((4, 4), k, np.uint8) for k in range(count)]
    maps = [np.full((4, 4, 3), 100 + k, np.uint8) for k in range(count)]
    titles = [f"picture {k}" for k in range(count)]
    figure = plots.cams(pictures, maps, titles, "the point", ["red"] * count)
    grid = np.array(figure.axes).reshape(shape)
    for k in range(count):
        row, column = divmod(k, 8)
        above, below = grid[2 * row, column], grid[2 * row + 1, column]
        assert above.get_title() == f"picture {k}" and above.title.get_color() == "red"
        assert (
            above.images[0].get_array().max() == k and below.images[0].get_array().max() == 100 + k
        )
        assert above.images[0].get_clim() == (0, 255)  # or a dark face would be stretched
    assert sum(len(axes.images) for axes in figure.axes) == 2 * count
    with pytest.raises(ValueError):
        plots.cams(pictures, maps[1:], titles, "the point")


def test_confusion_writes_counts_and_shares_of_the_row():
    matrix = [[300, 99, 1], [0, 0, 0], [0, 5, 5]]
    (axes,) = plots.confusion(matrix, NAMES[:3], "the point").axes
    cells = {}
    for text in axes.texts:
        x, y = text.get_position()
        cells.setdefault((round(y), round(x)), []).append(text.get_text())
    assert cells[0, 0] == ["300", "75 %"] and cells[0, 2] == ["1", "< 1 %"]
    assert cells[1, 1] == ["0"] and cells[2, 1] == ["5", "50 %"]  # an empty class divides nothing
    assert len(cells) == 9
    shown = axes.images[0]
    assert not np.ma.is_masked(shown.get_array())
    assert shown.get_clim() == (0, 1) and shown.get_array()[2, 2] == 0.5
    dark = next(text for text in axes.texts if text.get_text() == "300")
    assert to_rgba(dark.get_color()) == to_rgba("white")


def test_more_curves_than_colours_are_all_drawn():
    # The seventh run had no curve, and nobody was told
    runs = {f"run {k}": history(3) for k in range(len(plots.COLOURS) + 2)}
    left, right = plots.curves(runs, LONG, chance=0.25, guess_loss=1.95).axes
    for axes in (left, right):
        shown = {text.get_text() for text in axes.get_legend().get_texts()}
        assert {f"{name} {split}" for name in runs for split in ("train", "val")} <= shown
