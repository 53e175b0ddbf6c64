"""What `expression label` reads: each picture of a source, once, without holding their names."""

import io
import tracemalloc
from collections import Counter

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from expression.bulk import sources
from expression.bulk.keys import KEY_BYTES, SeenKeys, key_of
from expression.bulk.label import fresh_waves
from expression.bulk.sources import Item, Source
from expression.bulk.worker import Labeller, Settings, open_place


def content(shade=128):
    file = io.BytesIO()
    Image.new("L", (8, 8), shade).save(file, "PNG")
    return file.getvalue()


def names(*given, **more):
    return [item.name for item in Source([str(one) for one in given], **more).items()]


def opened(source):
    """{name: the first pixel, or why it cannot be opened}."""
    labeller = Labeller(Settings())
    return {
        item.name: image if isinstance(image, str) else image.getpixel((0, 0))
        for item, image in labeller.opened(list(source.items()))
    }


@pytest.fixture
def bucket():
    """A folder in fsspec's memory, empty before and after."""
    fs = fsspec.filesystem("memory")
    yield fs
    fs.rm("/", recursive=True) if fs.ls("/") else None
    fs.store.clear()


# --- keys ---


def test_each_key_is_new_once():
    seen = SeenKeys()
    keys = [key_of(name) for name in "abca"]
    assert seen.add(keys) == [0, 1, 2] and seen.add(keys) == []
    assert seen.add([key_of("d"), key_of("a")]) == [0] and len(seen) == 4


def test_a_key_with_zeros_at_its_end_is_a_key_of_its_own():
    # numpy cuts zeros off a text's end when it shows it
    seen = SeenKeys([b"a" * 15 + b"\0"])
    assert seen.add([b"a" * 15 + b"\0", b"a" * 14 + b"\0\0"]) == [1]


def test_a_name_that_is_no_utf8_has_a_key():
    assert len(key_of("caf\udce9.png")) == KEY_BYTES


def test_names_are_not_held_but_their_keys(monkeypatch):
    count = 100_000
    endless = ((f"/photos/{k // 1000:06}/{k:09}.jpg", None) for k in range(count))
    monkeypatch.setattr(sources, "files_below", lambda _: endless)
    monkeypatch.setattr(sources, "store_of", lambda name: (Folder(), name))
    monkeypatch.setattr(sources, "absolute", str)
    seen, found = SeenKeys(), 0
    tracemalloc.start()
    for wave in fresh_waves(Source(["photos"]).items(), seen, 5_000):
        found += len(wave)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == len(seen) == count
    assert peak < 10e6  # all items at once take 40 MB


class Folder:
    def isdir(self, _):
        return True


# --- folders, lists, tables, stores ---


