"""What a run gives back: lines, a summary, JSON, a table, copies; no file that nobody asked for.

No trained network: white faces are "happy", black ones "sad", gray ones "not sure"; a red picture
has no face.
"""

import csv
import json
import math
import os
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expression import cli
from expression.checkpoint import CHECKPOINTS, list_checkpoints, save_checkpoint
from expression.face_detector import Face
from expression.face_prediction import FacePrediction
from expression.predictor import ExpressionPredictor
from expression.sorting import check_sorting, class_folder
from expression.summary import no_face_words
from expression.tables import COLUMNS, JsonAnswers
from expression.video import VideoWriter

NAMES = ["happy", "neutral", "sad"]
BOX, LARGER = (10, 10, 40, 40), (80, 10, 64, 72)
MINE = "made by somebody else"


class Finder:
    """Two faces in every picture but red ones, the smaller one first."""

    def __init__(self, **_):
        pass

    def find(self, image):
        red, green, _ = image.convert("RGB").resize((1, 1)).getpixel((0, 0))
        return [] if red > green + 50 else [Face(BOX, 0.9), Face(LARGER, 0.8)]

    def find_batch(self, images):
        return [self.find(image) for image in images]

    find_tilted = find

    def follow(self, image, faces):
        return list(faces)


def network(images):
    """Logits by brightness; images (N, 1, 8, 8) in [-1, 1]."""
    shares = images.mean(axis=(1, 2, 3))
    return np.array(
        [(5, 0, 0) if s > 0.5 else (0, 0, 5) if s < -0.5 else (0, 0, 0) for s in shares]
    )


@pytest.fixture
def run(card, tmp_path, monkeypatch, capsys):
    """Runs the command in an empty folder; gives exit code, standard output and error."""
    path = tmp_path / "network" / "fake.safetensors"
    path.parent.mkdir()
    keys = {"class_names": NAMES, "min_confidence": 0.5}
    save_checkpoint(path, {"w": np.zeros(1, np.float32)}, {**card, **keys})
    monkeypatch.setattr(cli, "FaceFinder", Finder)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def run(*words, network=network):
        words = [*map(str, words), "--checkpoint", str(path)]
        code = cli.main(words, load_network=lambda _: network)
        return (code, *capsys.readouterr())

    return run


def picture(path, colour="white", second=None, size=(160, 120)):
    image = Image.new("RGB", size, colour)
    if second:
        image.paste(second, (70, 0, 160, 120))  # under the larger face
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def film(path, colour="white", frames=3, size=(160, 120)):
    with VideoWriter(path) as video:
        for k in range(frames):
            video.write(Image.new("RGB", size, colour), k / 10)
    return Path(path)


def rows(path):
    return list(csv.DictReader(Path(path).open(encoding="utf-8")))


def tree(folder="."):
    return {p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file()}


# --- the table ---


def test_the_table_holds_pictures_and_videos(run):
    picture("a.png"), picture("red.png", "red"), film("clip.mp4"), film("red.mp4", "red")
    code, _, _ = run(".", "--csv", "t.csv")
    found = rows("t.csv")
    assert code == 0 and tuple(found[0]) == (*COLUMNS, *NAMES)
    by_source = {s: [r for r in found if r["source"] == s] for s in {r["source"] for r in found}}
    assert {s: len(r) for s, r in by_source.items()} == {
        "a.png": 2, "red.png": 1, "clip.mp4": 6, "red.mp4": 1,
    }  # fmt: skip
    assert {(r["seconds"], r["track"]) for r in by_source["a.png"]} == {("", "")}
    assert [r["seconds"] for r in by_source["clip.mp4"]] == [
        f"{k / 10:.3f}" for k in range(3) for _ in range(2)
    ]
    assert {r["track"] for r in by_source["clip.mp4"]} == {"1", "2"}
    for source in ("red.png", "red.mp4"):  # every input is in the table
        assert by_source[source][0]["face"] == "0" and by_source[source][0]["expression"] == ""
    assert float(by_source["clip.mp4"][0]["happy"]) > 0.9


def test_boxes_of_a_large_video_are_in_its_own_pixels(run):
    # Frames are followed at 1280 pixels at most
    film("wide.mp4", frames=2, size=(2560, 64))
    run("wide.mp4", "--csv", "t.csv")
    assert [int(rows("t.csv")[0][k]) for k in ("x", "y", "width", "height")] == [
        2 * v for v in LARGER
    ]


