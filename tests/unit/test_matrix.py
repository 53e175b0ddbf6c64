"""The cross-data matrix: people, a crowd's majority, pictures met before, and tables with holes."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from lab import duplicates, matrix, matrix_cells, matrix_page
from lab.data import Faces
from lab.data_notes import DataNotes
from lab.datasets.ferplus import VOTE_NAMES
from lab.metrics import Evaluation
from lab.results import FaceProbabilities, Key, MeasuredNetwork, Result, Results
from lab.votes import leave_one_out, majority

CPU = torch.device("cpu")
NAMES = ("happy", "neutral", "sad")
HOME, AWAY = "f" * 16, "0" * 16


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def counts(**votes):
    return [votes.get(name, 0) for name in VOTE_NAMES]


def place(name):
    return VOTE_NAMES.index(name)


# --- people ---


def test_one_person_is_compared_with_the_others_and_not_with_themselves():
    # With their own vote in the majority, half of 5 : 5 would be right; left out, nobody is.
    votes = torch.tensor([
        counts(neutral=6, happiness=4), counts(neutral=5, happiness=5),
        counts(neutral=8, sadness=1, fear=1), counts(neutral=2, happiness=2, sadness=2, anger=2,
                                                     fear=2),
        counts(unknown=7, neutral=3),
    ])  # fmt: skip
    told = leave_one_out(votes, VOTE_NAMES)
    neutral, happy = place("neutral"), place("happiness")
    assert told[0].nonzero().tolist() == [[neutral, neutral], [neutral, happy]]
    assert told[0][neutral, neutral] == 6 and told[0][neutral, happy] == 4
    assert told[1][happy, neutral] == 5 and told[1][neutral, happy] == 5
    assert told[1].diagonal().sum() == 0
    assert told[2][neutral, neutral] == 8 and told[2][neutral, place("sadness")] == 1
    assert told[3].sum() == 0 and told[4].sum() == 0  # no majority for an expression


def test_a_person_without_whom_there_is_no_majority_counts_nowhere():
    # 5 of 9 is a majority; without one of the five it is 4 of 8, which is none
    votes = torch.tensor([counts(neutral=5, happiness=2, sadness=2)])
    assert majority(votes, VOTE_NAMES, NAMES).tolist() == [1]
    told = leave_one_out(votes, VOTE_NAMES)[0]
    # without a happy voter: neutral 5, sad 2 and a single vote, which counts as 0
    assert told.sum() == 4 and told[place("neutral"), place("neutral")] == 0


def test_the_error_of_people_is_that_of_faces():
    # Ten voters who agree about each face tell as much as one: 40 faces, not 400 answers.
    each = torch.zeros(40, 10, 10, dtype=torch.int64)
    each[:20, 0, 0] = 10
    each[20:, 0, 1] = 10
    low, high = matrix.ratio_interval(each)
    assert high - low == pytest.approx(2 * 1.96 * (0.25 / 40) ** 0.5, rel=1e-3)


# --- one picture in two data sets ---


def blots(count, side=96, seed=0):
    draw = np.random.default_rng(seed)
    noise = draw.integers(0, 256, (count, side, side), dtype=np.uint8)
    return [Image.fromarray(each).filter(ImageFilter.GaussianBlur(1.5)) for each in noise]


def recompressed(picture, path, side):
    picture.convert("RGB").resize((side, side)).save(path, quality=80)
    with Image.open(path) as opened:
        return opened.copy()


def image_rows(pictures, labels=None):
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    features = Features({"image": ImageFeature(), "label": ClassLabel(names=list(NAMES))})
    labels = labels or [k % 3 for k in range(len(pictures))]
    return Dataset.from_dict({"image": pictures, "label": labels}, features=features)


def test_a_picture_is_known_again_at_another_size_and_quality(here):
    known = blots(12)
    shown = [recompressed(known[3], here / "a.jpg", 56), *blots(5, seed=1), known[7]]
    found = duplicates.same_picture(
        duplicates.hashes(image_rows(known)), duplicates.hashes(image_rows(shown))
    )
    assert found.tolist() == [True, *[False] * 5, True]


# --- measuring ---


def data_set(name, mark, train, validation, test, votes=None):
    from datasets import DatasetDict

    splits = {"train": train, "validation": validation, "test": test}
    if votes:
        splits = {split: rows.add_column("votes", [votes[k % len(votes)] for k in range(len(rows))])
                  for split, rows in splits.items()}  # fmt: skip
    return Faces(DatasetDict(splits), name, mark)


@pytest.fixture
def setup(here):
    """Data at home with votes, every fourth majority contempt; data abroad whose first two
    validation pictures are training pictures at home."""
    train = blots(12)
    votes = [counts(happiness=10), counts(neutral=9, sadness=1), counts(contempt=10),
             counts(happiness=5, sadness=5)]  # fmt: skip
    home = data_set("home", HOME, image_rows(train), image_rows(blots(8, seed=1)),
                    image_rows(blots(8, seed=2)), votes)  # fmt: skip
    old = [recompressed(train[k], here / f"{k}.jpg", 56) for k in (0, 5)]
    train, new, test = (image_rows([*first, *blots(count, seed=count)])
                        for first, count in (([], 3), (old, 4), ([], 5)))  # fmt: skip
    away = data_set("away", AWAY, train, new, test)
    return matrix.Setup((home, away), here, CPU, "experiments.py matrix")


def network(name="net", digest="a" * 64, mark=HOME, **card):
    card = {"class_names": list(NAMES), "data": {"name": "home", "fingerprint": mark}, **card}
    return MeasuredNetwork(name, digest, card, 10)


class Knowing:
    """Answers "happy" for every face, and counts how often it is asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, faces, split):
        self.asked.append((faces.name, split))
        return torch.tensor([[2.0, 1.0, 0.0]]).repeat(len(faces.labels(split)), 1)