def test_a_folder_gives_its_pictures_and_films_and_tells_the_others(tmp_path):
    for name in ("a.png", "deep/b.jpg", "deep/c.mp4", "d.txt", ".hidden.png", "out/faces/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    source = Source([str(tmp_path)], skip=f"{tmp_path}/out/")
    found = {item.name.removeprefix(f"{tmp_path}/") for item in source.items()}
    assert found == {"a.png", "deep/b.jpg", "deep/c.mp4"}
    assert source.passed_over == Counter({".txt": 1})


def test_one_picture_has_one_name_however_it_is_given(tmp_path, monkeypatch):
    # Two names: the picture is labelled, and counted, twice
    (tmp_path / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    given = ["a.png", "./a.png", str(tmp_path / "a.png"), f"file://{tmp_path}/a.png", "*.png"]
    assert {name for one in given for name in names(one)} == {str(tmp_path / "a.png")}


def test_a_list_names_files_beside_itself_and_addresses(tmp_path):
    lines = ["a.png", "", "/b.png", "https://example.org/c.png", "s3://bucket/d.png"]
    (tmp_path / "all.txt").write_text("\n".join(lines))
    assert names(tmp_path / "all.txt") == [str(tmp_path / "a.png"), *lines[2:]]


def images(values):
    return pa.array(values, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


@pytest.mark.parametrize("kind", ["image", "bytes", "path"])
def test_a_table_of_pictures_is_read_in_each_of_its_forms(tmp_path, kind):
    (tmp_path / "beside.png").write_bytes(content(3))
    column = {
        "image": images([{"bytes": content(1), "path": None}, {"bytes": None, "path": "beside.png"},
                         None, {"bytes": b"no", "path": None}]),
        "bytes": pa.array([content(1), content(3), None, b"no"]),
        "path": pa.array(["missing.png", "beside.png", None, "ftp://host/a.png"]),
    }[kind]  # fmt: skip
    table = pa.table({"label": pa.array([0, 1, 2, 3]), "image" if kind != "path" else kind: column})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    found = [*opened(Source([str(tmp_path / "a.parquet")])).items()]
    assert [name for name, _ in found] == [f"{tmp_path}/a.parquet#{k}" for k in range(4)]
    values = [value for _, value in found]
    assert values[1] == 3 and "nothing in this row" in values[2]
    assert isinstance(values[3], str) and (values[0] == 1 or "no picture at" in values[0])


def test_rows_are_found_wherever_a_chunk_begins(tmp_path):
    # A worker goes on where it stood; a chunk that comes again begins before that
    pq.write_table(pa.table({"image": [content(k) for k in range(40)]}), tmp_path / "a.parquet")
    items = list(Source([str(tmp_path / "a.parquet")]).items())
    labeller = Labeller(Settings())
    for some in ([30, 31], [5], [5, 6, 39], [0]):
        found = [image.getpixel((0, 0)) for _, image in labeller.opened([items[k] for k in some])]
        assert found == some


def test_the_column_is_asked_for_where_several_could_be_meant(tmp_path):
    pq.write_table(pa.table({"left": [b"1"], "right": [b"2"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="--column: left, right"):
        names(tmp_path / "a.parquet")
    assert len(names(tmp_path / "a.parquet", column="right")) == 1
    with pytest.raises(ValueError, match="'n'"):
        names(tmp_path / "a.parquet", column="n")


def test_a_folder_of_tables_is_their_rows_and_one_beside_pictures_is_not(tmp_path):
    # A data set's folder often holds metadata.parquet beside its pictures
    for name in ("1", "2"):
        pq.write_table(pa.table({"image": [content()] * 2}), tmp_path / f"{name}.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    items = list(Source([str(tmp_path)]).items())
    assert len(items) == 5 and [item.error for item in items if "broken" in item.name][0]
    (tmp_path / "a.png").write_bytes(content())
    assert names(tmp_path) == [str(tmp_path / "a.png")]


def test_a_store_is_read_like_a_folder(bucket):
    bucket.pipe(
        {"/b/photos/a.png": content(7), "/b/photos/deep/b.png": b"", "/b/photos/c.txt": b""}
    )
    found = opened(Source(["memory://b/photos"]))
    assert found["memory:///b/photos/a.png"] == 7 and len(found) == 2
    table = io.BytesIO()
    pq.write_table(pa.table({"path": ["../photos/a.png", "memory://b/photos/a.png"]}), table)
    bucket.pipe("/b/tables/t.parquet", table.getvalue())
    assert [*opened(Source(["memory://b/tables"])).values()][1] == 7


@pytest.mark.parametrize(
    "name", ["ftp://10.0.0.1/a.png", "zip://a.png::http://10.0.0.1/a.zip", "github://a:b@/c.png",
             "filecache::http://10.0.0.1/a.png", "HTTPS+x://10.0.0.1/a.png"],
)  # fmt: skip
def test_a_strangers_table_opens_no_other_kind_of_address(name):
    # fsspec would ask hosts inside the own network, past the rules of expression.download
    with pytest.raises((ValueError, FileNotFoundError), match="known store|no picture"):
        open_place(name)


def test_a_source_without_pictures_or_that_is_missing_is_told(tmp_path):
    (tmp_path / "a.md").touch()
    with pytest.raises(ValueError, match="no picture.*1 .md"):
        names(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Source([str(tmp_path / "nowhere")]).check()


def test_a_store_that_does_not_answer_is_one_sentence(monkeypatch):
    # Without a password for the store each library raises an error of its own, with a traceback
    class Locked(Exception):
        pass

    class Store:
        def exists(self, _):
            raise Locked("Unable to locate credentials\nmore")

    monkeypatch.setattr(sources, "store_of", lambda name: (Store(), name))
    with pytest.raises(OSError, match="photos does not answer .Unable to locate credentials"):
        Source(["s3://b/photos"]).check()


def test_an_item_is_the_same_after_its_way_to_a_worker():
    item = Item("a#1", "a", "image", 2, 3)
    assert Item(*item.packed()) == item
