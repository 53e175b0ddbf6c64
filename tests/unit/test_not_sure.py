""" "Not sure": one rule for every way to an answer, and the same word wherever answers are shown.

No trained network: a fake one gives set logits, and the threshold is 0.5.
"""

import csv
import json
import math
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from expression import cli, predictor, webcam
from expression.app.handlers import Handlers
from expression.app.page import faces_html, mirror_html
from expression.checkpoint import save_checkpoint
from expression.drawing import EMOJI, UNSURE_EMOJI, draw_faces, face_emoji, layout
from expression.face_detector import Face
from expression.face_prediction import NOT_SURE, FacePrediction
from expression.picture_batches import answer_pictures
from expression.predictor import ExpressionPredictor
from expression.timeline import COLUMNS, OLDER, Timeline, read_timeline
from expression.timeline_figure import timeline_figure
from expression.timeline_picture import draw_panel, draw_timeline
from expression.video import VideoWriter

NAMES = ["happy", "neutral", "sad"]
ABOVE, AT, BELOW = (0.01, 0, -math.inf), (0, 0, -math.inf), (0, 0, -9)  # 50.2, 50, 49.997 %
CLEAR, FLAT = (5, 0, 0), (0.2, 0, 0)  # 99, 38 %
BOX = (40, 30, 60, 70)
UNSURE = FacePrediction(BOX, {"sad": 0.4, "happy": 0.35, "neutral": 0.25}, min_confidence=0.5)
SURE = FacePrediction(BOX, {"happy": 0.9, "sad": 0.06, "neutral": 0.04}, min_confidence=0.5)


class Finder:
    """One face in every picture, always at the same place."""

    def __init__(self, **_):
        pass

    def find(self, image):
        return [Face(BOX, 0.9)]

    def find_batch(self, images):
        return [[Face(BOX, 0.9)] for _ in images]

    def follow(self, image, faces):
        return list(faces)


def network(*logits):
    """Answers these logits, one face after the other, the last ones again and again."""
    waiting = list(logits)

    def answer(images):
        rows = [waiting.pop(0) if len(waiting) > 1 else waiting[0] for _ in images]
        return np.array(rows, float)

    return answer


@pytest.fixture
def checkpoint(card, tmp_path):
    """Writes a checkpoint whose card has these further keys."""

    def write(**keys):
        path = tmp_path / "checkpoints" / "fake.safetensors"
        path.parent.mkdir(exist_ok=True)
        weights = {"w": np.zeros(1, np.float32)}
        return save_checkpoint(path, weights, {**card, "class_names": NAMES, **keys})

    return write


@pytest.fixture
def predict(checkpoint):
    """A predictor with a card of these keys, whose network answers these logits."""

    def predict(*logits, min_confidence=None, card=None):
        path = checkpoint(**(card or {}))
        return ExpressionPredictor(path, Finder(), lambda _: network(*logits), min_confidence)

    return predict


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (160, 120), "#808080").save(path)
    return path


@pytest.fixture
def clip(tmp_path):
    """Two seconds, 10 frames a second."""
    path = tmp_path / "clip.mp4"
    with VideoWriter(path) as video:
        for k in range(20):
            video.write(Image.new("RGB", (160, 120), "#808080"), k / 10)
    return path


# --- the rule ---


@pytest.mark.parametrize(("logits", "sure"), [(ABOVE, True), (AT, True), (BELOW, False)])
def test_every_way_to_an_answer_judges_it_alike(predict, picture, logits, sure):
    asked, image = predict(logits, min_confidence=0.5), Image.open(picture)
    answers = [
        *asked.find(picture),
        *asked.find_batch([image])[0],
        *asked.predict_faces([image], [[Face(BOX, 1.0)]])[0],
        *asked.predict_whole([picture]),
        *next(answer_pictures(asked, [str(picture)], whole=True)).faces,
        *asked.tracker()(image, 0.0),
    ]
    assert len(answers) == 6
    for face in answers:
        assert face.sure is sure and face.label == ("happy" if sure else NOT_SURE)
        assert face.expression == "happy", "programs rely on a class"
        assert face.confidence == face.probs["happy"]


