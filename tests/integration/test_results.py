"""results/: each figure belongs to one file and one data set, and nothing replaces it."""

import json
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import experiments
from expression.checkpoint import read_card
from lab import comparison, duplicates, evaluation, flagship, model_card, reports, robustness
from lab.data import Faces, pack, read
from lab.datasets import fer2013, hub
from lab.export import save_network
from lab.metrics import VIEWS, Evaluation
from lab.provenance import ancestors, joined_history, on_cpu, totals
from lab.recipes import RECIPES
from lab.results import (
    FaceProbabilities,
    Key,
    MeasuredNetwork,
    Opening,
    Result,
    Results,
    file_sha256,
)

pytestmark = pytest.mark.slow
ROOT = Path(experiments.__file__).parent
CPU = torch.device("cpu")
NAMES = ("happy", "neutral", "sad")
PLAIN = ("validation", "plain")
SMALL = ["--size", "24", "--batch-size", "32", "--epochs", "1", "--device", "cpu"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def same_picture_twice(splits):
    """The drawn faces, of which the first three of test and one of validation are in train."""
    from datasets import DatasetDict, concatenate_datasets

    test = concatenate_datasets(
        [splits["train"].select([5, 6, 7]), splits["test"].select(range(9))]
    )
    val = concatenate_datasets([splits["validation"], splits["train"].select([0])])
    return DatasetDict({"train": splits["train"], "validation": val, "test": test})


@pytest.fixture(scope="module")
def faces(splits, checkpoint):
    """Called the checkpoint's own data, so that "in train" is about its training."""
    mark = read_card(checkpoint)["data"]["fingerprint"]
    return Faces(same_picture_twice(splits), "drawn", mark)


@pytest.fixture(scope="module")
def others(splits):
    return Faces(splits, "others", "0" * 16)


@pytest.fixture(scope="module")
def measured_once(checkpoint, faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        evaluation.evaluate(checkpoint, faces, folder, CPU, final=True)
    return folder / "results"


@pytest.fixture
def measured(measured_once, here):
    return Results(shutil.copytree(measured_once, here / "results"))


@pytest.fixture(scope="module")
def trained(splits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    splits.save_to_disk(folder / "drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        experiments.main(["train", "tinyvgg", "--data", "drawn", *SMALL])
    return folder


def digests(folder):
    return {p.relative_to(folder): sha256(p.read_bytes()).hexdigest()
            for p in folder.rglob("*") if p.is_file()}  # fmt: skip


def made(confusion, split="validation", views="plain", digest="a" * 64, data="drawn", mark="f"):
    told = Evaluation(torch.tensor(confusion), NAMES, 0.5)
    key = Key(digest, mark * 16, split, views)
    return Result(key, data, told, "a command", "abc", "cpu", "2026-01-01T00:00:00+00:00")


def network(name="net-drawn", digest="a" * 64, **card):
    card = {"seed": 0, "data": {"name": "drawn", "fingerprint": "f" * 16}, "command": "make it",
            "revision": "abc", "hardware": "cpu", "minutes": 2.0, **card}  # fmt: skip
    return MeasuredNetwork(name, digest, card, 100)


DIAGONAL = [[5, 0, 0], [0, 5, 0], [0, 0, 5]]
MIXED = [[4, 1, 0], [0, 5, 0], [2, 0, 3]]


# --- one key, one result ---


def test_another_data_set_leaves_the_first_ones_figures(checkpoint, faces, others, here):
    # Once, measuring a network on other faces replaced its figures, under the old data's name.
    folder = evaluation.evaluate(checkpoint, faces, here, CPU)
    before = digests(folder)
    assert evaluation.evaluate(checkpoint, others, here, CPU) == folder
    after = digests(folder)
    assert {path: after[path] for path in before} == before
    told = {(r.data, r.key.fingerprint) for r in Results(here / "results").measured(checkpoint)}
    assert told == {("drawn", faces.fingerprint), ("others", "0" * 16)}


def test_other_data_of_the_same_name_stay_apart(tmp_path):
    kept = Results(tmp_path)
    first = kept.add(network(), made(DIAGONAL))
    second = kept.add(network(), made(MIXED, mark="0"))
    assert first.path != second.path and kept.read(first.path).evaluation.k == 15
    assert kept.read(second.path).key.fingerprint == "0" * 16


def test_figures_of_other_data_of_the_same_name_stay_apart(tmp_path):
    # The JSON files stayed apart; the report and the figures of the first data were replaced
    kept = Results(tmp_path)
    for confusion, mark, accuracy in ((DIAGONAL, "f", "15/15"), (MIXED, "0", "12/15")):
        result = kept.add(network(), made(confusion, mark=mark))
        evaluation.draw_all(network(), [result], result.path.parent)
        before = {path: path.read_text() for path in tmp_path.rglob("*-report.txt")}
        assert sum(accuracy in text for text in before.values()) == 1
    assert len(before) == 2 and sum("15/15" in text for text in before.values()) == 1
    assert len(list(tmp_path.rglob("*-confusion.png"))) == 2


def test_another_file_of_the_same_name_stays_apart(tmp_path):
    kept = Results(tmp_path)
    first = kept.add(network(), made(DIAGONAL))
    second = kept.add(network(digest="b" * 64), made(MIXED, digest="b" * 64))
    assert first.path.parent != second.path.parent
    told = {n.sha256[0]: [r.evaluation.k for r in results] for n, results in kept.networks()}
    assert told == {"a": [15], "b": [12]}
    labels = [row.name for row in reports.read(kept)]
    assert "net" in labels and f"net ({'b' * 12})" in labels  # told apart in tables, too


def test_a_result_is_written_once(tmp_path):
    kept = Results(tmp_path)
    first = kept.add(network(), made(DIAGONAL))
    before = digests(tmp_path)
    again = kept.add(network(), made(MIXED))
    assert again.path == first.path and again.evaluation.k == 15 and digests(tmp_path) == before


def test_a_result_of_another_file_in_the_folder_is_refused(tmp_path):
    kept = Results(tmp_path)
    path = kept.add(network(), made(DIAGONAL)).path
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "checkpoint": {"name": "net", "sha256": "c" * 64}}))
    with pytest.raises(ValueError, match=path.name):
        kept.networks()


@pytest.mark.parametrize(
    "change", [{"k": 14}, {"confusion": None}, {"split": None, "data": 3}, {"n": 99}]
)
def test_a_result_that_contradicts_itself_is_named(tmp_path, change):
    kept = Results(tmp_path)
    path = kept.add(network(), made(DIAGONAL)).path
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=path.name):
        kept.read(path)


