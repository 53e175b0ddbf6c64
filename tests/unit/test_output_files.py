"""No output replaces an input, nor a file that the run did not make."""

import csv
import errno
import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from expression import cli, output_files, video, video_files, webcam
from expression.checkpoint import default_checkpoint, read_card
from expression.frames import video_info
from expression.output_files import MAX_NOTES, OutputFiles, save_picture
from lab import export

try:
    import resource
except ImportError:  # Windows
    pass

MINE = "made by somebody else"


def write(files, folder, stem="photo", endings=(".jpg",), text="new"):
    with files.reserve(folder, stem, endings) as group:
        for ending in endings:
            group.path(ending).write_text(text)
            group.keep(ending)
    return [path.name for path in group.written]


def listed(folder):
    """{name: text} of all files in and below a folder, hidden ones too."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


# --- names ---


def test_a_file_that_exists_keeps_its_content(tmp_path):
    (tmp_path / "photo.jpg").write_text(MINE)
    files = OutputFiles()
    assert write(files, tmp_path) == ["photo-2.jpg"]
    assert listed(tmp_path) == {"photo.jpg": MINE, "photo-2.jpg": "new"}
    (note,) = files.notes()
    assert str(tmp_path / "photo.jpg") in note and "photo-2.jpg" in note


def test_a_free_name_is_taken_as_it_is_and_its_folder_made(tmp_path):
    files = OutputFiles()
    assert write(files, tmp_path / "new" / "out") == ["photo.jpg"]
    assert listed(tmp_path) == {"new/out/photo.jpg": "new"} and not files.notes()


def test_files_that_belong_together_share_a_number(tmp_path):
    # clip-2.mp4 beside clip.csv and clip-3.png: nobody could tell which table is whose
    (tmp_path / "clip.png").write_text(MINE)
    (tmp_path / "clip-2.csv").write_text(MINE)
    three = write(OutputFiles(), tmp_path, "clip", (".mp4", ".csv", ".png"))
    assert three == ["clip-3.mp4", "clip-3.csv", "clip-3.png"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_outputs_of_one_run_do_not_replace_each_other(tmp_path, overwrite):
    # A name that differs only in case is the same file on macOS and Windows
    files = OutputFiles(overwrite=overwrite)
    names = [write(files, tmp_path, stem, text=stem)[0] for stem in ("a", "a", "A", "ä", "a\u0308")]
    assert names == ["a.jpg", "a-2.jpg", "A-3.jpg", "ä.jpg", "a\u0308-2.jpg"]
    assert len(listed(tmp_path)) == 5


def test_many_equal_names_are_numbered_without_a_gap(tmp_path):
    (tmp_path / "frame-3.jpg").write_text(MINE)
    files = OutputFiles()
    groups = [files.reserve(tmp_path, "frame", [".jpg"]) for _ in range(5)]
    assert [group.number for group in groups] == [1, 2, 4, 5, 6]


def test_names_are_held_before_anything_is_written(tmp_path):
    # A table is open for the whole run: its name must not go to a timeline in the meantime
    files = OutputFiles()
    with files.text(tmp_path / "clip.csv") as table:
        table.write("pictures")
        names = write(files, tmp_path, "clip", (".mp4", ".csv"))
        assert not (tmp_path / "clip.csv").exists()
    assert names == ["clip-2.mp4", "clip-2.csv"]
    assert (tmp_path / "clip.csv").read_text() == "pictures"


def test_many_names_in_use_are_told_in_one_line(tmp_path):
    files = OutputFiles()
    for _ in range(MAX_NOTES + 1):
        write(files, tmp_path)
    assert len(files.notes()) == MAX_NOTES
    write(files, tmp_path)
    (note,) = files.notes()
    assert str(MAX_NOTES + 1) in note and "--overwrite" in note


# --- inputs ---


def test_overwrite_replaces_files_but_no_input(tmp_path):
    for name in ("photo.jpg", "input.jpg"):
        (tmp_path / name).write_text(MINE)
    files = OutputFiles(inputs=[tmp_path / "input.jpg"], overwrite=True)
    assert write(files, tmp_path) == ["photo.jpg"]
    assert write(files, tmp_path, "input") == ["input-2.jpg"]
    assert listed(tmp_path) == {"photo.jpg": "new", "input.jpg": MINE, "input-2.jpg": "new"}


@pytest.mark.parametrize("link", ["symbolic", "to input", "hard", "folder"])
def test_an_input_is_known_under_other_names(tmp_path, link):
    (tmp_path / "in").mkdir()
    given, target = tmp_path / "in" / "photo.jpg", tmp_path / "out"
    given.write_text(MINE)
    if link == "folder":
        target.symlink_to(given.parent)
    else:
        target.mkdir()
    if link == "symbolic":
        (target / "photo.jpg").symlink_to(given)
    elif link == "hard":
        (target / "photo.jpg").hardlink_to(given)
    elif link == "to input":  # what is given is the link, and the file itself lies in out/
        given = given.rename(target / "photo.jpg")
        (tmp_path / "link.jpg").symlink_to(given)
        given = tmp_path / "link.jpg"
    assert write(OutputFiles([given], overwrite=True), target) == ["photo-2.jpg"]
    assert given.read_text() == (target / "photo.jpg").read_text() == MINE


@pytest.mark.parametrize(
    ("given", "output"),
    [
        ("Photo.JPG", "photo.jpg"),  # one file on Windows and macOS
        ("ä.jpg", "a\u0308.jpg"),  # macOS spells the letter in the second way
        ("STRASSE.jpg", "straße.jpg"),
        ("\u0390.jpg", "\u03aa\u0301.jpg"),  # folding the case parts some Greek letters
    ],
)
def test_an_input_is_known_in_other_spellings(tmp_path, given, output):
    (tmp_path / given).write_text(MINE)
    files = OutputFiles([tmp_path / given], overwrite=True)
    stem = Path(output).stem
    assert write(files, tmp_path, stem) == [f"{stem}-2.jpg"]
    assert (tmp_path / given).read_text() == MINE


@pytest.mark.parametrize("stem", ["n" * 300, "ä" * 200])
def test_a_name_that_is_too_long_is_cut(tmp_path, stem):
    files = OutputFiles()
    first, second = write(files, tmp_path, stem), write(files, tmp_path, stem)
    assert first != second and len(listed(tmp_path)) == 2
    assert stem.startswith(Path(first[0]).stem) and second[0].endswith("-2.jpg")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "photo.jpg").write_text(MINE)
    for folder in ("photo.jpg", "photo.jpg/deep/er"):
        with pytest.raises(NotADirectoryError, match=r"photo\.jpg is a file"):
            OutputFiles().reserve(tmp_path / folder, "a", [".jpg"])


def test_the_name_of_a_missing_input_stays_free(tmp_path):
    # `predict.py a.mov a.mp4 --annotate .` would answer its own output
    assert write(OutputFiles([tmp_path / "photo.jpg"]), tmp_path) == ["photo-2.jpg"]
    web = OutputFiles(["https://example.org/photo.jpg"])
    assert write(web, tmp_path) == ["photo.jpg"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_and_a_link_to_nowhere_are_left_alone(tmp_path, overwrite):
    (tmp_path / "photo.jpg").mkdir()
    (tmp_path / "photo-2.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert write(OutputFiles(overwrite=overwrite), tmp_path) == ["photo-3.jpg"]
    assert not (tmp_path / "nowhere.jpg").exists()


# --- whole or not there ---


@pytest.fixture(params=["hard links", "no hard links"])
def file_system(request, monkeypatch):
    """Memory cards and some network folders know no hard links."""

    def refuse(*_):
        raise OSError(errno.EPERM, "no hard links here")

    if request.param == "no hard links":
        monkeypatch.setattr(output_files.os, "link", refuse)


def test_a_name_taken_while_writing_moves_the_whole_group(tmp_path, file_system):
    # Another program, or the same one started twice
    files, ends = OutputFiles(), (".mp4", ".csv", ".png")
    with files.reserve(tmp_path, "clip", ends) as group:
        for ending in ends:
            group.path(ending).write_text(ending)
            group.keep(ending)
        (tmp_path / "clip.png").write_text(MINE)
    assert listed(tmp_path) == {"clip.png": MINE} | {f"clip-2{end}": end for end in ends}
    assert [path.name for path in group.written] == ["clip-2.mp4", "clip-2.csv", "clip-2.png"]
    assert "clip.png" in files.notes()[0]


def test_runs_at_the_same_time_lose_nothing(tmp_path, file_system):
    def run(number):
        return write(OutputFiles(), tmp_path, text=str(number))

    with ThreadPoolExecutor(16) as pool:
        names = list(pool.map(run, range(64)))
    assert len(set(map(tuple, names))) == 64
    assert sorted(listed(tmp_path).values(), key=int) == [str(k) for k in range(64)]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_only_what_is_whole_gets_its_name(tmp_path, error):
    with pytest.raises(error), OutputFiles().reserve(tmp_path, "clip", [".csv", ".png"]) as group:
        group.path(".csv").write_text("whole")
        group.keep(".csv")
        group.path(".png").write_text("ha")
        assert not (tmp_path / "clip.csv").exists()
        raise error
    assert listed(tmp_path) == {"clip.csv": "whole"}
    assert list(tmp_path.iterdir()) == [tmp_path / "clip.csv"], "the temporary folder is left"


def test_a_table_keeps_its_lines_and_a_pipe_is_written_directly(tmp_path):
    files = OutputFiles()
    with pytest.raises(KeyboardInterrupt), files.text(tmp_path / "t.csv") as table:
        table.write("one line\n")
        raise KeyboardInterrupt
    assert listed(tmp_path) == {"t.csv": "one line\n"}
    with files.text(Path(os.devnull)) as table:
        table.write("nobody reads this")
    assert not files.notes()
    with pytest.raises(IsADirectoryError, match=tmp_path.name), files.text(tmp_path):
        pass


# --- the command line ---


def film(path, frames, size=64):
    """A gray video; nobody is in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as clip:
        stream = clip.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        for _ in range(frames):
            picture = Image.new("RGB", (size, size), "gray")
            clip.mux(stream.encode(av.VideoFrame.from_image(picture)))
        clip.mux(stream.encode())
    return path


