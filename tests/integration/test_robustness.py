"""Robustness and label noise: what is measured, what stays closed, and the pages made from it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from datasets import DatasetDict, concatenate_datasets

from expression.checkpoint import read_card
from lab import comparison, evaluation, label_noise, plots, robustness, robustness_report
from lab.checks import UsageError
from lab.commands import run_command
from lab.corruptions import SEVERITIES
from lab.data import Faces, Packed
from lab.datasets.cleaned import read_changes
from lab.datasets.ferplus import VOTE_NAMES
from lab.options import LabelNoise, Robustness
from lab.parsing import parse
from lab.results import Results, file_sha256

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def faces(splits: DatasetDict, checkpoint: Path) -> Faces:
    """20 faces of validation, and 3 more that are in train too; 10 of test."""
    validation = concatenate_datasets([
        splits["validation"].select(range(20)), splits["train"].select([0, 1, 2])
    ])  # fmt: skip
    parts = {"train": splits["train"], "validation": validation,
             "test": splits["test"].select(range(10))}  # fmt: skip
    return Faces(DatasetDict(parts), "drawn", read_card(checkpoint)["data"]["fingerprint"])


@pytest.fixture(scope="module")
def measured_once(checkpoint: Path, faces: Faces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("robust")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        robustness.measure(checkpoint, faces, folder, CPU, 0, False)
    return folder / "results"


@pytest.fixture
def measured(measured_once: Path, here: Path) -> Path:
    return Path(shutil.copytree(measured_once, here / "results"))


def no_pictures(*_: Any, **__: Any) -> None:
    raise AssertionError("pictures were looked at")


# --- robustness ---


def test_only_unseen_validation_faces_are_measured(measured: Path, checkpoint: Path) -> None:
    (told,) = robustness.read_all(measured)
    assert (told.split, told.n, told.available, told.size) == ("validation", 20, 20, 23)
    assert told.sha256 == file_sha256(checkpoint)
    assert told.correct.keys() == SEVERITIES.keys()
    assert Results(measured).openings() == []


def test_the_clean_count_is_that_of_evaluate(
    measured: Path, checkpoint: Path, faces: Faces, here: Path
) -> None:
    # Another preprocessing than serving's would measure itself, not the corruptions.
    evaluation.evaluate(checkpoint, faces, here, CPU, ways=("plain",))
    ((_, (result,)),) = Results(measured).networks()
    assert result.unseen is not None
    assert robustness.read_all(measured)[0].clean == result.unseen.k


def test_the_one_number_is_the_mean_over_corruptions_and_severities(measured: Path) -> None:
    (told,) = robustness.read_all(measured)
    counts = np.array(list(told.correct.values()))
    assert counts.shape == (9, 5)
    assert told.mean_relative_accuracy == pytest.approx((counts / told.clean).mean())
    assert told.interval_95[0] <= told.mean_relative_accuracy <= told.interval_95[1]


def test_what_was_measured_is_not_measured_again(
    measured: Path, checkpoint: Path, faces: Faces, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robustness, "right_answers", no_pictures)
    (file,) = robustness.measure(checkpoint, faces, here, CPU, 0, False)
    before = file.read_bytes()
    # Other severities, or other data of the same name, must not pass for this measurement.
    monkeypatch.setitem(robustness.SEVERITIES, "blur", (1.0, 2.0, 3.0, 4.0, 5.0))
    with pytest.raises(ValueError, match="severities"):
        robustness.measure(checkpoint, faces, here, CPU, 0, False)
    monkeypatch.undo()
    others = Faces(faces.splits, "drawn", "0" * 16)
    monkeypatch.chdir(here)
    with pytest.raises(ValueError, match="other data"):
        robustness.measure(checkpoint, others, here, CPU, 0, False)
    assert file.read_bytes() == before


def test_the_test_split_is_opened_by_final_alone_and_logged_before(
    measured: Path, checkpoint: Path, faces: Faces, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robustness, "right_answers", no_pictures)
    with pytest.raises(AssertionError):
        robustness.measure(checkpoint, faces, here, CPU, 0, True)
    (opening,) = Results(measured).openings()
    assert opening.views == ["robustness"] and "--final" in opening.command


def test_a_limit_gives_every_network_the_same_faces(faces: Faces) -> None:
    some = robustness.rows_of(faces, "validation", 7)
    assert len(some) == 7 and set(some) < set(range(20))
    assert np.array_equal(some, robustness.rows_of(faces, "validation", 7))
    with pytest.raises(ValueError, match="-1"):
        robustness.rows_of(faces, "validation", -1)


def test_a_file_that_was_edited_is_refused(measured: Path) -> None:
    (file,) = measured.glob("*/robustness/*.json")
    told = json.loads(file.read_text())
    told["correct"]["blur"][0] += 1
    file.write_text(json.dumps(told))
    with pytest.raises(ValueError, match="counts give"):
        robustness.read(file)
    file.write_text("{}")
    with pytest.raises(ValueError, match=file.name):
        robustness.read(file)


def test_the_page_has_every_network_and_its_figures(measured: Path) -> None:
    text = "\n".join(robustness_report.section(measured))
    (told,) = robustness.read_all(measured)
    assert f"{100 * told.mean_relative_accuracy:.1f} %" in text and f"{told.clean}/20" in text
    assert told.command in text
    for figure in ("robustness-corruptions.png", "robustness-drawn-validation-20.png"):
        assert figure in text and (measured / figure).stat().st_size > 10_000
    assert robustness_report.section(measured / "nothing") == []


# --- label noise ---


@pytest.fixture(scope="module")
def voted(faces: Faces) -> Packed:
    """The drawn faces, with votes; the crowd contradicts every fourth label."""
    from expression.face_detector import CropRule
    from expression.preprocessing import Preprocess

    decoded = faces.decoded(Preprocess(48, "L"))
    column = [VOTE_NAMES.index(name) for name in ("happiness", "neutral", "sadness")]
    votes = {}
    for split, rows in decoded.items():
        counts = torch.zeros(len(rows), 10, dtype=torch.uint8)
        for row, label in enumerate(rows.labels.tolist()):
            counts[row, column[(label + (row % 4 == 0)) % 3]] = 8
            counts[row, VOTE_NAMES.index("contempt")] = 2
        votes[split] = counts
    crop = CropRule(measured=90).settings()
    return Packed(decoded, "drawn", faces.fingerprint, crop, votes, VOTE_NAMES)


def test_networks_on_other_faces_of_the_same_name_are_not_compared(measured: Path) -> None:
    (one,) = robustness.read_all(measured)[:1]
    other = replace(one, name="other", fingerprint="0" * 16)
    found = robustness.groups([one, other, replace(one, name="third")])
    key = (one.data, one.split, one.n)
    assert [told.name for told in found[key]] == [one.name, "third"]
    assert [told.name for told in found[(f"{one.data}-00000000", *key[1:])]] == ["other"]


def test_every_network_has_a_line() -> None:
    # The seventh network stood in the table and not in the figure
    correct = dict.fromkeys(SEVERITIES, [50, 40, 30, 20, 10])
    severities = {name: list(amounts) for name, amounts in SEVERITIES.items()}
    names = [f"net {k}" for k in range(len(plots.COLOURS) + 2)]
    here = [robustness.Robustness(name, "sha", "drawn", "f", "validation", 100, 100, 100, 60,
                                  correct, (0.4, 0.6), severities, "", "", "", "")
            for name in names]  # fmt: skip
    figure = robustness_report.curves(here, "the point")
    assert [line.get_label() for line in figure.axes[0].lines] == names
    plt.close(figure)


def test_doubted_labels_are_listed_and_test_faces_are_not(
    voted: Packed, checkpoint: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = voted.decoded
    without = {"train", "validation"}
    monkeypatch.setattr(
        Packed, "decoded", lambda self, rule: {s: r for s, r in decoded(rule).items()
                                               if s in without})  # fmt: skip
    page, table = label_noise.label_noise(voted, [checkpoint], "answer", here, CPU)
    told, changes = json.loads(page.read_text()), read_changes(table)
    assert told["splits"]["test"]["most_voted"] == {"k": 7, "n": 10, "tied": 0}
    assert told["networks"][0]["taught"] == ["labels"]
    against = told["networks"][0]["where_crowd_contradicts"]
    assert against["train"]["n"] == 23 and against["validation"]["n"] == 6
    assert told["listed"] == {split: n["with_crowd"] for split, n in against.items()}
    assert len(changes) == sum(told["listed"].values()) > 0
    assert {change.split for change in changes} <= without
    for change in changes:
        row = change.number - (90 if change.split == "validation" else 0)
        assert row % 4 == 0 and change.label != change.cleaned_label
        assert voted.class_names[int(voted.labels(change.split)[row])] == change.label


def test_the_page_has_ceilings_classes_and_networks(
    voted: Packed, faces: Faces, checkpoint: Path, here: Path
) -> None:
    evaluation.evaluate(checkpoint, faces, here, CPU, ways=("plain",))
    label_noise.label_noise(voted, [checkpoint], "answer", here, CPU)
    text = comparison.compare(here / "results").read_text()
    assert "17/23 = 73.9 %" in text and "cleaned_labels-drawn.csv" in text
    for figure in ("label_noise-drawn-ceiling.png", "label_noise-drawn-confusion.png"):
        assert figure in text and (here / "results" / figure).stat().st_size > 10_000


def test_a_head_that_a_network_lacks_is_named(
    voted: Packed, faces: Faces, checkpoint: Path, here: Path
) -> None:
    with pytest.raises(ValueError, match="votes.*label"):
        label_noise.label_noise(voted, [checkpoint], "votes", here, CPU)
    with pytest.raises(ValueError, match="--votes"):
        label_noise.label_noise(faces, [checkpoint], "answer", here, CPU)


# --- the command line ---


def test_both_commands_are_parsed() -> None:
    command, _ = parse(["robustness", "a.safetensors", "--limit", "5", "--final"])
    assert isinstance(command, Robustness) and (command.limit, command.final) == (5, True)
    command, _ = parse(["label_noise", "a.safetensors", "--votes", "v.csv", "--head", "votes"])
    assert isinstance(command, LabelNoise) and command.head == "votes"


def test_cleaned_labels_that_are_not_there_are_named_before_data_are_loaded(here: Path) -> None:
    command, _ = parse(["label_noise", "--data", "nowhere", "--cleaned-labels", "missing.csv"])
    with pytest.raises((UsageError, FileNotFoundError), match="missing.csv"):
        run_command(command, {}, "")