@pytest.mark.parametrize(
    ("keys", "given", "label"),
    [
        ({}, None, "happy"),  # older cards have no threshold
        ({}, 0.5, NOT_SURE),
        ({"min_confidence": 0.5}, None, NOT_SURE),
        ({"min_confidence": 0.5}, 0, "happy"),
        ({"min_confidence": 0.5}, 0.4, "happy"),
        ({"min_confidence": 0.4}, 0.5, NOT_SURE),
    ],
)
def test_the_threshold_is_the_cards_unless_it_is_given(predict, picture, keys, given, label):
    (face,) = predict(BELOW, min_confidence=given, card=keys).find(picture)
    assert face.label == label


def test_it_is_judged_after_the_temperature(predict, picture):
    # 62 % by the logits; a temperature of 3 leaves 46 %
    card = {"temperature": 3.0, "min_confidence": 0.5}
    (face,) = predict((1.2, 0, 0), card=card).find(picture)
    assert 0.4 < face.confidence < 0.5 and not face.sure


def test_nan_names_nothing_where_there_is_a_threshold():
    broken = {"happy": math.nan, "sad": math.nan}
    assert not FacePrediction(BOX, broken, min_confidence=0.5).sure
    assert FacePrediction(BOX, broken).sure, "without one nothing changes"


def test_a_video_is_judged_by_its_averaged_probabilities(predict, picture):
    # Judged by each frame alone, the word would flicker
    image = Image.open(picture)
    follow = predict(CLEAR, CLEAR, FLAT, min_confidence=0.5).tracker(smooth=0.3)
    shown = [follow(image, k / 10)[0] for k in range(30)]
    assert shown[2].sure, "the frame alone is not, the average is"
    assert not shown[-1].sure and shown[-1].expression == "happy"
    assert predict(BELOW, min_confidence=0.5).tracker(min_confidence=0)(image, 0.0)[0].sure


def test_methods_of_the_fer_package_name_a_class_all_the_same(predict, picture):
    # That package has no such answer: "not sure" would be looked up among the classes
    asked = predict(BELOW, min_confidence=0.9)
    assert asked.top_emotion(picture) == ("happy", 0.5)
    assert list(asked.detect_emotions(picture)[0]["emotions"]) == NAMES
    assert list(asked.predict(picture)) == NAMES


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -0.1, 1, 2])
def test_a_threshold_out_of_range_is_refused(predict, picture, capsys, wrong):
    with pytest.raises(ValueError, match="min_confidence"):
        predict(CLEAR, min_confidence=wrong)
    assert cli.main([str(picture), "--min-confidence", str(wrong)]) == 2
    said = capsys.readouterr().err
    assert "--min-confidence" in said and f"{wrong:g}" in said and said.count("\n") == 1


# --- the command line ---


@pytest.fixture
def command(checkpoint, monkeypatch):
    """Runs the command with a network of these logits and a card whose threshold is 0.5."""
    monkeypatch.setattr(cli, "FaceFinder", Finder)

    def command(*words, logits=(BELOW,)):
        words = [*map(str, words), "--checkpoint", str(checkpoint(min_confidence=0.5))]
        return cli.main(words, load_network=lambda _: network(*logits))

    return command


def test_printed_lines_say_it_and_keep_the_bars(command, picture, capsys):
    assert command(picture, "--whole") == 0
    said = capsys.readouterr().out
    assert NOT_SURE in said and "50 %" in said and said.count("█") > 10
    assert command(picture, "--whole", "--min-confidence", 0) == 0
    assert NOT_SURE not in capsys.readouterr().out
    assert command(picture, "--whole", logits=(CLEAR,)) == 0
    assert NOT_SURE not in capsys.readouterr().out


def test_the_short_lines_of_many_pictures_say_it(command, picture, tmp_path, capsys):
    names = [tmp_path / f"{k}.png" for k in range(11)]
    for name in names:
        Image.open(picture).save(name)
    assert command(*names, "--whole", logits=(CLEAR, BELOW)) == 0
    first, *others = capsys.readouterr().out.strip().splitlines()[: len(names)]
    assert NOT_SURE not in first and all(f"{NOT_SURE} (happy" in line for line in others)


