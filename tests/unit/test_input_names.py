"""What a command's arguments mean: every picture and video in a folder; what is passed over."""

import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from expression import file_kinds, input_names
from expression.file_kinds import FORMATS, HEIC, PICTURES, VIDEOS
from expression.files import shown
from expression.input_names import expand, is_video, passed_over_words
from expression.pictures import open_picture


@pytest.fixture
def album(tmp_path, monkeypatch):
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "deep/c.mp4", "deep/more/d.webp"):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "album" / ".thumbs").mkdir()
    (tmp_path / "album" / ".thumbs" / "t.png").touch()
    (tmp_path / "album" / "odd[1].png").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)


def names(found):
    return [name.replace("\\", "/").removeprefix("album/") for name in found.names]


def test_folders_and_globs_give_pictures_and_videos_sorted_and_once(album):
    everything = ["a.png", "b.JPG", "deep/c.mp4", "deep/more/d.webp", "odd[1].png"]
    assert names(expand(["album"])) == everything
    assert names(expand(["album/*.png"])) == ["a.png", "odd[1].png"]
    assert sorted(names(expand(["album/**"]))) == sorted(everything)
    assert names(expand(["album/**/*.webp"])) == ["deep/more/d.webp"]
    # Order is the user's; the second name of a file is not a second file
    assert names(expand(["album/b.JPG", "album/../album/b.JPG", "album"])) == [
        "b.JPG",
        *[name for name in everything if name != "b.JPG"],
    ]


def test_named_files_and_web_addresses_pass_as_they_are(album):
    given = ["http://a.example/*?b=[1]", "album/odd[1].png", "album/notes.txt", "missing.jpg"]
    assert expand(given).names == given


@pytest.mark.parametrize("nothing", ["empty", "album/*.bmp", "none/**/*.jpg"])
def test_a_folder_or_glob_without_pictures_is_named(album, nothing):
    with pytest.raises(ValueError) as caught:
        expand(["album/a.png", nothing])
    assert str(caught.value).startswith(nothing)


def test_videos_are_known_by_their_ending_but_never_on_the_web():
    assert is_video("x/Film.MP4") and is_video("a.webm")
    assert not is_video("a.jpg") and not is_video("https://a.example/film.mp4")


# --- every form that can be opened is taken, the rest is counted ---


def test_the_list_of_endings_is_that_of_the_formats_that_are_opened():
    # A form that opens when it is named, but is passed over in its folder, is lost in silence
    Image.init()
    endings = {e for e, form in Image.registered_extensions().items() if form in FORMATS}
    assert endings - PICTURES == set()
    assert PICTURES - endings == {".mpo"}  # a JPEG with further pictures behind it
    assert not PICTURES & VIDEOS and not HEIC & (PICTURES | VIDEOS)


@pytest.mark.parametrize("ending", sorted(PICTURES))
def test_every_picture_ending_opens_and_is_taken_in_a_folder(ending, tmp_path):
    form = Image.registered_extensions().get(ending, "JPEG")
    gray = ending in (".pbm", ".pgm", ".pfm")
    image = Image.new({".pbm": "1", ".pfm": "F"}.get(ending, "L" if gray else "RGB"), (40, 30), 1)
    path = tmp_path / f"x{ending.upper()}"
    image.save(path, form)
    assert expand([str(tmp_path)]).names == [str(path)]
    assert open_picture(path).size == (40, 30)


def test_a_folder_tells_what_it_passed_over(album, tmp_path):
    for name in ("IMG_1.CR2", "IMG_2.cr2", "README", "Thumbs.db", "deep/more/b.pdf"):
        (tmp_path / "album" / name).touch()
    found = expand(["album"])
    assert found.passed_over == {".cr2": 2, ".txt": 1, "": 1, ".pdf": 1}
    assert len(found.names) == 5
    for pattern in ("album/*", "album/**", "alb?m"):  # a file that fits twice counts once
        assert expand([pattern]).passed_over == found.passed_over
    assert expand(["album", "album"]).passed_over == found.passed_over
    assert expand(["album/notes.txt"]).passed_over == {}  # it was named: not passed over


def test_folders_that_were_not_entered_are_told(album, tmp_path, monkeypatch):
    os.symlink(tmp_path / "album" / "deep", tmp_path / "empty" / "link")
    (tmp_path / "empty" / "a.png").touch()
    assert expand(["empty"]).passed_over == {input_names.LINKED: 1}

    (tmp_path / "empty" / "locked").mkdir()
    scandir = os.scandir

    def locked(place):  # root may read any folder
        if place.endswith("locked"):
            raise PermissionError(13, "Permission denied", place)
        return scandir(place)

    monkeypatch.setattr(os, "scandir", locked)
    assert expand(["empty"]).passed_over == {input_names.LINKED: 1, input_names.LOCKED: 1}


def test_what_is_no_file_is_passed_over_and_told(album, tmp_path, special_files):
    special_files(tmp_path / "album/deep", ".mp4")
    special_files(tmp_path / "album", ".png")
    counted = {"pipe": 2, "device": 2, "socket": 2, "broken link": 4, ".txt": 1}
    for argument in ("album", "album/**"):
        found = expand([argument])
        assert len(found.names) == 5 and found.passed_over == counted
    special_files(tmp_path / "empty", ".png")
    with pytest.raises(ValueError, match="without pictures.*1 pipe"):
        expand(["empty"])


def test_what_was_passed_over_is_one_line():
    assert passed_over_words(Counter()) == ""
    assert passed_over_words(Counter({"": 1})).startswith("1 file was")
    told = passed_over_words(Counter({".txt": 2, ".heic": 3, "": 1}))
    assert "6 files" in told and "3 .heic, 2 .txt, 1 without" in told and "pillow-heif" in told
    assert "pillow-heif" not in passed_over_words(Counter({".txt": 2}))
    many = passed_over_words(Counter({f".{k}": 20 - k for k in range(20)}))
    assert "20 .0" in many and "14 other kinds" in many and "\n" not in many
    assert passed_over_words(Counter({".a\nb\udce9": 1})).isprintable()


def test_a_folder_of_nothing_but_other_files_says_what_they_are(album, tmp_path):
    (tmp_path / "empty" / "a.txt").touch()
    with pytest.raises(ValueError, match="without pictures.*1 .txt"):
        expand(["empty"])


@pytest.mark.parametrize("installed", [True, False])
def test_heic_is_taken_where_it_can_be_opened(tmp_path, monkeypatch, installed):
    monkeypatch.setattr(file_kinds, "heic_installed", lambda: installed)
    for name in ("IMG_1.HEIC", "a.jpg"):
        (tmp_path / name).touch()
    found = expand([str(tmp_path)])
    assert len(found.names) == 1 + installed
    assert found.passed_over == ({} if installed else {".heic": 1})


# --- names that are no UTF-8 ---

ODD = os.fsdecode(b"caf\xe9.png")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("café.png", "café.png"),
        ("caf\udce9.png", "caf\\xe9.png"),
        ("half \ud800.png", "half \\ud800.png"),
        ("two\nlines\x1b[31m", "two\\nlines\\x1b[31m"),
        (Path("a b/ß\u202f.png"), "a b/ß\u202f.png"),
    ],
)
def test_any_name_can_be_shown(name, told):
    assert shown(name) == told
    shown(name).encode()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_is_no_utf8_is_found_opened_and_named_in_errors(tmp_path):
    path = os.path.join(tmp_path, ODD)
    try:
        Image.new("RGB", (9, 8)).save(Path(path).open("wb"), "PNG")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert expand([str(tmp_path)]).names == expand([f"{tmp_path}/*.png"]).names == [path]
    assert open_picture(path).size == open_picture(Path(path)).size == (9, 8)
    Path(path).write_bytes(b"no picture")
    for broken in (path, Path(path), f"{tmp_path}/none-{ODD}", f"{tmp_path}/\udce9/"):
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            open_picture(broken)
        assert "\\xe9" in str(caught.value)
        str(caught.value).encode()


@pytest.mark.parametrize("name", ["ftp://example.org/x.jpg", "s3://bucket/x.mp4", "file:///x.jpg"])
def test_an_address_that_is_not_of_the_web_is_no_missing_file(name):
    # "there is no picture at ftp:/example.org/x.jpg", a slash lost
    for opened in (lambda: expand([name]), lambda: open_picture(name)):
        with pytest.raises(ValueError, match=f"{name}: .*http"):
            opened()