def test_a_table_in_place_of_an_input_gets_another_name_and_is_no_picture(run):
    before = picture("a.png").read_bytes()
    film("clip.mp4")
    clip = Path("clip.mp4").read_bytes()
    Path("a").write_bytes(before)
    code, _, told = run("a", "--csv", "a", "--overwrite")
    assert code == 0 and "is an input" in told
    assert Path("a-2").read_text().startswith("source,")
    for target in ("a.png", "clip.mp4", "A.PNG", "out/a.jpg"):
        code, _, told = run("a.png", "clip.mp4", "--csv", target, "--overwrite")
        assert code == 2 and "the name of a table" in told
    assert Path("a.png").read_bytes() == Path("a").read_bytes() == before
    assert Path("clip.mp4").read_bytes() == clip and not Path("out").exists()


# --- JSON ---


def test_json_holds_pictures_and_videos(run):
    picture("a.png"), film("clip.mp4"), film("red.mp4", "red")
    Path("b.mp4").write_text("no video")
    code, said, told = run("a.png", "b.mp4", "clip.mp4", "red.mp4", "--json", "--top-k", 1)
    photo, clip, red = json.loads(said)
    assert code == 2 and "b.mp4" in told
    assert photo["picture"] == "a.png" and len(photo["faces"]) == 2
    assert clip["video"] == "clip.mp4" and clip["frames"] == 3 and clip["files"] == []
    assert [f["seconds"] for f in clip["faces"]] == [0, 0, 0.1, 0.1, 0.2, 0.2]
    assert {f["track"] for f in clip["faces"]} == {1, 2}
    assert list(clip["faces"][0]["probabilities"]) == ["happy"]
    assert (red["video"], red["faces"], red["tracks"]) == ("red.mp4", [], 0)


def test_a_broken_network_is_told_and_the_list_is_json(run):
    # "NaN" is no JSON, and no answer: programs in other languages refuse the whole list
    picture("a.png"), film("clip.mp4")
    code, out, said = run(
        "a.png", "clip.mp4", "--json", network=lambda i: np.full((len(i), 3), math.nan)
    )
    assert code == 2 and json.loads(out) == []
    assert "answers what is no number" in said and "Traceback" not in said


def test_a_list_that_was_cut_off_is_a_list(tmp_path):
    path = tmp_path / "a.json"
    face = FacePrediction(BOX, {"sad": 1.0}, track=1)
    with pytest.raises(KeyboardInterrupt), path.open("w") as file, JsonAnswers(stream=file) as out:
        out.add_picture("a.png", [])
        out.add_frame("a.mp4", 0.0, [face])
        out.add_frame("a.mp4", 0.1, [face])
        raise KeyboardInterrupt
    photo, clip = json.loads(path.read_text())
    assert photo["faces"] == [] and len(clip["faces"]) == 2 and clip["error"] == "interrupted"
    with path.open("w") as file, JsonAnswers(stream=file):
        pass
    assert json.loads(path.read_text()) == []


# --- nothing unasked ---


def test_a_video_writes_only_what_was_asked_for(run):
    # It wrote three files into out/, whatever the options
    film("clip.mp4")
    code, said, told = run("clip.mp4")
    assert code == 0 and tree() == {"clip.mp4"} and not Path("out").exists()
    assert "3 frames" in said and "2 faces" in said and "happy 100 %" in said
    assert "--annotate" in told and "--csv" in told
    run("clip.mp4", "--json")
    assert tree() == {"clip.mp4"}
    run("clip.mp4", "--csv", "t.csv")
    assert tree() == {"clip.mp4", "t.csv"}
    _, said, told = run("clip.mp4", "--annotate", "out")
    drawn = {f"out/clip.{end}" for end in ("mp4", "csv", "png")}
    assert tree() == {"clip.mp4", "t.csv"} | drawn and not told.strip()
    assert all(str(Path(name)) in said for name in drawn)


@pytest.mark.parametrize("option", ["--annotate", "--sort-into"])
def test_a_file_is_no_folder_for_outputs(run, option):
    picture("a.png"), Path("taken").write_text(MINE)
    for folder in ("taken", "taken/deep"):
        code, said, told = run("a.png", option, folder)
        assert code == 2 and "taken is a file" in told and told.count("\n") == 1
    assert tree() == {"a.png", "taken"}


