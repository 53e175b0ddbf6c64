"""Kaggle's data sets, with kagglehub's download replaced by a folder, and by Kaggle's own protocol
on this machine where kagglehub is installed.
"""

import http.server
import io
import json
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import datasets
from lab.datasets import kaggle, synthetic
from lab.further_data import read_further

Fill = Callable[[Path], None]


def class_folders(folder: Path) -> None:
    """20 faces in folder/happy and folder/sad."""
    rows = synthetic.load(train=20, validation=1, test=1, size=16, class_names=("happy", "sad"))
    for k, row in enumerate(rows["train"]):
        place = folder / ("happy", "sad")[row["label"]]
        place.mkdir(parents=True, exist_ok=True)
        row["image"].save(place / f"{k}.png")


def fer2013_csv(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    usages = ("Training", "PublicTest", "PrivateTest")
    lines = [f"3,{' '.join([str(k)] * 2304)},{usage}" for k, usage in enumerate(usages)]
    (folder / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *lines]) + "\n")


class Answer:
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


class Refused(OSError):
    """As requests' HTTPError: the answer is an attribute."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} Client Error.\n\nseveral\nlines")
        self.response = Answer(status)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A kagglehub of one data set: `fill` writes it, `error` is raised instead."""
    state = types.SimpleNamespace(fill=class_folders, error=None, asked=[], cache=tmp_path / "kept")

    def dataset_download(handle: str) -> str:
        state.asked.append(handle)
        if state.error:
            raise state.error
        name, _, version = handle.partition("/versions/")
        folder = state.cache / "datasets" / name / "versions" / (version or "2")
        if not folder.exists():
            folder.mkdir(parents=True)
            state.fill(folder)
            (folder.parents[1] / f"{folder.name}.complete").touch()
        return str(folder)

    package, config = types.ModuleType("kagglehub"), types.ModuleType("kagglehub.config")
    package.dataset_download = dataset_download  # type: ignore[attr-defined]
    config.get_cache_folder = lambda: str(state.cache)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", package)
    monkeypatch.setitem(sys.modules, "kagglehub.config", config)
    return state


@pytest.mark.parametrize(
    ("place", "fill", "classes"),
    [
        ("", class_folders, ["happy", "sad"]),
        ("images", class_folders, ["happy", "sad"]),
        ("archive/images", class_folders, ["happy", "sad"]),
        ("challenges", fer2013_csv, list(datasets.fer2013.CLASS_NAMES)),
    ],
)
def test_what_lies_below_the_top_is_found(
    hub: types.SimpleNamespace, place: str, fill: Fill, classes: list[str]
) -> None:
    # Whoever packs a data set for Kaggle packs the folder it lay in, too.
    def filled(folder: Path) -> None:
        fill(folder / place)
        (folder / "about.txt").write_text("see the page")

    hub.fill = filled
    found = datasets.load("kaggle:owner/faces-of.all")
    assert found["train"].features["label"].names == classes
    assert datasets.origin(found) == "kaggle owner/faces-of.all/versions/2"
    assert datasets.slug(found) == "faces-of.all"  # not "2"


def test_a_version_is_asked_for_as_kagglehub_writes_it(hub: types.SimpleNamespace) -> None:
    found = datasets.load("kaggle:owner/faces/versions/3")
    assert hub.asked == ["owner/faces/versions/3"]
    assert datasets.origin(found).endswith("/versions/3")
    with pytest.raises(ValueError, match="kaggle:owner/name/versions/3"):
        datasets.load("kaggle:owner/faces/3")
    assert len(hub.asked) == 1


def test_a_further_data_set_may_come_from_kaggle(hub: types.SimpleNamespace) -> None:
    first, second = read_further(["kaggle:owner/faces", "label=kaggle:owner/more"])
    assert (first.name, second.name) == ("faces", "label")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Refused(404), ["404", "owner/faces", "no data set"]),
        (Refused(403), ["403", "KAGGLE_API_TOKEN", "kaggle.com/settings", "terms"]),
        (ConnectionError("no such host"), ["network", "no such host"]),
        (RuntimeError("broken\nin two"), ["RuntimeError: broken"]),
    ],
    ids=["unknown", "no account", "no network", "other"],
)
def test_a_failure_is_one_sentence(
    hub: types.SimpleNamespace, error: Exception, told: list[str]
) -> None:
    hub.error = error
    with pytest.raises(kaggle.KaggleUnavailable) as raised:
        datasets.load("kaggle:owner/faces")
    assert isinstance(raised.value, OSError)  # as the command line expects it
    assert "\n" not in str(raised.value)
    assert not [word for word in told if word not in str(raised.value)]


