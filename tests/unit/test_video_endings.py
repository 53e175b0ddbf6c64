"""Every ending that counts as a video is one whose container is read, as FFmpeg writes it."""

import os
from pathlib import Path

import av
import numpy as np
import pytest

from expression.file_kinds import VIDEOS
from expression.frames import SAFE, read_frames
from expression.input_names import expand, is_video

FORMS = {
    "mp4": (".mp4 .m4v .f4v", "mpeg4"),
    "mov": (".mov .qt", "mpeg4"),
    "3gp": (".3gp", "mpeg4"),
    "3g2": (".3g2", "mpeg4"),
    "matroska": (".mkv .webm", "mpeg4"),
    "avi": (".avi .divx", "mpeg4"),
    "asf": (".wmv .asf", "msmpeg4"),
    "flv": (".flv", "flv"),
    "ogg": (".ogv", "libvpx"),
    "mpeg": (".mpg .mpeg .mpe", "mpeg1video"),
    "vob": (".vob", "mpeg2video"),
    "mpegts": (".ts .mts .m2ts .m2t", "mpeg2video"),
}
CASES = {ending: (form, codec) for form, (ends, codec) in FORMS.items() for ending in ends.split()}


def write(path, form, codec, frames=3):
    try:
        av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this FFmpeg has no encoder {codec}")
    with av.open(os.fspath(path), "w", format=form) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 176, 144, "yuv420p"
        for level in np.linspace(50, 200, frames):
            picture = np.full((144, 176, 3), level, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())


def test_no_ending_is_without_a_container():
    assert set(CASES) == VIDEOS
    known = set(SAFE["format_whitelist"].split(","))
    assert known - {"gif"} == {"mov", "matroska", "avi", "mpegts", "mpeg", "flv", "ogg", "asf"}


@pytest.mark.parametrize("ending", sorted(VIDEOS))
def test_every_video_ending_is_read_and_taken_in_a_folder(ending, tmp_path):
    path = tmp_path / f"film{ending.upper()}"
    write(path, *CASES[ending])
    assert is_video(str(path)) and expand([str(tmp_path)]).names == [str(path)]
    assert len(list(read_frames(path))) >= 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_video_whose_name_is_no_utf8_is_read(tmp_path):
    plain, odd = tmp_path / "film.mp4", Path(os.path.join(tmp_path, os.fsdecode(b"caf\xe9.mp4")))
    write(plain, "mp4", "mpeg4")
    try:
        plain.rename(odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert len(list(read_frames(odd))) >= 2
    odd.write_bytes(b"no video")
    with pytest.raises(ValueError) as caught:
        list(read_frames(odd))
    str(caught.value).encode()
