"""Videos as they come: sideways, uneven, broken, cut off; and runs that end before their time."""

import csv
import errno
import gc
import io
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from expression import timeline, video
from expression.face_prediction import FacePrediction
from expression.frames import ahead, picture_of, read_frames, video_info
from expression.timeline import COLUMNS, Timeline, read_timeline
from expression.video import VideoWriter, annotate_video, first_encoder

UNEVEN = [0.0, 0.033, 0.1, 0.107, 0.5, 1.25, 1.2655, 2.0, 2.04, 3.7]
NAMES = ("happy", "not, happy", "so so")


@dataclass(frozen=True)
class Face(FacePrediction):
    box: tuple[int, int, int, int] = (5, 6, 20, 24)
    probs: dict[str, float] = field(
        default_factory=lambda: {"so so": 0.5, "happy": 0.30004, "not, happy": 0.19996}
    )
    track: int | None = 1


def corners(size=(64, 48)):
    """Red, green, blue and black quarters: turned or mirrored, it shows."""
    image = Image.new("RGB", size)
    w, h = size[0] // 2, size[1] // 2
    image.paste("red", (0, 0, w, h))
    image.paste("lime", (w, 0, size[0], h))
    image.paste("blue", (0, h, w, size[1]))
    return image


def quarters(image):
    """The colours of the four quarters as letters, row by row."""
    w, h = image.size
    letters = {(1, 0, 0): "r", (0, 1, 0): "g", (0, 0, 1): "b", (0, 0, 0): "k"}
    places = [
        (w // 4, h // 4),
        (3 * w // 4, h // 4),
        (w // 4, 3 * h // 4),
        (3 * w // 4, 3 * h // 4),
    ]
    return "".join(letters[tuple(int(v > 128) for v in image.getpixel(p))] for p in places)


def make(path, frames=20, image=None, codec="libx264", times=None, setup=None, **options):
    """A small video written by av alone, 25 frames a second unless `times` are given."""
    image = image or corners()
    with av.open(path, "w", options=options) as container:
        stream = container.add_stream(codec, rate=25, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = *image.size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 60_000)
        if setup:
            setup(stream)
        for k in range(frames):
            frame = av.VideoFrame.from_image(image).reformat(format="yuv420p")
            frame.time_base = Fraction(1, 60_000)
            frame.pts = round(60_000 * (times[k] if times else k / 25))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def clip(tmp_path):
    return make(tmp_path / "clip.mp4")


def noise(rng):
    return Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))


def left_behind(folder):
    return sorted(path.name for path in folder.iterdir())


# --- reading ---


@pytest.mark.parametrize("size", [(64, 48), (50, 34), (24, 18)])
def test_a_frame_becomes_the_same_picture_as_by_av_itself(tmp_path, size):
    # The plane's lines are padded: read without their length, a picture comes out sheared
    source = make(tmp_path / "v.mkv", 1, image=noise(np.random.default_rng(0)))
    with av.open(source) as container:
        frame = next(container.decode(video=0))
    wanted = frame.to_image(width=size[0], height=size[1])
    assert picture_of(frame, *size).tobytes() == wanted.tobytes()


def test_frames_are_made_ahead_and_no_further_than_said():
    made = []

    def numbers():
        for k in range(9):
            made.append(k)
            yield k
        raise ValueError("broken at the end")

    items = ahead(numbers(), most=2)
    assert not made  # nothing is opened before the first is asked for
    assert next(items) == 0
    assert next(items) == 1
    assert len(made) <= 4
    with pytest.raises(ValueError, match="at the end"):
        list(items)
    assert made == list(range(9))


def test_closing_early_closes_the_file_too():
    closed = []

    def numbers():
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    items = ahead(numbers())
    next(items)
    items.close()
    assert closed


def test_frames_come_in_order_with_their_times(clip):
    frames = list(read_frames(str(clip)))
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.seconds for frame in frames] == pytest.approx([k / 25 for k in range(20)])
    assert all(frame.image.mode == "RGB" and frame.image.size == (64, 48) for frame in frames)
    assert quarters(frames[0].image) == "rgbk"


@pytest.mark.parametrize(
    "ending, codec", [("mp4", "libx264"), ("webm", "libvpx"), ("ts", "libx264")]
)
def test_uneven_times_are_kept(tmp_path, ending, codec):
    # Phones record with a variable frame rate; index / fps would drift away from the sound.
    # Broadcast streams (ts) start their clock anywhere.
    path = make(tmp_path / f"v.{ending}", len(UNEVEN), codec=codec, times=UNEVEN)
    assert [f.seconds for f in read_frames(path)] == pytest.approx(UNEVEN, abs=0.002)


@pytest.mark.parametrize(
    "degrees, mirrored, seen, size",
    [
        (0, False, "rgbk", (64, 48)),
        (90, False, "gkrb", (48, 64)),
        (180, False, "kbgr", (64, 48)),
        (-90, False, "brkg", (48, 64)),
        (0, True, "grkb", (64, 48)),
        (180, True, "bkrg", (64, 48)),
        (90, True, "kgbr", (48, 64)),
        (-90, True, "rbgk", (48, 64)),
    ],
)
def test_phone_videos_come_upright(tmp_path, degrees, mirrored, seen, size):
    # Phones store the sensor's picture and say how to hold it; a face on its side is not found.
    # Mirrored, `frame.rotation` is wrong: it says 180 degrees for a picture that stands upright.
    path = make(
        tmp_path / "phone.mp4", 2, setup=lambda s: s.set_display_rotation(degrees, hflip=mirrored)
    )
    image = next(read_frames(path)).image
    assert image.size == size and quarters(image) == seen
    info = video_info(path)
    assert (info.width, info.height) == size


def test_large_videos_are_scaled_down_small_ones_not_up(tmp_path):
    path = make(tmp_path / "v.mp4", 2, setup=lambda s: s.set_display_rotation(90))
    assert next(read_frames(path, longest=32)).image.size == (24, 32)
    assert next(read_frames(path, longest=100)).image.size == (48, 64)
    assert next(read_frames(path, longest=None)).image.size == (48, 64)


def test_wide_pixels_are_made_square(tmp_path):
    # DVDs and old cameras squeeze 16:9 into 720 x 576: faces would be thin.
    def wide(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)

    assert next(read_frames(make(tmp_path / "v.mp4", 2, setup=wide))).image.size == (128, 48)


def test_a_damaged_packet_is_skipped(clip, tmp_path):
    data = bytearray(clip.read_bytes())
    with av.open(clip) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    for position, size in packets[12:14]:
        data[position : position + size] = b"\xff" * size
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    times = [frame.seconds for frame in read_frames(broken)]
    assert 14 <= len(times) < 20 and times[-1] == pytest.approx(19 / 25)


def test_a_video_cut_off_after_its_header_gives_what_is_there(tmp_path):
    path = make(tmp_path / "v.mp4", movflags="faststart")
    with av.open(path) as container:
        middle = [packet.pos for packet in container.demux(video=0) if packet.size][12]
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[: middle + 1])
    assert 8 <= len(list(read_frames(cut))) <= 12


def test_frames_are_decoded_only_when_asked_for(tmp_path, monkeypatch):
    # A list of all frames of an hour in HD would be 600 GB.
    rng = np.random.default_rng(0)
    path = tmp_path / "long.mp4"
    with VideoWriter(path) as writer:
        for k in range(200):
            writer.write(noise(rng), k / 25)
    positions, opened = [0], []

    class Watched(io.BytesIO):
        def read(self, size=-1):
            got = super().read(size)
            positions.append(self.tell())
            return got

    def watched(path, _open=av.open, **options):
        opened.append(_open(Watched(path.read_bytes())))
        return opened[0]

    monkeypatch.setattr(video.av, "open", watched)
    frames = read_frames(path)
    assert [next(frames).index for _ in range(3)] == [0, 1, 2]
    assert max(positions) < path.stat().st_size / 2
    assert opened[0].input_was_opened
    frames.close()
    assert not opened[0].input_was_opened, "closed only when memory is tidied"


def test_frames_passed_are_let_go(clip, tmp_path):
    # av's frames and their side data hold each other: 3 MB of HD video a frame, and the
    # garbage collection, which counts objects and not bytes, comes after hundreds of them.
    gc.collect()
    gc.disable()
    try:
        with VideoWriter(tmp_path / "copy.mp4") as writer:
            for frame in read_frames(clip):
                writer.write(frame.image, frame.seconds)
            assert sum(type(thing) is av.VideoFrame for thing in gc.get_objects()) <= 3
    finally:
        gc.enable()