def test_without_a_network_the_newest_version_serves(hub: types.SimpleNamespace) -> None:
    # Without a version kagglehub asks for the newest one, although it holds a copy.
    for version in (9, 10, 11):
        datasets.load(f"kaggle:owner/faces/versions/{version}")
    (hub.cache / "datasets/owner/faces/11.complete").unlink()  # its download was cut short
    hub.error = ConnectionError("no such host")
    said: list[str] = []
    found = datasets.load("kaggle:owner/faces", say=said.append)
    assert datasets.origin(found).endswith("/versions/10")
    assert "version 10" in said[0] and "no such host" in said[0]
    with pytest.raises(kaggle.KaggleUnavailable):  # another version than the one that was asked for
        datasets.load("kaggle:owner/faces/versions/3")


def test_nothing_that_can_be_read(hub: types.SimpleNamespace) -> None:
    hub.fill = lambda folder: (folder / "paper.pdf").write_text("x")
    with pytest.raises(ValueError, match=r"found paper.pdf; can read .*FER2013"):
        datasets.load("kaggle:owner/paper")

    def two(folder: Path) -> None:
        class_folders(folder / "young")
        class_folders(folder / "old")

    hub.fill = two
    with pytest.raises(ValueError, match="several data sets: old, young"):
        datasets.load("kaggle:owner/two")


def test_without_kagglehub_the_command_that_installs_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(OSError, match="pip install kagglehub"):
        datasets.load("kaggle:owner/faces")


# --- kagglehub itself, against Kaggle's protocol on this machine ---


class _Kaggle(http.server.BaseHTTPRequestHandler):
    """As much of Kaggle as `dataset_download` asks for: some/faces in version 4."""

    archive = b""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = (asked["ownerSlug"], asked["datasetSlug"]) == ("some", "faces")
        if not known:
            self.answer(404, b'{"code": 404, "message": "Not found"}', "application/json")
        elif self.path.endswith("/GetDataset"):
            told = json.dumps({"id": 1, "currentVersionNumber": 4})
            self.answer(200, told.encode(), "application/json")
        else:
            self.answer(200, self.archive, "application/zip")

    def answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    loopback: Callable[..., http.server.ThreadingHTTPServer],
) -> str:  # fmt: skip
    pytest.importorskip("kagglehub")
    kaggle_env = pytest.importorskip("kagglesdk.kaggle_env")

    class_folders(tmp_path / "faces")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in (tmp_path / "faces").rglob("*.png"):
            archive.write(file, file.relative_to(tmp_path).as_posix())
    _Kaggle.archive = packed.getvalue()
    address = f"http://127.0.0.1:{loopback(_Kaggle).server_port}"
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, address)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLE_API_TOKEN", "none")
    return address


def test_kagglehub_fetches_once_and_tells_what_is_unknown(
    served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = datasets.load("kaggle:some/faces")
    assert datasets.origin(found) == "kaggle some/faces/versions/4"
    assert found["train"].features["label"].names == ["happy", "sad"]
    monkeypatch.setattr(_Kaggle, "archive", b"")  # a second download would break
    assert datasets.fingerprint(datasets.load("kaggle:some/faces")) == datasets.fingerprint(found)
    with pytest.raises(kaggle.KaggleUnavailable, match="404"):
        datasets.load("kaggle:some/others")
    # A closed port
    from kagglesdk import kaggle_env

    monkeypatch.setitem(
        kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://127.0.0.1:9"
    )
    assert datasets.origin(datasets.load("kaggle:some/faces", say=lambda _: None)).endswith("4")
    with pytest.raises(kaggle.KaggleUnavailable, match="network"):
        datasets.load("kaggle:some/others")
