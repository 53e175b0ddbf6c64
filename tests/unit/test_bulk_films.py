"""Films in pieces: each frame once, and a face keeps its number over the whole film."""

import json
from functools import partial
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from PIL import Image

from expression.app.examples import EXAMPLES
from expression.bulk import films, label
from expression.bulk.films import Piece, joined
from expression.bulk.label import Pace, in_this_process
from expression.bulk.results import Results
from expression.bulk.rows import face_rows, table_of
from expression.bulk.sources import Item, Source
from expression.bulk.worker import Settings
from expression.face_prediction import FacePrediction
from expression.frames import read_frames
from expression.predictor import ExpressionPredictor
from expression.video import VideoWriter

FPS, SECONDS = 10, 9


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Two faces that move, one of them from the middle of the film on."""
    path = tmp_path_factory.mktemp("film") / "two.mp4"
    faces = []
    for name in ("portrait.jpg", "group.jpg"):
        with Image.open(EXAMPLES / name) as photo:
            found = ExpressionPredictor().find(photo)[0]
            x, y, w, h = found.box
            square = (x - w // 3, y - h // 3, x + w + w // 3, y + h + h // 3)
            faces.append(photo.convert("RGB").crop(square).resize((100, 100)))
    with VideoWriter(path) as writer:
        for k in range(FPS * SECONDS):
            frame = Image.new("RGB", (320, 180), (90, 90, 90))
            frame.paste(faces[0], (10 + k, 40))
            if k >= 35:
                frame.paste(faces[1], (200, 20 + k // 2))
            writer.write(frame, k / FPS)
    return path


@pytest.fixture
def short_pieces(monkeypatch):
    """Pieces of 3 s instead of a minute: a film of 9 s has three."""
    for module in (films, label):
        monkeypatch.setattr(module, "PIECE", 3.0)
        monkeypatch.setattr(module, "OVERLAP", 1.0)


def run(film, out, engine=in_this_process):
    return label.label(Source([str(film)]), str(out), Settings("expression_small"), engine, Pace())


def rows(out):
    return ds.dataset(f"{out}/faces").to_table().to_pylist()


# --- frames from the middle of a film ---


def encoded(path, codec, **options):
    """A film of 60 frames whose gray level tells their number."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=20, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(60):
            picture = np.full((48, 64, 3), 20 + 3 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"),
                        ("a.ts", "libx264"), ("a.mpg", "mpeg2video")],
)  # fmt: skip
@pytest.mark.parametrize("keyframes", [1, 12, 250])
def test_frames_from_a_time_on_are_those_of_the_whole_film(tmp_path, name, codec, keyframes):
    # A frame too few at a seam is lost, one too many is labelled twice
    path = encoded(tmp_path / name, codec, g=str(keyframes), bf="2")
    whole = [(frame.seconds, frame.image.getpixel((9, 9))[0]) for frame in read_frames(path)]
    for begin in (0.3, 1.0, whole[-1][0], whole[-1][0] + 5):
        found = [
            (frame.seconds, frame.image.getpixel((9, 9))[0])
            for frame in read_frames(path, begin=begin)
        ]
        wanted = [pair for pair in whole if pair[0] >= begin]
        assert [seconds for seconds, _ in found] == [seconds for seconds, _ in wanted]
        assert all(abs(a[1] - b[1]) <= 2 for a, b in zip(found, wanted, strict=True))


# --- joined ---


def test_a_film_in_pieces_is_the_film(film, tmp_path, short_pieces):
    counts = run(film, tmp_path / "out")
    predictor = ExpressionPredictor("expression_small")
    track = predictor.tracker()
    whole = {}
    for frame in read_frames(film):
        whole[round(frame.seconds, 4)] = track(frame.image, frame.seconds)
    (told,) = (tmp_path / "out" / "films").iterdir()
    about = json.loads(told.read_text())
    assert (about["frames"], about["tracks"]) == (len(whole), 2) and counts.pictures == 1

    found = {}
    for row in rows(tmp_path / "out"):
        found.setdefault(round(row["seconds"], 4), []).append(row)
    same, differ = {}, 0
    for seconds, faces in whole.items():
        here = found.get(seconds, [])
        assert len({row["track"] for row in here}) == len(here), "one face twice in a frame"
        differ += len(here) != len(faces)
        for face in faces:
            for row in here:
                box = tuple(row[name] for name in ("x", "y", "width", "height"))
                if films.overlap(face.box, box) > 0.5:
                    same.setdefault(face.track, set()).add(row["track"])
    assert sorted(same) == [1, 2] and sorted(map(len, same.values())) == [1, 1]
    assert same[1] != same[2], "two people with one number"
    assert differ <= len(whole) * 0.03  # a new face may be found some frames earlier or later
    assert not list((tmp_path / "out" / "pieces").iterdir())