def length(path):
    return video_info(path).frames


def noise(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((64, 64), 50).save(path)
    return path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def main(*arguments):
    """`python predict.py` with these arguments; returns its exit code."""
    words = [str(argument) for argument in arguments]
    return cli.main(words)


def run(capsys, *arguments):
    code = main(*arguments, "--whole")
    out = capsys.readouterr()
    assert code == 0, out.err
    return out.out, out.err


@pytest.fixture
def holiday(tmp_path, monkeypatch):
    """The working folder with a user's photo and video, and older files of the video's name."""
    folder = tmp_path / "holiday"
    noise(folder / "photo.jpg")
    film(folder / "a.mov", 3)
    for name in ("a.mp4", "a.csv"):
        (folder / name).write_text(MINE)
    monkeypatch.chdir(folder)
    return folder


def test_results_beside_the_originals_replace_none_of_them(holiday, capsys):
    before = contents(holiday)
    said, told = run(capsys, "photo.jpg", "a.mov", "--annotate", ".")
    after = contents(holiday)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"photo-2.jpg", "a-2.mp4", "a-2.csv", "a-2.png"}
    assert length(holiday / "a-2.mp4") == 3 and "a-2.mp4, a-2.csv, a-2.png" in said
    photo, clip = sorted(told.splitlines(), reverse=True)[:2]
    assert "photo.jpg" in photo and "photo-2.jpg" in photo
    assert "a.mp4" in clip and "a-2.mp4" in clip