# --- face by face ---


def test_accuracy_can_be_recomputed_from_the_probabilities(measured, checkpoint, faces):
    for result in measured.measured(checkpoint):
        answers = result.answers
        right = answers.probabilities.argmax(1) == answers.labels
        assert (int(right.sum()), len(right)) == (result.evaluation.k, result.evaluation.n)
        assert answers.labels.tolist() == faces.labels(result.key.split).tolist()
        assert np.allclose(answers.probabilities.sum(1), 1, atol=2e-3)


def test_half_precision_never_changes_an_answer():
    close = np.float32([[0.33333, 0.33334, 0.33333], [0.2, 0.3, 0.5]])
    assert close.astype(np.float16).argmax(1)[0] == 0  # it would have
    told = FaceProbabilities.of(close, [1, 2], [0, 1], [False, False])
    assert told.probabilities.argmax(1).tolist() == [1, 2]
    assert FaceProbabilities.of(close[1:], [2], [1], [False]).probabilities.dtype == np.float16


def test_probabilities_that_belong_to_other_figures_are_refused(measured, checkpoint):
    one, other = measured.measured(checkpoint)[:2]
    assert one.evaluation.n == other.evaluation.n or one.key.split != other.key.split
    path = measured.add(network(), made(DIAGONAL)).path
    shutil.copy(one.path.with_suffix(".npz"), path.with_suffix(".npz"))
    with pytest.raises(ValueError, match=path.with_suffix(".npz").name):
        _ = measured.read(path).answers