def test_a_film_that_was_cut_short_goes_on_with_its_missing_pieces(
    film, tmp_path, short_pieces, monkeypatch
):
    class Killed(BaseException):
        pass

    asked = []

    def killed(after, settings, chunks):
        asked.append(len(chunks))
        for number, table in enumerate(in_this_process(settings, chunks)):
            if number == after:
                raise Killed
            yield table

    with pytest.raises(Killed):
        run(film, tmp_path / "cut", partial(killed, 2))
    assert len(list((tmp_path / "cut" / "pieces").iterdir())) == 2
    monkeypatch.setattr(Results, "drop_piece", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):  # the part is there, and its pieces, too
        run(film, tmp_path / "cut", partial(killed, 9))
    monkeypatch.undo()
    for module in (films, label):
        monkeypatch.setattr(module, "PIECE", 3.0)
        monkeypatch.setattr(module, "OVERLAP", 1.0)
    assert run(film, tmp_path / "cut", partial(killed, 9)).pictures == 0
    assert asked == [3, 1] and not list((tmp_path / "cut" / "pieces").iterdir())
    run(film, tmp_path / "calm")
    assert rows(tmp_path / "cut") == rows(tmp_path / "calm")


def test_a_film_that_cannot_be_read_is_a_row_with_the_reason(tmp_path):
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "broken.mp4").write_bytes(b"no film")
    counts = run(tmp_path / "films", tmp_path / "out")
    (row,) = rows(tmp_path / "out")
    assert counts.errors == 1 and "broken.mp4" in row["error"]
    assert run(tmp_path / "films", tmp_path / "out").pictures == 0


def test_a_film_in_a_store_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match="as a file"):
        films.pieces_of(Item("s3://b/a.mp4", "s3://b/a.mp4"))


def seen(number, *faces):
    """A table as `follow_piece` gives it: of (seconds, track, x) of faces of 10 × 10."""
    rows = [
        row
        for seconds, track, x in faces
        for row in face_rows(
            "a.mp4", [FacePrediction((x, 0, 10, 10), {"a": 1.0}, track=track)], ["a"], "", seconds
        )
    ]
    return films.numbered(table_of(rows, ["a"]), number)


def test_two_faces_that_swap_their_numbers_at_a_seam_keep_those_of_the_film():
    # Each piece counts from 1, the largest face first: who is 1 differs from piece to piece
    pieces = [Piece(Item("a.mp4", "a.mp4"), k, 2.0 * k, None) for k in range(3)]
    tables = [
        seen(0, (0.0, 1, 0), (0.0, 2, 50), (1.0, 1, 0), (1.0, 2, 50)),
        seen(1, (1.0, 2, 1), (1.0, 1, 51), (2.0, 2, 1), (2.0, 1, 51), (3.0, 1, 51)),
        seen(2, (3.0, 1, 51), (4.0, 1, 51), (4.0, 3, 0)),
    ]
    whole = pa.concat_tables(joined(tables, pieces))
    found = [(r["seconds"], r["track"], r["x"]) for r in whole.to_pylist()]
    assert found == [
        (0.0, 1, 0), (0.0, 2, 50), (1.0, 1, 0), (1.0, 2, 50),
        (2.0, 1, 1), (2.0, 2, 51), (3.0, 2, 51),
        (4.0, 2, 51), (4.0, 3, 0),
    ]  # fmt: skip


def test_a_piece_is_the_same_after_its_way_to_a_worker():
    piece = Piece(Item("a.mp4", "a.mp4"), 1, 60.0, None)
    assert Piece.unpacked(json.loads(json.dumps(piece.packed()))) == piece
    assert Path(piece.item.place).name == "a.mp4"