def test_json_and_table_keep_the_class_and_flag_it(command, picture, tmp_path, capsys):
    table = tmp_path / "t.csv"
    assert command(picture, "--whole", "--json", "--csv", table) == 0
    (answer,) = json.loads(capsys.readouterr().out)[0]["faces"]
    assert (answer["expression"], answer["sure"]) == ("happy", False)
    (row,) = csv.DictReader(table.open(encoding="utf-8"))
    assert (row["expression"], row["sure"], row["sad"]) == ("happy", "false", "0.0001")
    command(picture, "--whole", "--json", "--csv", table, "--overwrite", "--min-confidence", 0)
    assert json.loads(capsys.readouterr().out)[0]["faces"][0]["sure"] is True
    assert next(csv.DictReader(table.open(encoding="utf-8")))["sure"] == "true"


def test_the_list_tells_the_threshold_of_those_that_have_one(checkpoint, monkeypatch, capsys):
    cards = {"with": {"min_confidence": 0.425}, "without": {}}
    about = {"system": "tinyvgg", "data": {"name": "drawn"}}
    listed = {name: {**about, **card} for name, card in cards.items()}
    monkeypatch.setattr(cli, "list_checkpoints", lambda: listed)
    assert cli.main(["--list"]) == 0
    one, other = capsys.readouterr().out.splitlines()
    assert "not sure below 42.5 %" in one and "not sure" not in other


def test_the_webcams_window_follows_with_the_threshold(command, monkeypatch):
    opened = []
    monkeypatch.setattr(webcam, "mirror", lambda asked, *_: opened.append(asked.tracker()) or 0)
    assert command("--webcam") == command("--webcam", "--min-confidence", 0) == 0
    assert [tracker.min_confidence for tracker in opened] == [0.5, 0]
    shown = webcam.step(Image.new("RGB", (160, 120)), 0.0, lambda *_: [UNSURE])
    assert shown.tobytes() == draw_faces(Image.new("RGB", (160, 120)), [UNSURE]).tobytes()


# --- videos ---


def test_a_video_counts_the_unsure_apart(command, clip, tmp_path, capsys):
    logits = [CLEAR] * 10 + [FLAT]
    assert command(clip, "--annotate", tmp_path / "out", "--json", logits=logits) == 0
    (summary,) = json.loads(capsys.readouterr().out)
    rows = list(csv.DictReader((tmp_path / "out" / "clip.csv").open(encoding="utf-8")))
    unsure = sum(row["sure"] == "false" for row in rows)
    assert 0 < unsure < 10 and {row["expression"] for row in rows} == {"happy"}
    assert summary["expressions"] == {"happy": 20 - unsure} and summary["not_sure"] == unsure
    command(clip, "--annotate", tmp_path / "out2", logits=logits)
    assert f"not sure in {100 * unsure / 20:.0f} %" in capsys.readouterr().out
    command(clip, "--annotate", tmp_path / "out3", "--min-confidence", 0, logits=logits)
    assert NOT_SURE not in capsys.readouterr().out


def test_a_table_of_an_earlier_version_is_still_read(tmp_path):
    path = tmp_path / "t.csv"
    with Timeline(path, NAMES) as table:
        table.add(0.5, 5, UNSURE)
    now = read_timeline(path)
    lines = path.read_text(encoding="utf-8").replace(",sure", "").replace(",false", "")
    assert lines.startswith(",".join([*OLDER, *NAMES])) and OLDER != COLUMNS
    path.write_text(lines, encoding="utf-8")
    assert read_timeline(path) == now


def hatched(figure):
    """(start, end) seconds of what is marked in the panels."""
    spans = [span for panel in figure.panels for area in panel.areas for span in area.unsure]
    return [(start, start + seconds) for start, seconds in spans]


def test_the_timeline_marks_where_no_expression_is_named():
    probs = [SURE.probs if t < 4 or t > 8 else UNSURE.probs for t in np.arange(0, 12, 0.1)]
    rows = [(k / 10, 1, p) for k, p in enumerate(probs)]
    figure = timeline_figure(rows, NAMES, "a video", 0.5)
    assert hatched(figure) == [(pytest.approx(4, abs=0.3), pytest.approx(8, abs=0.3))]
    for other in (timeline_figure(rows, NAMES, "x"), timeline_figure(rows[:30], NAMES, "x", 0.5)):
        assert not hatched(other) and not other.any_unsure

    panel = draw_panel(figure.panels[0], figure.colours, (1200, 120), (0, 12))
    colours = [len(panel.crop((x, 100, x + 100, 101)).getcolors()) for x in (100, 550, 1050)]
    assert colours[1] > max(colours[0], colours[2]), "only the middle is hatched"
    marked = np.asarray(draw_timeline(figure)) != np.asarray(
        draw_timeline(replace(figure, panels=timeline_figure(rows, NAMES, "x").panels))
    )
    assert marked[:, 1000:].any(), "the legend does not say what is hatched"