def test_overwrite_replaces_the_older_results_and_never_the_originals(holiday, capsys):
    before = contents(holiday)
    run(capsys, "photo.jpg", "a.mov", "--annotate", ".", "--overwrite")
    after = contents(holiday)
    assert set(after) - set(before) == {"photo-2.jpg", "a.png"}
    assert {name for name in before if after[name] != before[name]} == {"a.mp4", "a.csv"}
    assert length(holiday / "a.mp4") == 3


def test_videos_of_one_name_keep_their_own_results(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    one, two = film(Path("day1/clip.mp4"), 3), film(Path("day2/clip.mp4"), 5)
    photo = noise(Path("photo.png"))
    _, told = run(capsys, one, two, photo, "--annotate", "out", "--csv", "out/clip.csv")
    out = contents(Path("out"))
    clips = {f"clip-{n}.{end}" for n in (2, 3) for end in ("mp4", "csv", "png")}
    assert set(out) == clips | {"clip.csv", "photo.jpg"}
    assert [length(f"out/clip-{n}.mp4") for n in (2, 3)] == [3, 5]
    rows = list(csv.DictReader(Path("out/clip.csv").open(encoding="utf-8")))
    sources = [row["source"] for row in rows]
    assert sources == ["photo.png", str(one), str(two)], "a timeline took the table's name"
    assert "clip-2.csv" in told and "clip-3.csv" in told


def test_a_picture_of_a_timelines_name_is_kept(tmp_path, capsys):
    clip, out = film(tmp_path / "clip.mp4", 2), tmp_path / "out"
    out.mkdir()
    (out / "clip.png").write_text(MINE)
    run(capsys, clip, "--annotate", out)
    assert (out / "clip.png").read_text() == MINE
    assert set(contents(out)) == {"clip.png", "clip-2.mp4", "clip-2.csv", "clip-2.png"}


def test_a_table_replaces_neither_a_file_nor_an_input(holiday, capsys):
    shutil.copy("photo.jpg", "photo")
    before = contents(holiday)
    _, told = run(capsys, "photo.jpg", "--csv", "a.csv")
    assert "a-2.csv" in told
    run(capsys, "photo", "--csv", "photo", "--overwrite")
    after = contents(holiday)
    assert {name: after[name] for name in before} == before
    assert b"photo.jpg" in after["a-2.csv"] and b"\nphoto," in after["photo-2"]
    run(capsys, "photo.jpg", "--csv", "a.csv", "--overwrite")
    assert contents(holiday)["a.csv"] == after["a-2.csv"]


def test_the_checkpoint_is_an_input_too(tmp_path, capsys):
    path = shutil.copy(default_checkpoint(), tmp_path / "c.safetensors")
    shutil.copy(default_checkpoint().with_suffix(".onnx"), tmp_path / "c.onnx")
    before, photo = path.read_bytes(), noise(tmp_path / "photo.png")
    run(capsys, photo, "--checkpoint", path, "--csv", path, "--overwrite")
    assert path.read_bytes() == before


def test_an_interrupted_video_keeps_what_was_read_under_a_free_name(holiday, capsys, monkeypatch):
    drawn = []

    def interrupt(image, seen):
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(image)
        return image

    monkeypatch.setattr(video_files, "draw_faces", interrupt)
    before = contents(holiday)
    assert main("a.mov", "--annotate", ".") == 130
    assert set(contents(holiday)) - set(before) == {"a-2.mp4", "a-2.csv"}
    assert length(holiday / "a-2.mp4") == 2
    assert "a-2.mp4" in capsys.readouterr().err
    assert not [path for path in holiday.iterdir() if path.is_dir()]


@pytest.mark.parametrize("output", ["video_out", "csv_out"])
def test_a_video_is_not_written_over_under_another_of_its_names(tmp_path, output):
    clip = film(tmp_path / "clip.mp4", 2)
    (tmp_path / "linked.mp4").hardlink_to(clip)
    outputs = {"video_out": None, "csv_out": None, output: tmp_path / "linked.mp4"}
    with pytest.raises(ValueError, match="linked.mp4"):
        video.annotate_video(
            clip, lambda *_: [], class_names=["sad"], draw=lambda image, _: image, **outputs
        )


def test_screenshots_of_one_second_are_numbered(tmp_path, monkeypatch):
    class Stopped(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2024, 5, 6, 7, 8, 9)

    monkeypatch.setattr(webcam, "datetime", Stopped)
    for _ in range(3):
        webcam.save(Image.new("RGB", (8, 8)), tmp_path)
    stem = "screenshot-20240506-070809"
    assert set(contents(tmp_path)) == {f"{stem}.png", f"{stem}-2.png", f"{stem}-3.png"}


def exported(path, card):
    """The smallest ONNX file that carries a card, as an export does."""
    from onnx import TensorProto, helper, save

    images, logits = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 4, 4])
        for name in ("images", "logits")
    )
    node = helper.make_node("Identity", ["images"], ["logits"])
    graph = helper.make_graph([node], "network", [images], [logits])
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    helper.set_model_props(model, {"expression": json.dumps(card)})
    save(model, path)