def test_probabilities_join_an_old_result_only_where_they_agree(tmp_path):
    kept, labels = Results(tmp_path), np.repeat([0, 1, 2], 5)
    old = kept.add(network(), made(DIAGONAL))
    assert old.answers is None and old.unseen is None
    wrong = FaceProbabilities.of(
        np.eye(3, dtype=np.float32)[labels[::-1]], labels, range(15), [0] * 15
    )
    assert kept.add(network(), made(MIXED), wrong).answers is None
    right = FaceProbabilities.of(
        np.eye(3, dtype=np.float32)[labels], labels, range(15), [1] * 5 + [0] * 10
    )
    told = kept.add(network(), made(DIAGONAL), right)
    assert told.answers is not None and (told.unseen.k, told.unseen.n) == (10, 10)
    assert told.date == old.date


def test_the_agreement_with_a_crowd_joins_an_old_result_only_where_they_agree(tmp_path):
    kept, crowd = Results(tmp_path), {"majority": {"k": 3, "n": 4}}
    old = kept.add(network(), made(DIAGONAL))
    assert kept.add(network(), replace(made(MIXED), crowd=crowd)).crowd is None
    told = kept.add(network(), replace(made(DIAGONAL), crowd=crowd, date="2027"))
    assert told.crowd == crowd and told.date == old.date
    assert kept.add(network(), replace(made(DIAGONAL), crowd={"other": 1})).crowd == crowd


def test_what_a_killed_process_left_is_no_result(tmp_path):
    kept = Results(tmp_path)
    path = kept.add(network(), made(DIAGONAL)).path
    path.with_name(f".{path.stem}.1.tmp.json").write_text('{"checkpoint":')
    assert len(kept.networks()[0][1]) == 1


def test_a_seed_is_chosen_by_the_data_that_it_was_trained_on(trained, here):
    file = trained / "checkpoints" / "tinyvgg-drawn.safetensors"
    digest, home = file_sha256(file), read_card(file)["data"]["fingerprint"]
    kept, told = Results(here), network(file.stem, digest)
    kept.add(told, replace(made(DIAGONAL, digest=digest), key=Key(digest, home, *PLAIN)))
    kept.add(told, made(MIXED, digest=digest, data="elsewhere", mark="0"))
    assert flagship.validation_accuracy(kept, file) == 1


# --- faces that are in train too ---


def test_faces_that_are_in_train_are_found_and_told(faces, here, capsys, splits):
    assert faces.in_train["test"].tolist() == [True] * 3 + [False] * 9
    assert faces.in_train["validation"].nonzero()[0].tolist() == [45]
    packed = pack(faces, here / "drawn.npz", side=48)
    again = read(str(packed))
    for split in ("validation", "test"):
        assert (again.in_train[split] == faces.in_train[split]).all()
    out = capsys.readouterr().out
    assert "3 of 12 test" in out and "1 of 46 validation" in out
    assert duplicates.report(duplicates.in_train(splits)) == []


def test_networks_of_one_name_that_learnt_from_other_data_are_no_seeds_of_one_another():
    # The mean of two such networks, 67.6 ± 3.3 %, stood where the better one's row was missing
    more = {"name": "drawn", "fingerprint": "f" * 16, "further": [{"name": "press"}]}
    networks = [
        network("net-drawn"),
        network("net-drawn-seed1", "b" * 64, seed=1),
        network("net", "c" * 64, data=more, heads=["label", "votes"]),
    ]
    result = made(MIXED)
    rows = [reports.Row(n, n.name, "drawn", {("validation", "plain"): result}) for n in networks]
    systems = reports.by_system(rows)
    assert {name: [row.folder for row in seeds] for name, seeds in systems.items()} == {
        "net-drawn": ["net-drawn", "net-drawn-seed1"],
        "net": ["net"],
    }
    table = reports.table(rows)
    assert table.count("2 seeds") == 1 and "| `net` |" in table and "| `net-drawn` |" in table


def test_runs_of_another_recipe_are_no_seeds_of_one_another():
    # 20 epochs with seed 0 and 1 epoch with seed 1 were told as "2 seeds 60.0 ± 42.4 %"
    usual, seeds = RECIPES["tinyvgg"], ("", "-seed1", "-seed2")
    recipes = [usual.as_dict(), replace(usual, epochs=1).as_dict(), usual.as_dict()]
    del recipes[2]["prior_correction"]  # as an older card, which has the default all the same
    networks = [
        network(f"tinyvgg-drawn{end}", digit * 64, seed=seed, recipe=recipe)
        for seed, (end, digit, recipe) in enumerate(zip(seeds, "abc", recipes, strict=True))
    ]
    result = made(MIXED)
    rows = [reports.Row(n, n.name, "drawn", {("validation", "plain"): result}) for n in networks]
    systems = reports.by_system(rows)
    assert {name: [row.seed for row in seeds] for name, seeds in systems.items()} == {
        "tinyvgg-drawn": [0, 2],
        "tinyvgg-drawn-seed1": [1],
    }
    assert len(reports.by_system([replace(row, data="other") for row in rows])) == 2


def test_the_same_name_twice_is_two_rows_on_foreign_data_too():
    home = {"name": "home", "fingerprint": "0" * 16}
    networks = [network("net-home", digit * 64, data=home) for digit in "ab"]
    folders, result = ("net-home", f"net-home-{'b' * 12}"), made(MIXED)
    rows = [
        reports.Row(n, folder, "drawn", {("validation", "plain"): result})
        for n, folder in zip(networks, folders, strict=True)
    ]
    assert sorted(len(seeds) for seeds in reports.by_system(rows).values()) == [1, 1]


def test_a_recorded_command_tells_what_was_done_to_the_data_not_what_their_name_looks_like():
    # A set of one's own called emotions_4 was recorded as --data emotions --classes 4
    for verb in (
        lambda f: evaluation.command_of("evaluate", [Path("x.safetensors")], f, ["plain"], False),
        lambda f: robustness.command_of(Path("x.safetensors"), f, 0, False),
    ):
        told = verb(Faces(None, "emotions_4", "f"))
        assert "--data emotions_4" in told and "--classes" not in told
        told = verb(Faces(None, "my_cleaned", "f"))
        assert "--data my_cleaned" in told and "--cleaned-labels" not in told
        told = verb(Faces(None, "faces_cleaned_4", "f", cleaned="a" * 64, merged=True))
        assert "--data faces --cleaned-labels" in told and told.endswith("--classes 4")


@pytest.mark.parametrize("form", ["csv", "parquet", "save_to_disk", "hub", "folder"])
def test_faces_that_are_in_train_are_told_whatever_the_form(form, here, capsys, monkeypatch):
    # A network has seen them: whoever reads a CSV must learn it as whoever reads folders.
    lines = ["emotion,pixels,Usage"]
    for split, seeds in (
        ("Training", range(8)),
        ("PublicTest", (0, 8)),
        ("PrivateTest", (0, 1, 9)),
    ):
        for seed in seeds:
            pixels = np.random.default_rng(seed).integers(0, 256, 48 * 48)
            lines.append(f"{seed % 2},{' '.join(map(str, pixels))},{split}")
    (here / "fer2013.csv").write_text("\n".join(lines))
    where, rows = "fer2013.csv", fer2013.load(here / "fer2013.csv", progress=False)
    if form == "save_to_disk":
        rows.save_to_disk(where := "saved")
    elif form == "hub":
        monkeypatch.setattr(hub, "load", lambda *_, **__: rows)
        where = "owner/faces"
    elif form != "csv":
        where = form
        for split, part in rows.items():
            (here / form).mkdir(exist_ok=True)
            if form == "parquet":
                part.to_parquet(here / form / f"{split}.parquet")
                continue
            for row, face in enumerate(part):
                file = here / form / split / fer2013.CLASS_NAMES[face["label"]] / f"{row}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                face["image"].save(file)
    assert {split: len(part) for split, part in read(where).splits.items()} == {
        "train": 8, "validation": 2, "test": 3,
    }  # fmt: skip
    out = capsys.readouterr().out
    assert "1 of 2 validation" in out and "2 of 3 test" in out


def test_the_same_picture_in_another_file_format_is_found(here):
    from datasets import Dataset, DatasetDict, Features
    from datasets import Image as ImageFeature

    noise = np.random.default_rng(0).integers(0, 256, (2, 9, 9), dtype=np.uint8)
    for name, pixels in (("a.png", noise[0]), ("b.bmp", noise[0]), ("c.png", noise[1])):
        Image.fromarray(pixels).save(here / name)

    def rows(*names):
        return Dataset.from_dict({"image": [str(here / n) for n in names]},
                                 features=Features({"image": ImageFeature()}))  # fmt: skip

    splits = DatasetDict({"train": rows("a.png"), "test": rows("b.bmp", "c.png")})
    assert duplicates.in_train(splits)["test"].tolist() == [True, False]


def test_unseen_figures_leave_out_the_faces_of_train(measured, checkpoint, faces):
    result = next(r for r in measured.measured(checkpoint) if r.key[2:] == ("test", "plain"))
    right = result.answers.probabilities.argmax(1) == result.answers.labels
    assert (result.unseen.k, result.unseen.n) == (int(right[3:].sum()), 9)
    (row,) = reports.read(measured)
    assert f"{result.unseen.k}/9 = " in row.count("test") and "/12 = " in row.count("test")


# --- the checkpoint stays as it is ---


def test_measuring_writes_to_results_alone(checkpoint, faces, here):
    copied = Path(shutil.copy(checkpoint, here / "net.safetensors"))
    copied.with_suffix(".md").write_text("a card")
    before = digests(here)
    evaluation.evaluate(copied, faces, here, CPU, final=True)
    flagship.ensemble([copied], faces, here, CPU, final=True)
    after = digests(here)
    assert {p: after[p] for p in before} == before
    new = {path.parts[0] for path in after if path not in before}
    assert new == {"results"} | ({".expression_cache"} & new)


def test_a_training_never_replaces_an_exported_network(trained, monkeypatch):
    monkeypatch.chdir(trained)
    words = ["train", "tinyvgg", "--data", "drawn", *SMALL]
    path = Path("checkpoints/tinyvgg-drawn.safetensors")
    before = path.read_bytes()
    for more, reason in (
        (["--init-from", str(path)], "starts from it"),
        (["--lr", "0.1"], "replaced"),
    ):
        with pytest.raises(SystemExit, match=f"tinyvgg-drawn.safetensors.*{reason}.*--out"):
            experiments.main([*words, *more])
    assert path.read_bytes() == before
    experiments.main([*words, "--init-from", str(path), "--seed", "1"])  # another file: allowed
    card = read_card("checkpoints/tinyvgg-drawn-seed1.safetensors")
    digest = file_sha256(path)
    assert ancestors(card) == {digest: "tinyvgg-drawn"}
    (stage,) = card["stages"]
    assert stage["sha256"] == digest and stage["history"] == read_card(path)["history"]
    assert totals(card) == (pytest.approx(stage["minutes"] + card["minutes"]), 2)
    history, chosen = joined_history(card)
    assert len(history["val_loss"]) == 2 and chosen == 2
    assert reports.not_runnable("other", card, {digest}) == []
    assert "tinyvgg-drawn" in str(reports.not_runnable("other", card, set()))


def test_a_card_says_how_the_exported_network_did_before_anything_is_measured(trained):
    # Without a figure of its own a new network would never be the one that serves.
    path = trained / "checkpoints/tinyvgg-drawn.safetensors"
    (plain,) = (r for r in Results(trained / "results").measured(path) if r.key.views == "plain")
    assert read_card(path)["validation"] == plain.evaluation.for_card()


# --- the test split ---


def test_the_test_split_stays_closed_without_final(checkpoint, faces, here, monkeypatch):
    decoded = faces.decoded

    def without_test(rule):
        return {split: rows for split, rows in decoded(rule).items() if split != "test"}

    monkeypatch.setattr(Faces, "decoded", lambda self, rule: without_test(rule))
    evaluation.evaluate(checkpoint, faces, here, CPU)
    flagship.ensemble([checkpoint], faces, here, CPU)
    kept = Results(here / "results")
    assert {r.key.split for _, results in kept.networks() for r in results} == {"validation"}
    assert kept.openings() == [] and not (here / "results/test_openings.jsonl").exists()
    page = comparison.compare(here / "results").read_text()
    assert "has not been opened" in page and "| – |" in page


def test_every_opening_is_logged_before_the_pictures_are_read(checkpoint, faces, here, monkeypatch):
    evaluation.evaluate(checkpoint, faces, here, CPU, ways=("plain",), final=True)
    evaluation.evaluate(checkpoint, faces, here, CPU, ways=("flip", "tta18"), final=True)
    kept = Results(here / "results")
    first, second = kept.openings()
    assert first.checkpoint == checkpoint.stem and first.sha256 == file_sha256(checkpoint)
    assert (first.data, first.fingerprint) == ("drawn", faces.fingerprint)
    assert first.views == ["plain"]
    assert second.views == ["flip", "tta18"] and "--shifts --final" in second.command
    monkeypatch.setattr(evaluation.metrics, "collect", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluation.evaluate(checkpoint, faces, here, CPU, final=True)
    assert len(kept.openings()) == 3  # it broke down, and was opened all the same


def test_what_is_said_of_the_test_split_is_what_the_log_says():
    def opening(name, digest, data="a"):
        return Opening("2026-01-02T03:04:05+00:00", "evaluate", name, digest, data, "f", ["plain"])

    log = [opening("x", "1"), opening("x", "2"), opening("x", "2"), opening("y", "3"),
           opening("z", "4", "b")]  # fmt: skip
    told = reports.openings_sentence(log, "a")
    assert "4 openings" in told and "`x` 2" in told and "`y`" not in told
    assert "1 opening " in reports.openings_sentence(log, "b")
    assert "not been opened" in reports.openings_sentence(log, "c")


# --- what is made of the results ---


def test_a_network_on_other_data_is_no_row_of_that_data_s_systems(tmp_path):
    kept = Results(tmp_path)
    kept.add(network(), made(DIAGONAL))
    kept.add(network(), made(MIXED, data="others", mark="0"))
    names = {row.data: row.name for row in reports.read(kept)}
    assert names == {"drawn": "net", "others": "net-drawn (trained on drawn)"}


def test_the_recipe_is_the_one_that_the_command_names(tmp_path):
    # Of three epochs that the recipe `tinyvgg` has 20 of; the exported file has another name
    command = {"command": "python experiments.py train tinyvgg --data drawn",
               "history": {"val_loss": [1.0, 0.9, 0.8]}, "epoch": 2}  # fmt: skip
    kept = Results(tmp_path)
    kept.add(network(**command), made(DIAGONAL))
    (row,) = reports.read(kept)
    assert (row.recipe, row.trained_with) == ("net", "tinyvgg")
    assert reports.epochs_run(row) == "3 of 20, best 3"
    assert "`tinyvgg`" not in "".join(reports.missing([row]))


def test_headings_are_plain_and_views_have_one_name(measured, here):
    page = comparison.compare(here / "results").read_text()
    for heading in ("Published", "Epochs run (of the recipe's)", "Test, with horizontal flip"):
        assert f"| {heading} |" in page
    assert "(flip × 9 shifts)" in page and set(VIEWS) == {"plain", "flip", "tta18"}
    assert "3 of 12 test" in page


def test_a_card_holds_both_figures_and_what_the_hub_reads(measured, checkpoint, here):
    copied = Path(shutil.copy(checkpoint, here / checkpoint.name))
    text = model_card.write(copied, measured).read_text()
    plain = next(r for r in measured.measured(copied) if r.key[2:] == ("test", "plain"))
    assert str(plain.evaluation) in text and str(plain.unseen) in text
    (model,) = yaml.safe_load(text.split("---")[1])["model-index"]
    values = {metric["name"]: metric["value"]
              for result in model["results"] if result["dataset"]["split"] == "test"
              for metric in result["metrics"]}  # fmt: skip
    for name, told in (("", plain.evaluation), (", faces that are not in train", plain.unseen)):
        key = f"accuracy, one view{name}: {told.k}/{told.n}"
        assert values[key] == round(told.accuracy, 4)


def test_an_old_card_s_own_figures_are_told_where_nothing_was_measured(checkpoint, here):
    card = read_card(checkpoint) | {"test": {"k": 20, "n": 45}}
    model = evaluation.load_model(checkpoint, CPU)[0]
    path = save_network(here / "old.safetensors", model, card)
    text = model_card.write(path, Results(here / "results")).read_text()
    assert f"{card['validation']['k']}/45" in text and "20/45" in text


def test_stages_are_told_together_and_lost_files_are_named():
    stage = {"command": "first", "revision": "a", "minutes": 10.0, "epochs": 18}
    card = {"history": {"val_loss": [1, 2]}, "epoch": 1, "minutes": 2.0, "stages": [stage],
            "learnt_from": {"checkpoints/x.safetensors": "d" * 64}, "recipe": {}}  # fmt: skip
    assert totals(card) == (12.0, 20)
    (lost, unnamed) = reports.not_runnable("x", card, {"e" * 64})
    assert "`x`" in lost and "d" * 16 in lost and "took its place" in lost and "stage 1" in unnamed
    row = reports.Row(network(**card), "net-drawn", "drawn", {})
    assert "18 + 2 in 2 stages" in reports.epochs_run(row)


# --- the committed ones ---


def test_committed_results_are_whole_and_belong_to_the_committed_files():
    kept = Results(ROOT / "results")
    for measured_network, results in kept.networks():
        assert results, measured_network.name
        for result in results:
            _ = result.answers  # raises where they do not give the stated confusion
    for path in sorted((ROOT / "checkpoints").glob("*.safetensors")):
        card, found = read_card(path), kept.measured(path)
        if card.get("command") == "make notebook":
            continue  # not committed; results/notebook-*.json has its figures
        for split in ("validation", "test"):
            (plain,) = (r for r in found if r.key == (file_sha256(path),
                        card["data"]["fingerprint"], split, "plain"))  # fmt: skip
            if split == "validation" or split in card:  # a calibrated card was written before test
                told = plain.evaluation
                shares = {"majority": round(told.majority, 4), "macro_f1": round(told.macro_f1, 4)}
                assert {"k", "n"} <= card[split].keys()  # later cards have shares, too
                stated = dict(card[split])
                if not on_cpu(card):  # a GPU rounds otherwise: a face or two may turn
                    assert abs(stated.pop("k") - told.k) <= 2
                    assert abs(stated.pop("macro_f1") - told.macro_f1) <= 1e-3
                assert stated.items() <= {"k": told.k, "n": told.n, **shares}.items()
            assert path.with_suffix(".md").read_text(encoding="utf-8") == model_card.text(
                path, kept
            )


def test_the_served_network_s_two_figures():
    kept = Results(ROOT / "results")
    row = next(row for row in reports.read(kept) if row.folder == "expression-fer2013")
    assert row.evaluation_of("test").n - row.unseen("test").n == 291
    assert row.evaluation_of("validation").n - row.unseen("validation").n == 277
    page = (ROOT / "docs/laboratory.md").read_text(encoding="utf-8")
    assert row.count("test") in page and row.count("validation") in page


def test_no_committed_page_says_what_its_results_do_not(tmp_path):
    shutil.copytree(ROOT / "results", tmp_path / "results")
    shutil.copytree(ROOT / "checkpoints", tmp_path / "checkpoints")
    before = (ROOT / "results/RESULTS.md").read_text(encoding="utf-8")
    assert comparison.compare(tmp_path / "results").read_text(encoding="utf-8") == before