def test_one_unsure_frame_alone_is_marked():
    assert hatched(timeline_figure([(3.0, 1, UNSURE.probs)], NAMES, "x", 0.5))


# --- pictures ---


def test_a_drawn_face_says_it_in_a_dashed_box():
    picture = Image.new("RGB", (640, 480), "#808080")
    box = (200, 150, 150, 180)
    unsure = FacePrediction(box, UNSURE.probs, track=3, min_confidence=0.5)
    line, _, [mark] = layout(picture.size, [unsure])
    assert mark.label == f"#3 {NOT_SURE}" and mark.panel, "the bars stay"
    edge = np.asarray(draw_faces(picture, [unsure]).crop((200, 150, 200 + line, 330)), int)
    column = edge[:, 0].sum(axis=1)
    white, dark = (column == 3 * 255).mean(), (column < 3 * 80).mean()
    assert white > 0.3 and dark > 0.3, "dashes show on light and on dark ground"
    (sure,) = layout(picture.size, [FacePrediction(box, UNSURE.probs)])[2]
    assert sure.label == "sad 40 %"


def test_it_has_an_emoji_of_its_own():
    assert face_emoji(UNSURE) == UNSURE_EMOJI not in EMOJI.values()
    assert face_emoji(SURE) == EMOJI["happy"]


# --- the demo ---


def test_cards_of_faces_keep_their_bars_and_say_why():
    crop = Image.new("RGB", (9, 9))
    html = faces_html([UNSURE, SURE], [crop, crop])
    one, other = html.split('class="face"')[1:]
    for part in ("1 · not sure", UNSURE_EMOJI, "40 %", "sad", "no expression reaches 50 %"):
        assert part.lower() in one.lower()
    assert "2 · happy" in other and "not sure" not in other and "reaches" not in other


def test_the_mirror_shows_it_and_keeps_the_class_for_programs():
    html = mirror_html([UNSURE, UNSURE, SURE], NAMES)
    assert "<h3>not sure</h3>" in html and 'data-expression="sad" data-sure="false"' in html
    assert f"and {UNSURE_EMOJI} {EMOJI['happy']}" in html
    assert html.count('class="bar"') == 3 and "reaches 50 %" in html
    assert 'data-sure="true"' in mirror_html([SURE], NAMES)


@pytest.fixture
def handlers(checkpoint, monkeypatch):
    """A demo of one network of these logits, with this card."""
    monkeypatch.setattr(predictor, "FaceFinder", Finder)

    def handlers(*logits, **card):
        return Handlers(checkpoint(**card).parent, lambda _: network(*logits))

    return handlers


def test_the_demo_says_it_of_photos_videos_and_of_the_network(handlers, picture, clip):
    demo = handlers(BELOW, min_confidence=0.5)
    for whole in (True, False):
        _, html, _, (face,) = demo.photo(str(picture), "fake", whole, False)
        assert "1 · not sure" in html and face["sure"] is False
        assert list(face["probabilities"]) == NAMES
    ((_, caption),), table, *_ = next(demo.several([str(picture)], "fake"))
    assert NOT_SURE in caption and "happy" not in caption and "<td>false</td>" in table
    html, _ = demo.mirror(Image.open(picture), None, "fake")
    assert "<h3>not sure</h3>" in html
    *_, words = next(demo.video(str(clip), "fake", lambda *_, **__: None))
    assert "not sure in 100 %" in words.lower() and "50 %" in words
    assert "not sure" in demo.about("fake") and "50 %" in demo.about("fake")


def test_the_demo_of_a_card_without_threshold_is_as_before(handlers, picture, clip):
    demo = handlers(BELOW)
    _, html, _, (face,) = demo.photo(str(picture), "fake", False, False)
    assert "1 · happy" in html and face["sure"] is True
    *_, words = next(demo.video(str(clip), "fake", lambda *_, **__: None))
    told = [html, words, demo.about("fake"), demo.mirror(Image.open(picture), None, "fake")[0]]
    assert not [text for text in told if NOT_SURE in text.lower()]
    with pytest.raises(gr.Error, match="no checkpoint gone"):
        demo.mirror(Image.open(picture), None, "gone")