@pytest.mark.parametrize(
    ("older", "replaced"), [("own", True), ("other training", False), ("other program", False)]
)
def test_an_export_replaces_only_one_of_the_same_checkpoint(
    tmp_path, monkeypatch, capsys, older, replaced
):
    def fake(model, card, path):
        path.write_text("exported")
        return 0.0

    monkeypatch.setattr(export, "export_onnx", fake)
    path = shutil.copy(default_checkpoint(), tmp_path / "c.safetensors")
    onnx, command = tmp_path / "c.onnx", ["--export-onnx", "--checkpoint", path]
    card = read_card(path)
    if older == "other program":
        onnx.write_text(MINE)
    else:
        exported(onnx, card if older == "own" else {**card, "seed": 99})
    before = onnx.read_bytes()
    assert main(*command) == (0 if replaced else 2)
    said = capsys.readouterr()
    assert str(onnx) in (said.out if replaced else said.err)
    assert onnx.read_bytes() == (b"exported" if replaced else before)
    assert replaced or "--overwrite" in said.err
    assert len(contents(tmp_path)) == 2
    assert main(*command, "--overwrite") == 0
    assert onnx.read_text() == "exported"


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limits of a file's size here")
@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_half_a_picture_on_a_full_disk_is_an_error(ending, tmp_path):
    # Pillow took a write that was cut short for a whole one: exit code 0, and a broken picture
    noise = np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        with pytest.raises(OSError), OutputFiles().reserve(tmp_path, "a", [ending]) as group:
            save_picture(Image.fromarray(noise), group.path(ending))
            group.keep(ending)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == []
