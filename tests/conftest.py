"""What every test shares: no network, no windows, the same random numbers, and one browser.

The environment is set while this file is imported, before any test can import `datasets`, which
reads it once.
"""

import atexit
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_cache = tempfile.mkdtemp(prefix="expression-tests-")
atexit.register(shutil.rmtree, _cache, ignore_errors=True)
os.environ.update(
    {
        # As many processes as cores run tests; each computes on one.
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "HF_HOME": _cache,  # neither reads nor fills the user's own cache
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": _cache,  # it keeps what it read of the code
        "GRADIO_ANALYTICS_ENABLED": "False",
        "MPLBACKEND": "Agg",
        # A proxy for the outside must not swallow the demo on this machine.
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1,localhost"])),
    }
)
os.environ["no_proxy"] = os.environ["NO_PROXY"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
]


def real_data() -> dict[str, Path]:
    """{fixture: data of that name on this machine}, from EXPRESSION_DATA and FER2013_DATA."""
    small, fer2013 = (
        Path(os.environ.get(name) or "nowhere").resolve()
        for name in ("EXPRESSION_DATA", "FER2013_DATA")
    )
    places = {
        "small_folder": [small],
        "fer2013_folder": [fer2013],
        "ferplus_csv": [fer2013.parent / "ferplus" / "fer2013new.csv"],
        "muxspace_tar": [
            folder.parent / "muxspace" / "facial_expressions-master.tar"
            for folder in (small, fer2013)
        ],
    }
    found = {name: [path for path in paths if path.exists()] for name, paths in places.items()}
    return {name: paths[0] for name, paths in found.items() if paths}


REAL_DATA = real_data()
NEED_REAL_DATA = {"small_folder", "fer2013_folder", "ferplus_csv", "muxspace_tar"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of data sets that this machine does not hold are left out, and counted as such.

    Long files come first, so that no process waits for one that began last.
    """
    missing = NEED_REAL_DATA - REAL_DATA.keys()
    idle = [item for item in items if missing & set(getattr(item, "fixturenames", ()))]
    if idle:
        config.hook.pytest_deselected(items=idle)
    items[:] = [item for item in items if item not in idle]
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def small_folder() -> Path:
    """Real faces: the folder in EXPRESSION_DATA."""
    return REAL_DATA["small_folder"]


@pytest.fixture(scope="session")
def fer2013_folder() -> Path:
    """FER2013: the folder in FER2013_DATA."""
    return REAL_DATA["fer2013_folder"]


@pytest.fixture(scope="session")
def ferplus_csv() -> Path:
    """FER+'s votes, in the folder ferplus beside FER2013's."""
    return REAL_DATA["ferplus_csv"]


@pytest.fixture(scope="session")
def muxspace_tar() -> Path:
    """Muxspace's archive, in the folder muxspace beside either of the others."""
    return REAL_DATA["muxspace_tar"]


@pytest.fixture(autouse=True)
def seed() -> int:
    """Every test starts from the same random numbers, alone or after others."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:  # a test without torch need not wait for it
        sys.modules["torch"].manual_seed(0)
    return 0


@pytest.fixture(autouse=True)
def precision_without_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training with `precision=auto` takes float32: it times steps, and where the tests beside it
    keep the processor busy, two runs that are compared bit for bit could choose differently.
    The choice itself is tested where it is made (`lab.precision`)."""
    if "lab.training" not in sys.modules:
        return
    training = sys.modules["lab.training"]
    chosen = training.precision_of

    def choose(recipe: Any, resumed: dict[str, Any], *parts: Any) -> Any:
        auto = recipe.precision == "auto" and not resumed
        return chosen(replace(recipe, precision="float32") if auto else recipe, resumed, *parts)

    monkeypatch.setattr(training, "precision_of", choose)


@pytest.fixture
def loopback() -> Iterator[Callable[[type[BaseHTTPRequestHandler]], ThreadingHTTPServer]]:
    """A function that serves a handler on this machine alone, until the test ends."""
    servers = []

    def serve(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        # Asked every 0.02 s whether it should stop: the usual half second is most of a test
        threading.Thread(target=servers[-1].serve_forever, args=(0.02,), daemon=True).start()
        return servers[-1]

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def hub(
    loopback: Callable[..., ThreadingHTTPServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A stand-in of the Hugging Face hub, to which huggingface_hub leads, with an empty cache.

    What is returned has its repositories (tests/hub_stand_in.py); the token may write.
    """
    from huggingface_hub import constants

    from tests.hub_stand_in import stand_in

    server = loopback(stand_in())
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_writes")
    for name, value in (
        ("HF_HUB_OFFLINE", False),
        ("HF_HUB_DISABLE_XET", True),
        ("HF_HUB_CACHE", str(tmp_path / "hub")),
    ):
        monkeypatch.setattr(constants, name, value)
    return server.RequestHandlerClass


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """A context in which a training is interrupted after its first epoch; it has to be."""
    from lab.tensorboard_log import TensorBoardLog

    epoch_done = TensorBoardLog.epoch

    def cut(self: TensorBoardLog, number: int, history: Any) -> None:
        epoch_done(self, number, history)
        if number == 0:
            raise KeyboardInterrupt

    @contextmanager
    def context() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(TensorBoardLog, "epoch", cut)
            with pytest.raises(KeyboardInterrupt):
                yield

    return context


@pytest.fixture(scope="session")
def real_small() -> Path | None:
    """The folder of real faces in EXPRESSION_DATA; None where there is none."""
    return REAL_DATA.get("small_folder")


@pytest.fixture(scope="session")
def splits() -> Any:
    """Drawn faces: 90 train, 45 validation, 45 test, 48 x 48, three classes."""
    from lab.datasets import synthetic

    return synthetic.load(
        train=90, validation=45, test=45, size=48, seed=0, class_names=("happy", "neutral", "sad")
    )


@pytest.fixture
def special_files() -> Iterator[Callable[[Path, str], dict[str, str]]]:
    """A function that puts into a folder, with this ending, what is no file: {name: its kind}.

    Reading a pipe waits for ever: a test that opens one fails after ten seconds.
    """
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names here")

    def make(folder: Path, ending: str) -> dict[str, str]:
        os.mkfifo(folder / f"pipe{ending}")
        os.symlink("/dev/null", folder / f"null{ending}")  # /dev/zero would fill the memory
        os.symlink(f"circle{ending}", folder / f"circle{ending}")
        os.symlink(f"gone{ending}", folder / f"nowhere{ending}")
        here = os.getcwd()
        os.chdir(folder)  # the address of a socket has at most 108 bytes
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"socket{ending}")
        os.chdir(here)
        kinds = {"pipe": "pipe", "null": "device", "socket": "socket"}
        kinds |= {"circle": "broken link", "nowhere": "broken link"}
        return {f"{name}{ending}": kind for name, kind in kinds.items()}

    def hangs(*_: object) -> None:
        pytest.fail("waits for a pipe")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(10)
    yield make
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def card() -> dict[str, Any]:
    """The keys that every card has: of two classes and gray pictures of 8 × 8."""
    return {
        "system": "tinyvgg",
        "class_names": ["happy", "sad"],
        "preprocess": {"size": 8, "mode": "L", "channels": 1},
        "data": {"name": "drawn", "fingerprint": "0"},
    }


@pytest.fixture(scope="session")
def checkpoint(splits: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TinyVGG that has seen the drawn faces twice, exported with its card."""
    import torch

    from expression.preprocessing import Preprocess
    from hf_collate import Batches, decode
    from lab import datasets
    from lab.export import save_network
    from lab.models import build
    from train_loop import train

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoints")
    rule = Preprocess(48, "L", mean=(0.5,), std=(0.25,))
    model = build("tinyvgg", num_classes=3, in_channels=1, hidden_channels=8)
    batches = {name: Batches(decode(splits[name], rule, folder / "cache"), 16) for name in splits}
    history = train(
        model,
        batches["train"],
        batches["validation"],
        torch.optim.AdamW(model.parameters(), 3e-3),
        epochs=2,
        progress=False,
    )
    k = round(history["val_accuracy"][-1] * 45)
    return save_network(
        folder / "tinyvgg-synthetic.safetensors",
        model,
        {
            "system": "tinyvgg",
            "system_args": {"hidden_channels": 8},
            "class_names": ["happy", "neutral", "sad"],
            "preprocess": rule.settings(),
            "temperature": 1.0,
            "crop": "whole picture",
            "seed": 0,
            "validation": {"k": k, "n": 45},
            "data": {"name": "synthetic", "fingerprint": datasets.fingerprint(splits)},
        },
    )


@pytest.fixture(scope="session")
def served_folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the demo: a committed checkpoint and the TinyVGG of drawn faces."""
    from expression.checkpoint import CHECKPOINTS

    folder = tmp_path_factory.mktemp("served")
    for ending in (".safetensors", ".onnx"):
        shutil.copy(CHECKPOINTS / f"expression-fer2013{ending}", folder)
    shutil.copy(checkpoint, folder / "tinyvgg-synthetic.safetensors")
    return folder


@pytest.fixture(scope="session")
def astronaut() -> Any:
    """A photo of one person, in the public domain (NASA), which lies inside scikit-image."""
    from PIL import Image
    from skimage.data import astronaut

    return Image.fromarray(astronaut())


@pytest.fixture(scope="session")
def portrait(astronaut: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file."""
    path = tmp_path_factory.mktemp("pictures") / "astronaut.png"
    astronaut.save(path)
    return path


@pytest.fixture
def drawn_face(tmp_path: Path, splits: Any) -> Path:
    path = tmp_path / "face.png"
    splits["test"][0]["image"].save(path)
    return path


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    """Text that says it is a picture, and beside it the same that says it is a video."""
    path = tmp_path / "letter.jpg"
    path.write_text("hello")
    shutil.copy(path, path.with_suffix(".mp4"))
    return path


@pytest.fixture(scope="session")
def load_network() -> Callable[[Path], Any]:
    """Opens the .onnx file, or else the weights in torch: exporting takes seconds a checkpoint."""
    from expression.networks import open_onnx
    from lab.export import TorchNetwork

    def load(checkpoint: Path) -> Any:
        exported = checkpoint.with_suffix(".onnx").exists()
        return open_onnx(checkpoint) if exported else TorchNetwork.load(checkpoint)

    return load


@pytest.fixture(scope="session")
def open_predictor(load_network: Callable[[Path], Any]) -> Callable[[Path | str], Any]:
    """Makes a predictor that answers through torch where there is no .onnx file."""
    from expression.predictor import ExpressionPredictor

    return lambda path: ExpressionPredictor(path, load_network=load_network)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Callable[..., Any]]:
    """Starts the system's Chromium, with further flags, under one Playwright for all tests."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert path, f"no browser: none of {', '.join(BROWSERS)} is installed"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield lambda *flags: playwright.chromium.launch(
            executable_path=path, args=[*BROWSER_ARGS, *flags]
        )


@pytest.fixture(scope="session")
def browser(chromium: Callable[..., Any]) -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def filmed_browser(chromium: Callable[..., Any]) -> Callable[[Path], Any]:
    """A browser whose camera, allowed unasked, shows a file of JPEGs (.mjpeg), again and again."""
    return lambda film: chromium(
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    )