def test_letters_of_another_alphabet_in_the_header_do_not_stop_it(tmp_path):
    data = make(tmp_path / "v.avi", codec="mpeg4").read_bytes()
    assert b"Lavf" in data  # the name of the program that wrote it
    (tmp_path / "latin.avi").write_bytes(data.replace(b"Lavf", b"L\xe4vf"))
    assert len(list(read_frames(tmp_path / "latin.avi"))) == 20


def sound_only(path):
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), "f4"), format="fltp", layout="mono")
        frame.rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def song_with_cover(path):
    """A recording whose only picture is attached, as music has it."""
    make(path, 1, image=Image.new("RGB", (64, 48)), codec="mjpeg", setup=attached)


def attached(stream):
    stream.pix_fmt = "yuvj420p"
    stream.disposition = Disposition.attached_pic


def text(path):
    path.write_text("this is no video\n" * 50)


def playlist(path):
    make(path.with_name("secret.mp4"))
    path.write_text("ffconcat version 1.0\nfile secret.mp4\n")


def cut_off(path):
    whole = make(path.with_name("whole.mp4")).read_bytes()
    path.write_bytes(whole[: whole.index(b"moov")])


def hollow(path):
    make(path)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - start)
    path.write_bytes(data)


def unknown_codec(path):
    make(path)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz9").replace(b"avcC", b"zzzC"))


@pytest.mark.parametrize(
    "name, spoil, reason",
    [
        ("sound.m4a", sound_only, "no moving picture"),
        ("song.mp4", song_with_cover, "no moving picture"),
        ("text.mp4", text, "not a video"),
        ("text.txt", text, "not a video"),  # FFmpeg would film a terminal that shows it
        ("list.mp4", playlist, "not a video"),  # FFmpeg would open the files that it names
        ("empty.mp4", lambda path: path.touch(), "not a video"),
        ("folder.mp4", lambda path: path.mkdir(), "not a video"),
        ("cut.mp4", cut_off, "not a video"),
        ("hollow.mp4", hollow, "no frame"),
        ("codec.mp4", unknown_codec, "no frame"),
    ],
)
def test_what_is_no_video_is_named_in_one_sentence(tmp_path, name, spoil, reason):
    spoil(tmp_path / name)
    for read in (lambda path: next(read_frames(path)), video_info):
        with pytest.raises(ValueError, match=reason) as error:
            read(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_file_is_refused_not_waited_for(tmp_path, special_files):
    for name, kind in special_files(tmp_path, ".mp4").items():
        for read in (lambda path: next(read_frames(path)), video_info):
            with pytest.raises((ValueError, FileNotFoundError), match=name) as error:
                read(tmp_path / name)
            assert kind == "broken link" or f"is a {kind}" in str(error.value)


def test_a_missing_video_is_named(tmp_path):
    for read in (lambda path: next(read_frames(path)), video_info):
        with pytest.raises(FileNotFoundError, match="no video at .*gone.mp4"):
            read(tmp_path / "gone.mp4")


def test_info_for_a_progress_bar(clip):
    info = video_info(clip)
    assert (info.width, info.height, info.fps, info.frames) == (64, 48, 25, 20)
    assert info.seconds == pytest.approx(0.8, abs=0.05)


def test_a_recording_of_a_browser_has_no_known_length(tmp_path):
    info = video_info(make(tmp_path / "v.webm", codec="libvpx", live="1"))
    assert info.seconds is None and info.frames is None


# --- writing ---


def test_what_is_written_comes_back(tmp_path):
    with VideoWriter(tmp_path / "new" / "v.mp4") as writer:
        for seconds in UNEVEN:
            writer.write(Image.new("RGB", (64, 48), (200, 40, 90)), seconds)
    frames = list(read_frames(tmp_path / "new" / "v.mp4"))
    assert [frame.seconds for frame in frames] == pytest.approx(UNEVEN, abs=0.002)
    # Written by one colour standard and labelled with another, faces turn green or pink.
    assert frames[-1].image.getpixel((30, 20)) == pytest.approx((200, 40, 90), abs=4)


def test_a_browser_can_play_it(tmp_path):
    path = tmp_path / "v.mp4"
    with VideoWriter(path) as writer:
        for seconds in UNEVEN:
            writer.write(corners((65, 47)), seconds)  # H.264 in yuv420p knows even sides only
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "plays only once it is loaded to the end"
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (64, 46)
        # A header that tells less would cut the last frames off
        assert container.duration / av.time_base > UNEVEN[-1]


def test_times_always_rise(tmp_path):
    with VideoWriter(tmp_path / "v.mp4") as writer:
        for seconds in (0.0, 0.1, 0.1, 0.05, 0.2):
            writer.write(corners(), seconds)
    times = [frame.seconds for frame in read_frames(tmp_path / "v.mp4")]
    assert len(times) == 5 and all(a < b for a, b in zip(times, times[1:], strict=False))
    assert times == pytest.approx([0, 0.1, 0.1, 0.1, 0.2], abs=0.002)


def test_a_frame_of_another_size_is_fitted(tmp_path):
    # Recordings of calls change their size in the middle.
    with VideoWriter(tmp_path / "v.mp4") as writer:
        writer.write(corners(), 0)
        writer.write(corners((128, 96)), 0.1)
        writer.write(corners().convert("RGBA"), 0.2)
    frames = list(read_frames(tmp_path / "v.mp4"))
    assert [quarters(f.image) for f in frames] == ["rgbk"] * 3
    assert {f.image.size for f in frames} == {(64, 48)}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("frames", [0, 1, 20])
def test_a_broken_run_leaves_no_video(tmp_path, error, frames):
    (tmp_path / "v.mp4").write_bytes(b"the one of yesterday")
    with pytest.raises(error), VideoWriter(tmp_path / "v.mp4") as writer:
        for k in range(frames):
            writer.write(corners(), k / 25)
        raise error
    assert left_behind(tmp_path) == ["v.mp4"]
    assert (tmp_path / "v.mp4").read_bytes() == b"the one of yesterday"


def test_no_frame_makes_no_file(tmp_path):
    with VideoWriter(tmp_path / "v.mp4"):
        pass
    assert left_behind(tmp_path) == []


def test_another_encoder_serves_where_x264_is_missing(tmp_path):
    assert first_encoder(("no_such_encoder", "mpeg4")) == "mpeg4"
    with pytest.raises(RuntimeError, match="no_such_encoder"):
        first_encoder(("no_such_encoder",))
    with VideoWriter(tmp_path / "v.mp4", encoder="mpeg4") as writer:
        assert writer.encoder == "mpeg4"
        for seconds in UNEVEN:
            writer.write(corners(), seconds)
    times = [frame.seconds for frame in read_frames(tmp_path / "v.mp4")]
    assert times == pytest.approx(UNEVEN, abs=0.002)


# --- the table ---


def test_the_table_comes_back_with_any_class_name(tmp_path):
    path = tmp_path / "t.csv"
    with Timeline(path, NAMES) as table:
        table.add(0.04, 1, Face())
        table.add(0.08, 2, Face(track=None, box=(-3, 0, 9, 9)))
    with path.open(newline="", encoding="utf-8") as file:
        header, first, _ = csv.reader(file)
    assert header == [*COLUMNS, *NAMES]
    cells = ["0.040", "1", "1", "5", "6", "20", "24", "so so", "true", "0.3000", "0.2000", "0.5000"]
    assert first == cells
    class_names, rows = read_timeline(path)
    assert class_names == NAMES
    shares = {"happy": 0.3, "not, happy": 0.2, "so so": 0.5}
    assert rows == [(0.04, 1, shares), (0.08, None, shares)]
    assert list(rows[0][2]) == list(NAMES), "a stacked figure needs the order of the classes"


def test_rows_reach_the_disk_every_second(tmp_path, monkeypatch):
    # A machine that loses power after an hour should lose a second, not the hour.
    clock = [0.0]
    monkeypatch.setattr(timeline, "monotonic", lambda: clock[0])
    with Timeline(tmp_path / "t.csv", NAMES) as table:
        table.add(0.0, 0, Face())
        [path] = tmp_path.iterdir()
        assert path.name != "t.csv" and path.read_text() == ""
        clock[0] = 1.1
        table.add(1.1, 1, Face())
        assert len(path.read_text().splitlines()) == 3


def test_other_classes_than_the_table_has_are_refused(tmp_path):
    with pytest.raises(ValueError, match="happy"), Timeline(tmp_path / "t.csv", ["sad"]) as table:
        table.add(0, 0, Face())
    assert left_behind(tmp_path) == []


def test_a_long_track_is_thinned_evenly_a_short_one_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(timeline, "POINTS", 20)
    with Timeline(tmp_path / "t.csv", NAMES) as table:
        for k in range(1000):
            table.add(k / 25, k, Face())
            if k % 100 == 0:
                table.add(k / 25, k, Face(track=2))
    _, rows = read_timeline(tmp_path / "t.csv")
    long = [seconds for seconds, track, _ in rows if track == 1]
    assert 10 <= len(long) <= 20 and len(set(np.diff(long).round(6))) == 1
    assert long[0] == 0 and long[-1] > 35
    assert sum(track == 2 for _, track, _ in rows) == 10
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


def test_what_is_no_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.csv"):
        read_timeline(tmp_path / "gone.csv")
    (tmp_path / "other.csv").write_text("pixels,label\n1,2\n")
    with pytest.raises(ValueError, match="other.csv is not a table"):
        read_timeline(tmp_path / "other.csv")
    (tmp_path / "cut.csv").write_text(",".join([*COLUMNS, "happy"]) + "\n0.1,1,1,5,\n")
    with pytest.raises(ValueError, match="cut.csv, line 2"):
        read_timeline(tmp_path / "cut.csv")


# --- both ---


def annotate(source, folder, follow=lambda image, seconds: [Face()], **more):
    return annotate_video(
        source,
        follow,
        class_names=NAMES,
        draw=lambda image, seen: Image.new("RGB", image.size, "blue"),
        **{"video_out": folder / "out.mp4", "csv_out": folder / "out.csv"} | more,
    )


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_every_frame_is_followed_drawn_and_written_down(clip, out):
    def follow(image, seconds):
        return [Face(track=1), Face(track=2)] if seconds > 0.5 else [Face(track=None)]

    summary = annotate(clip, out, follow)
    assert (summary.frames, summary.tracks, summary.faces) == (20, 2, 13 + 2 * 7)
    assert summary.seconds == pytest.approx(19 / 25)
    frames = list(read_frames(out / "out.mp4"))
    assert [frame.seconds for frame in frames] == pytest.approx([k / 25 for k in range(20)])
    assert quarters(frames[0].image) == "bbbb"
    _, rows = read_timeline(out / "out.csv")
    assert [track for _, track, _ in rows] == [None] * 13 + [1, 2] * 7
    assert left_behind(out) == ["out.csv", "out.mp4"]


def test_video_or_table_alone(clip, out):
    annotate(clip, out, video_out=None)
    assert left_behind(out) == ["out.csv"]
    annotate(clip, out, csv_out=None)
    assert left_behind(out) == ["out.csv", "out.mp4"]


def test_an_interrupt_keeps_what_was_read(clip, out):
    # Whoever stops a run of an hour wants the hour.
    def follow(image, seconds):
        if seconds > 0.39:
            raise KeyboardInterrupt
        return [Face()]

    with pytest.raises(KeyboardInterrupt):
        annotate(clip, out, follow)
    assert len(list(read_frames(out / "out.mp4"))) == 10
    assert len(read_timeline(out / "out.csv")[1]) == 10
    assert left_behind(out) == ["out.csv", "out.mp4"]


def test_an_error_keeps_nothing(clip, out):
    def follow(image, seconds):
        if seconds > 0.39:
            raise RuntimeError("no memory")
        return [Face()]

    with pytest.raises(RuntimeError, match="no memory"):
        annotate(clip, out, follow)
    assert left_behind(out) == []


def test_the_source_is_not_written_over(clip, out):
    before = clip.read_bytes()
    with pytest.raises(ValueError, match="another name"):
        annotate(clip, out, video_out=str(clip))
    assert clip.read_bytes() == before


def test_stops_after_so_many_seconds(clip, out):
    told = []
    summary = annotate(
        clip, out, max_seconds=0.2, progress=lambda done, total: told.append((done, total))
    )
    assert summary.frames == 5
    assert told[0] == (0.0, 0.2)


def test_progress_is_told_ten_times_a_second(clip, out, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(video, "monotonic", lambda: clock[0])

    def follow(image, seconds):
        clock[0] += 0.03
        return []

    told = []
    annotate(clip, out, follow, progress=lambda done, total: told.append(done))
    # 20 frames took 0.6 s; the bar must not stop before its end
    assert told == pytest.approx([0.0, 0.16, 0.32, 0.48, 0.64, 0.8])


def test_a_file_that_asks_for_too_much_memory_is_broken_the_machine_is_not(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")

    (tmp_path / "film.mp4").write_bytes(b"0")
    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(ValueError, match="film.mp4.*broken") as refused:
        video_info(tmp_path / "film.mp4")
    assert "Cannot allocate" not in str(refused.value)