def rows_of(kept):
    return {row.folder: row for row in matrix_cells.read(kept).rows}


def cell_of(kept, row, heading, split="validation"):
    columns = {c.heading: c for c in matrix_cells.read(kept).columns(split)}
    return rows_of(kept)[row].cell(columns[heading], split)


def test_a_figure_of_some_faces_is_no_figure_of_the_column(setup):
    told = Evaluation(torch.eye(3, dtype=torch.int64), NAMES, 0.5)
    few = FaceProbabilities.of(np.eye(3, dtype=np.float32), np.arange(3), range(3), [0] * 3)
    key = Key("a" * 64, HOME, "validation", "plain")
    some = Result(key, "home", told, "quick", "abc", "cpu", "2026-01-01T00:00:00+00:00")
    setup.kept.add(network(), some, few)
    matrix.prepare(setup)
    with pytest.raises(ValueError, match=r"3 faces of home, validation, not on all 8.*--out"):
        matrix.measure_network(network(), Knowing(), setup)


def test_faces_that_a_network_trained_on_elsewhere_are_counted_apart(setup):
    matrix.prepare(setup)
    assert matrix.measure_network(network(), Knowing(), setup) == []
    stranger = network("stranger", "b" * 64, "9" * 16)
    matrix.measure_network(stranger, Knowing(), setup)
    kept = setup.kept
    notes = kept.data_notes()[AWAY]
    assert notes.in_training == {HOME: {"validation": [0, 1]}}
    whole, apart = (cell_of(kept, "net", name) for name in ("away", "away, not trained on"))
    assert (whole.told.n, apart.told.n) == (6, 4)
    assert cell_of(kept, "stranger", "away, not trained on") is None  # it knows none of them


def test_what_an_ancestor_trained_on_counts_as_seen(setup):
    matrix.prepare(setup)
    matrix.measure_network(network(), Knowing(), setup)
    child = network("child", "c" * 64, "9" * 16, learnt_from={"checkpoints/net.x": "a" * 64})
    matrix.measure_network(child, Knowing(), setup)
    assert cell_of(setup.kept, "child", "away, not trained on").told.n == 4


def test_the_crowd_s_majority_has_its_own_figures_with_and_without_contempt(setup):
    matrix.prepare(setup)
    matrix.measure_network(network(), Knowing(), setup)
    eight = cell_of(setup.kept, "net", "home-majority, 8 classes").told
    seven = cell_of(setup.kept, "net", "home-majority, 7 classes").told
    # of 8 faces, 2 have no majority, 2 are contempt, 2 neutral and 2 happy: all called happy
    assert (eight.k, eight.n, seven.k, seven.n) == (2, 6, 2, 4)
    labels = cell_of(setup.kept, "net", "home").told
    assert (labels.k, labels.n) == (3, 8)
    person = cell_of(setup.kept, matrix.PEOPLE, "home-majority, 7 classes")
    assert (person.told.k, person.told.n) == (38, 40) and person.interval is not None


def test_nothing_is_measured_twice_and_the_test_split_is_opened_once(setup):
    final, asked = replace(setup, final=True), Knowing()
    for each in (setup, final, final):
        matrix.prepare(each)
        matrix.measure_network(network(), asked, each)
    assert len(asked.asked) == len(set(asked.asked)) == 4
    openings = [(o.checkpoint, o.data) for o in setup.kept.openings()]
    assert sorted(openings) == sorted([
        ("net", "home"), ("net", "away"), ("net", "home-majority"),
        (matrix.PEOPLE, "home"), (matrix.PEOPLE, "home-majority"),
    ])  # fmt: skip


def test_a_network_without_one_of_the_classes_is_left_out_and_named(setup):
    matrix.prepare(setup)
    few = network("few", "d" * 64, class_names=["happy", "sad"])
    left_out = matrix.measure_network(few, Knowing(), setup)
    assert len(left_out) == 2 and "neutral" in left_out[0] and "home" in left_out[0]


def test_two_data_sets_of_one_name_are_refused(setup):
    home, away = setup.data_sets
    with pytest.raises(ValueError, match="home"):
        matrix.prepare(replace(setup, data_sets=(home, replace(away, name="home"))))


def test_calibration_counts_the_faces_of_its_column(setup):
    # Sure of "happy" with 0.67 for every face; 2 of 6 right with contempt, 2 of 4 without.
    matrix.prepare(setup)
    warm = network(temperature=2.0)
    matrix.measure_network(warm, Knowing(), setup)
    row, columns = rows_of(setup.kept)["net"], matrix_cells.read(setup.kept).columns("validation")
    told = {c.heading: row.calibration(c, "validation") for c in columns}
    sure = torch.tensor([2.0, 1.0, 0.0]).softmax(0)[0].item()
    assert told["home-majority, 8 classes"][0] == pytest.approx(sure - 2 / 6, abs=2e-3)
    assert told["home-majority, 7 classes"][0] == pytest.approx(sure - 2 / 4, abs=2e-3)
    assert told["home"][1] != told["home"][0]  # with the card's temperature
    person = rows_of(setup.kept)[matrix.PEOPLE]
    assert all(person.calibration(column, "validation") is None for column in columns)


# --- the page ---


def result(confusion, data, mark, split="validation", digest="a" * 64):
    told = Evaluation(torch.tensor(confusion), NAMES, 0.5)
    return Result(Key(digest, mark, split, "plain"), data, told, "a command", "abc", "cpu", "now")


def stored(kept):
    """Two networks: one on both data sets, one on the first and a third without notes."""
    for name, mark in (("home", HOME), ("away", AWAY)):
        kept.add_notes(DataNotes(name, mark, faces={"validation": 15}))
    one, other = network("one"), network("other", "b" * 64, kind="peer", trained_on="unknown")
    kept.add(one, result([[5, 0, 0], [0, 5, 0], [1, 0, 4]], "home", HOME))
    kept.add(one, result([[1, 0, 0], [0, 1, 0], [0, 2, 0]], "away", AWAY))
    kept.add(other, result([[3, 2, 0], [0, 5, 0], [0, 0, 5]], "home", HOME, digest="b" * 64))
    kept.add(other, result([[3, 2, 0]] * 3, "third", "7" * 16, digest="b" * 64))
    return kept


def line_of(page, heading, row):
    lines = page[page.index(heading) :].splitlines()
    return next(line for line in lines if line.startswith(f"| `{row}`"))


def test_a_cell_that_was_not_measured_is_a_dash_in_its_place(tmp_path):
    page = matrix_page.write(stored(Results(tmp_path))).read_text(encoding="utf-8")
    assert "| Row | Trained on | home | away |" in page
    cells = line_of(page, "### Accuracy", "other").split(" | ")
    assert "13/15" in cells[2] and cells[3].strip(" |") == "–"
    assert "2/4" in line_of(page, "### Accuracy", "one").split(" | ")[3]
    assert "–" in line_of(page, "### Recall of each class: away", "other")
    assert (tmp_path / "matrix-validation.png").exists()
    assert "## Test" not in page and not (tmp_path / "matrix.png").exists()


def test_mean_recall_counts_classes_and_says_how_little_a_few_faces_tell(tmp_path):
    kept = stored(Results(tmp_path))
    home, away = cell_of(kept, "one", "home"), cell_of(kept, "one", "away")
    assert home.mean_recall == pytest.approx(14 / 15) and away.mean_recall == pytest.approx(2 / 3)
    wide = [high - low for low, high in (home.mean_recall_interval, away.mean_recall_interval)]
    assert wide[1] > 1.5 * wide[0] > 0


def test_a_class_that_people_could_not_name_can_be_left_out(tmp_path):
    kept, names = Results(tmp_path), ("happy", "disgust")
    kept.add_notes(DataNotes("muxspace", AWAY, faces={"validation": 4}))
    kept.add_notes(DataNotes("home", HOME))
    one = network("one", class_names=list(names))
    told = Evaluation(torch.tensor([[2, 0], [2, 0]]), names, 0.5)
    for data, mark in (("muxspace", AWAY), ("home", HOME)):
        key = Key("a" * 64, mark, "validation", "plain")
        kept.add(one, Result(key, data, told, "a command", "abc", "cpu", "now"))
    page = matrix_page.write(kept).read_text(encoding="utf-8")
    cells = line_of(page, "### Mean recall", "one").split(" | ")
    assert cells[2].startswith("0.500") and cells[-1].startswith("1.000")


def test_one_data_set_makes_no_matrix(tmp_path):
    kept = Results(tmp_path)
    kept.add_notes(DataNotes("home", HOME))
    kept.add(network(), result([[5, 0, 0], [0, 5, 0], [0, 0, 5]], "home", HOME))
    assert matrix_page.write(kept) is None and not (tmp_path / "MATRIX.md").exists()


def test_facts_about_a_data_set_are_added_to_and_never_replaced(tmp_path):
    kept = Results(tmp_path)
    kept.add_notes(DataNotes("home", HOME, in_training={AWAY: {"validation": [3]}}))
    kept.add_notes(DataNotes("home", HOME, in_training={AWAY: {"validation": [], "test": [4]}}))
    assert kept.data_notes()[HOME].in_training == {AWAY: {"validation": [3], "test": [4]}}


def test_people_have_no_loss_and_their_file_is_still_json(tmp_path):
    import json

    kept = Results(tmp_path)
    told = Evaluation(torch.eye(3, dtype=torch.int64), NAMES, float("nan"))
    one = result([[1, 0, 0], [0, 1, 0], [0, 0, 1]], "home", HOME)
    path = kept.add(network(), replace(one, evaluation=told)).path
    json.loads(path.read_text(), parse_constant=lambda word: pytest.fail(word))
    assert np.isnan(kept.read(path).evaluation.loss)
    answers = FaceProbabilities.of(np.eye(3, dtype=np.float32), [0, 1, 2], range(3), [False] * 3)
    assert kept.add(network(), one, answers).answers is not None


def test_the_committed_page_says_what_the_committed_results_say(tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    root = Path(matrix_page.__file__).parents[1] / "results"
    shutil.copytree(root, tmp_path / "results", ignore=shutil.ignore_patterns("*.png", "*.txt"))
    monkeypatch.setattr(matrix_page.matrix_plot, "draw", lambda *_: plt.figure(figsize=(1, 1)))
    page = matrix_page.write(Results(tmp_path / "results"))
    assert page.read_text(encoding="utf-8") == (root / page.name).read_text(encoding="utf-8")
