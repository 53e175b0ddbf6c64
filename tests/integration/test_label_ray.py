"""`expression label` with Ray on this machine: driver and worker are killed, no picture is lost.

Ray is started twice, for all of it.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from PIL import Image

from expression.app.examples import EXAMPLES
from expression.bulk.cluster import TEMPORARY
from expression.bulk.label import in_this_process, label
from expression.bulk.sources import Source
from expression.bulk.worker import Settings

ROOT = Path(__file__).parents[2]
PICTURES, MOST = 200, 300  # seconds until something hangs
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="kills and looks of Linux"),
]


def processes() -> dict[int, tuple[int, str]]:
    """{process: (its parent, its name)} of this machine."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            head, _, rest = (entry / "stat").read_text().rpartition(")")
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if rest.split()[0] != "Z":
                found[int(entry.name)] = (int(rest.split()[1]), f"{head.partition('(')[2]} {words}")
        except (OSError, ValueError, IndexError):
            continue
    return found


def below(driver: int) -> dict[int, str]:
    """{process: its name} of those below one."""
    everything, found, parents = processes(), {}, {driver}
    while parents:
        parents = {p for p, (parent, _) in everything.items() if parent in parents} - found.keys()
        found |= {p: everything[p][1] for p in parents}
    return found


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Small pictures of one face, turned; some without a face, some broken."""
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(EXAMPLES / "portrait.jpg") as photo:
        small = photo.convert("RGB").resize((96, 120))
    for k in range(PICTURES):
        path = folder / f"{k % 3}" / f"{k:03}.jpg"
        path.parent.mkdir(exist_ok=True)
        if k % 50 == 7:
            path.write_bytes(b"no picture")
        elif k % 40 == 3:
            Image.new("RGB", (96, 96), (k, 100, 50)).save(path)
        else:
            small.rotate(k % 7).save(path)
    return folder


def start(photos: Path, out: Path, log: Path) -> subprocess.Popen:
    words = ["label", str(photos), "--out", str(out), "--workers", "2", "--chunk", "5"]
    with log.open("a") as file:
        return subprocess.Popen(
            [sys.executable, "predict.py", *words, "--part", "10"],
            cwd=ROOT, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip


def wait_for(driver: subprocess.Popen, out: Path, more_than: int, log: Path) -> None:
    """Until there are more parts than so many."""
    deadline = time.monotonic() + MOST
    while len(list(out.glob("faces/part-*"))) <= more_than:
        assert driver.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.02)


def rows(out: Path) -> dict[str, list[tuple]]:
    """{source: its faces, in order}; probabilities to 4 digits."""
    found: dict[str, list[tuple]] = {}
    for row in ds.dataset(out / "faces").to_table().to_pylist():
        values = tuple(round(v, 4) if isinstance(v, float) else v for v in row.values())
        found.setdefault(row["source"], []).append(values)
    return {source: sorted(faces, key=lambda f: f[3]) for source, faces in found.items()}


def test_killed_driver_and_worker_lose_no_picture_and_label_none_twice(photos, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log.txt"
    driver = start(photos, out, log)
    wait_for(driver, out, 0, log)
    first = below(driver.pid)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    done = len(list(out.glob("faces/part-*")))
    assert 0 < done < PICTURES // 10, "killed too late: nothing was left to do"

    killed, driver = driver, start(photos, out, log)  # while the first one's workers are ending
    wait_for(driver, out, done, log)
    second = below(driver.pid)
    (victim, *_) = (p for p, name in second.items() if "MapWorker" in name)
    os.kill(victim, signal.SIGKILL)
    killed_at = len(list(out.glob("faces/part-*")))
    assert killed_at < PICTURES // 10, "killed too late"
    assert driver.wait(MOST) == 0, log.read_text()[-2000:]

    calm = tmp_path / "calm"
    label(Source([str(photos)]), str(calm), Settings(), in_this_process)
    found, wanted = rows(out), rows(calm)
    assert sorted(found) == sorted(map(str, photos.glob("*/*.jpg")))
    assert found == wanted, "lost, twice, or another answer than one process gives"
    errors = [source for source, (first_row, *_) in wanted.items() if first_row[12]]
    assert len(errors) == 4 and sum(faces[0][3] == 0 for faces in wanted.values()) > 4

    deadline = time.monotonic() + 30
    while left := (first | second).keys() & processes().keys():
        assert time.monotonic() < deadline, [(first | second)[p] for p in left]
        time.sleep(0.1)
    folders = [TEMPORARY.fullmatch(path.name) for path in Path("/tmp").iterdir()]
    assert not {int(found[1]) for found in folders if found} & {killed.pid, driver.pid}
    told = log.read_text().splitlines()
    assert len(told) == 1 and "labelled before" in told[0], "Ray's words, not ours"
