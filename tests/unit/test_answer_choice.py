"""lab/answer_choice.py: the rule that makes one answer of several heads, point by point."""

import pytest
import torch

from lab.answer_choice import Way, choose, grid, mean_recall, share_right


def way(
    label: float, majority: float, *elsewhere: float, correction: float = 0.0, votes: float = 0.0
) -> Way:
    return Way({"label": 1 - votes, "votes": votes}, correction, label, majority, elsewhere)


def test_the_grid_is_the_simplex_in_quarters_with_three_corrections() -> None:
    for heads, count in ((1, 1), (2, 5), (3, 15)):
        points = list(grid([f"head{k}" for k in range(heads)]))
        assert len(points) == 3 * count
        assert all(sum(weights.values()) == 1 for weights, _ in points)
        assert {correction for _, correction in points} == {0, 0.25, 0.5}
    weights = [tuple(w.values()) for w, c in grid(["label", "votes"]) if c == 0]
    assert weights == [(1, 0), (0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0, 1)]


def test_the_highest_mean_counts_only_within_both_bounds() -> None:
    # The first has the highest mean, but 65 % of the labels; the second 82 % of the majority.
    ways = [way(0.65, 0.90, 0.70), way(0.70, 0.82, 0.70), way(0.66, 0.83, 0.60),
            way(0.66, 0.83, 0.61)]  # fmt: skip
    assert choose(ways) == 3


def test_where_no_answer_keeps_both_bounds_the_highest_mean_is_taken() -> None:
    ways = [way(0.60, 0.84), way(0.70, 0.80), way(0.65, 0.80)]
    assert choose(ways) == 1 and not ways[1].within_bounds


def test_ties_go_to_the_smaller_correction_then_to_more_even_weights() -> None:
    ways = [way(0.7, 0.85, correction=0.25, votes=0.5), way(0.7, 0.85), way(0.7, 0.85, votes=0.75)]
    assert choose(ways) == 2
    assert choose([ways[2], ways[1], ways[0]]) == 0
    # 0.1 + 0.2 is not 0.3 in binary: such a difference is none
    assert choose([way(0.7, 0.85, 0.3, correction=0.5), way(0.7, 0.85, 0.1 + 0.2)]) == 1


def test_recall_leaves_out_what_nobody_could_name_on_muxspace_alone() -> None:
    labels, preds = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 1, 1, 1, 0])
    names = ("happy", "neutral", "disgust")
    assert mean_recall(preds, labels, names, "muxspace") == 0.75  # 1/2 and 2/2
    assert mean_recall(preds, labels, names, "street") == pytest.approx(0.5)  # and 0/1
    with pytest.raises(ValueError, match="muxspace"):
        mean_recall(preds[4:], labels[4:], names, "muxspace")


def test_faces_without_a_majority_do_not_count() -> None:
    assert share_right(torch.tensor([0, 1, 2]), torch.tensor([0, 0, -1])) == 0.5
    with pytest.raises(ValueError, match="majority"):
        share_right(torch.tensor([0]), torch.tensor([-1]))