def test_the_webcam_refuses_what_it_would_ignore(run):
    picture("a.png")
    for words, name in (
        (["a.png"], "INPUT"),
        (["--csv", "t.csv"], "--csv"),
        (["--sort-into", "d"], "--sort-into"),
        (["--json"], "--json"),
    ):
        code, _, told = run("--webcam", "lavfi:testsrc", *words)
        assert code == 2 and name in told and told.count("\n") == 1


# --- the summary ---


def test_the_summary_counts_expressions(run):
    for name, colours in {"a": ("white",), "b": ("white", "black"), "c": ("gray",)}.items():
        picture(f"{name}.png", *colours)
    picture("none.png", "red")
    Path("text.png").write_text("no picture")
    code, said, _ = run(".")
    lines = said.split("\n\n")[-1].splitlines()
    counts = {tuple(line.split()[:2]) for line in lines[1:4]}
    assert code == 2 and "5 pictures, 6 faces" in lines[0]
    assert counts == {("happy", "3"), ("not", "sure"), ("sad", "1")}
    assert " 2 " in next(line for line in lines if "not sure" in line)
    assert "no face found in 1" in lines[4] and lines[5].split()[0] == "1"
    assert "text.png" in lines[5]


def test_one_picture_and_json_have_no_summary(run):
    picture("a.png"), picture("b.png")
    assert "2 faces" not in run("a.png")[1]
    assert "2 pictures, 4 faces" in run("a.png", "b.png")[1]
    assert len(json.loads(run("a.png", "b.png", "--json")[1])) == 2


def test_smaller_faces_are_worth_a_try_in_large_pictures_alone(run):
    picture("small.png", "red", size=(300, 200)), picture("large.png", "red", size=(3000, 2000))
    assert "--smallest" not in run("small.png")[1]
    assert "--smallest 0.01" in run("large.png")[1]
    assert "--smallest 0.01" in run("large.png", "small.png")[1].splitlines()[-1]
    assert "--smallest 0.03" in run("large.png", "--smallest", "0.06")[1]
    assert "--smallest 0.01" in no_face_words((3000, 2000), 0.02)
    assert "--smallest" not in no_face_words((3000, 2000), 0.009)


# --- sorting ---


def test_pictures_are_copied_by_their_largest_face(run):
    originals = {
        "in/a.png": ("white",), "in/deep/a.png": ("white",), "in/b.png": ("white", "black"),
        "in/c.png": ("gray",), "in/d.png": ("red",),
    }  # fmt: skip
    contents = {name: picture(name, *colours).read_bytes() for name, colours in originals.items()}
    Path("in/text.png").write_text("no picture")
    Path("out/happy").mkdir(parents=True)
    Path("out/happy/a.png").write_text(MINE)
    film("in/clip.mp4")
    code, _, told = run("in", "--sort-into", "out")
    assert code == 2 and "text.png" in told and "a-2.png" in told  # told where a name was in use
    assert "1 video is not sorted" in told
    assert tree("out") == {
        "happy/a.png", "happy/a-2.png", "happy/a-3.png", "sad/b.png", "not sure/c.png",
        "no face/d.png",
    }  # fmt: skip
    assert Path("out/happy/a.png").read_text() == MINE
    assert Path("out/sad/b.png").read_bytes() == contents["in/b.png"]
    assert {name: Path(name).read_bytes() for name in contents} == contents
    assert Path("out/sad/b.png").stat().st_mtime == Path("in/b.png").stat().st_mtime


def test_pictures_from_the_web_are_not_copied_and_that_is_told(run, loopback):
    class Site(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            self.wfile.write(Path("a.png").read_bytes())

        def log_message(self, *_):
            pass

    picture("a.png")
    address = f"http://127.0.0.1:{loopback(Site).server_port}/web.png"
    code, _, told = run("a.png", address, "--sort-into", "out", "--allow-private")
    assert code == 0 and tree("out") == {"happy/a.png"} and "1 picture is from the web" in told


def test_videos_alone_are_not_sorted_in_silence(run):
    # Code 0, an empty folder, and no word about it
    film("clip.mp4")
    code, _, told = run("clip.mp4", "clip.mp4", "--sort-into", "out")
    assert code == 0 and "1 video is not sorted" in told and tree("out") == set()


def test_a_class_name_leads_to_no_other_folder():
    # It comes with the checkpoint, which may be a stranger's
    for name in ("../../evil", "/etc", "..", "a\\b", ""):
        folder = class_folder([FacePrediction(BOX, {name: 1.0})])
        assert folder and not {"/", "\\"} & set(folder) and folder not in (".", "..")


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture("in/a.png"), picture("in/sorted/happy/old.png")
    Path("link").symlink_to("in")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ("in", "in"),
        ("in", "in/sorted"),
        ("in", "in/new/deep"),
        ("in", "link/new"),
        ("link", "in/new"),
        ("in/", "in/../in/new"),
        (".", "anything"),
        ("*", "in/new"),
        ("in/**/*.png", "in/new"),
        ("**/*.png", "new"),
        ("in/sorted/happy/old.png", "in/sorted"),
    ],
)
def test_copies_that_would_be_read_again_are_refused(places, given, folder):
    names = [str(p) for p in Path("in").rglob("*.png")] if given == "in" else [given]
    with pytest.raises(ValueError, match="copies would be read again|holds"):
        check_sorting(Path(folder), [given], names)


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ("in", "sorted"),
        ("in", "in2"),
        ("in", "in/.hidden/x"),  # hidden folders are not read
        ("in/a.png", "in/new"),
        ("in/*.png", "in/new"),
        ("https://example.org/in", "in"),
    ],
)
def test_other_folders_can_hold_the_copies(places, given, folder):
    check_sorting(Path(folder), [given], [given])


def test_a_refused_folder_is_told_before_anything_is_read(run):
    picture("in/a.png")
    code, said, told = run("in", "--sort-into", "in/sorted")
    assert code == 2 and not said and told.count("\n") == 1 and tree() == {"in/a.png"}


# --- names ---


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no such names")
def test_a_name_that_is_no_utf8_stops_nothing(run):
    name = os.fsdecode(b"caf\xe9.png")
    picture(name), film(os.fsdecode(b"film\xe9 1:2 $x$.mp4"))
    code, said, told = run(".", "--annotate", "out", "--csv", "t.csv", "--sort-into", "../sorted")
    assert code == 0, told
    assert {r["source"] for r in rows("t.csv")} == {r"caf\xe9.png", r"film\xe9 1:2 $x$.mp4"}
    assert r"caf\xe9.png" in said and tree("../sorted") == {f"happy/{name}"}
    assert len(tree("out")) == 4
    assert len(json.loads(run(".", "--json")[1].encode())) == 5  # those in out/ too


def test_a_name_as_long_as_it_can_be_is_numbered_too(run):
    long = "ä" * 125 + ".png"  # 254 bytes
    picture(f"in/{long}"), picture(f"in/deep/{long}")
    code, _, told = run("in", "--annotate", "out", "--sort-into", "sorted")
    assert code == 0, told
    assert len(tree("out")) == len(tree("sorted")) == 2


def test_every_listed_name_opens_that_checkpoint():
    cards = list_checkpoints()
    assert cards
    for name in cards:
        opened = ExpressionPredictor(name, Finder(), lambda _: network)
        assert opened.path == CHECKPOINTS / f"{name}.safetensors"
        assert opened.card == cards[name]


@pytest.mark.parametrize("wrong", ["expresion", "gone/expression", "expression.md", "[e]xpression"])
def test_a_wrong_name_is_answered_with_the_known_ones(wrong, monkeypatch, capsys):
    # gone/expression.safetensors was answered by another file of that name
    monkeypatch.setattr(cli, "FaceFinder", lambda **_: pytest.fail("the detector was loaded first"))
    with pytest.raises(FileNotFoundError) as error:
        ExpressionPredictor(wrong, Finder(), lambda _: network)
    assert cli.main(["a.png", "--checkpoint", wrong]) == 2
    told = capsys.readouterr().err
    for name in list_checkpoints():
        assert name in str(error.value) and name in told


def test_the_list_shows_what_stands_beside_the_accuracy(monkeypatch, capsys):
    about = {"system": "tinyvgg", "data": {"name": "drawn"}}
    figures = {"k": 70, "n": 100, "majority": 0.25, "macro_f1": 0.675}
    cards = {
        "new": {**about, "validation": figures},
        "old": {**about, "validation": {"k": 1, "n": 2}},
    }
    monkeypatch.setattr(cli, "list_checkpoints", lambda: cards)
    assert cli.main(["--list"]) == 0
    new, old = capsys.readouterr().out.splitlines()
    assert "70.0 %" in new and "25.0 %" in new and "67.5 %" in new
    assert "50.0 %" in old and "F1" not in old
