"""Ray, started for one run on this machine, or a cluster that runs already.

Why so many settings: by itself Ray sends usage statistics, listens on every network interface
(whoever reaches it can run anything), keeps a token in the home folder and its sessions in /tmp,
and takes a third of the memory for its object store. Here it listens on this machine alone, behind
a token of its own, and leaves nothing.
"""

import logging
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from expression.extras import install_command
from expression.files import is_alive

__all__ = ["NEEDED", "check_installed", "started"]

NEEDED = ("ray", "pyarrow", "fsspec", "pandas")
STORE_BYTES = 80 << 20  # Ray's least is 75 MB; chunks of names and tables of faces are small
TRIES = 3  # Ray gives up where its helpers take 15 s to start: on a busy machine, again
TEMPORARY = re.compile(r"expression-ray-(\d+)-\w+")
# Before `ray` is imported: it reads them once
ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # its words on workers that ended go to standard output
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# Ray needs jsonschema, which imports what it finds for checks that Ray does not ask for. This one,
# which comes with jupyter, computes a grammar first: 2.2 of the 3.4 s of processor that each of a
# dozen processes takes to start, and Ray waits 15 s for some of them, not longer.
SLOW = "rfc3987_syntax"
ALONE = {
    "RAY_prestart_worker_first_driver": "0",  # workers that nobody needs, while others start
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the only way to bind to 127.0.0.1
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",  # of helpers whose driver was killed, before 60
}


def check_installed() -> None:
    """Raises ImportError, one sentence, without what the extra `scale` installs."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"labelling at scale needs {', '.join(missing)}; install it with: "
            f"{install_command('scale')}"
        )


@contextmanager
def started(workers: int | None, address: str | None) -> Iterator[int]:
    """Ray while the block runs; gives the number of workers.

    `address` is a cluster's ("auto": the one of this machine, or of RAY_ADDRESS); None starts one
    on this machine, of `workers` or as many as there are cores. Raises ConnectionError.
    """
    own = address is None
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    settings = {**ALWAYS, **(ALONE | secret if own else {})}
    before = {name: os.environ.get(name) for name in (*settings, "PYTHONPATH")}
    os.environ.update(settings)
    try:
        with temporary_folder() if own else no_folder() as folder:
            if folder is not None:
                os.environ["PYTHONPATH"] = without(SLOW, folder / "quick")
            ray = imported()

            others = descendants()
            try:
                start(ray, address, workers, folder)
                quiet()
                yield workers or max(int(ray.cluster_resources().get("CPU", 1)), 1)
            finally:
                ours = descendants() - others
                ray.shutdown()
                wait_for_end(ours)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def imported() -> Any:
    """`ray`, without SLOW where nobody has imported that yet."""
    absent = SLOW not in sys.modules
    if absent:
        sys.modules[SLOW] = None  # type: ignore[assignment]  # imports of it fail
    try:
        import ray

        return ray
    finally:
        if absent:
            sys.modules.pop(SLOW, None)


def without(module: str, folder: Path) -> str:
    """A PYTHONPATH with which a module cannot be imported, by a file in `folder` of its name."""
    folder.mkdir()
    (folder / f"{module}.py").write_text(f'raise ImportError("{module} is not needed")\n')
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def start(ray: Any, address: str | None, workers: int | None, folder: Path | None) -> None:
    given: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if folder is None:
        given["address"] = address
    else:
        given |= {
            "address": "local",
            "num_cpus": workers or os.cpu_count() or 1,
            "num_gpus": 0,
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
            "_temp_dir": str(folder),
        }
    tries = TRIES if folder is not None else 1
    for number in range(tries):
        try:
            with warnings.catch_warnings(), without_stderr():
                warnings.simplefilter("ignore")
                ray.init(**given)
            return
        except Exception as error:  # of many kinds
            ray.shutdown()
            if number + 1 == tries:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                where = "on this machine" if folder is not None else f"at {address}"
                raise ConnectionError(f"Ray does not start {where} ({reason})") from error


def quiet() -> None:
    """What goes wrong is told by this project, in one sentence."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # pictures that end a worker are tried again, one by one
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def without_stderr() -> Iterator[None]:
    """Ray's part in C++ says on standard error that it was told to be quiet."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def no_folder() -> Iterator[None]:
    yield None


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Where Ray keeps its sockets and logs; those of runs that were killed are deleted, too.

    The names of sockets may have about a hundred characters, so a long TMPDIR is not used.
    """
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) > 20 and Path("/tmp").is_dir():
        parent = Path("/tmp")
    sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"expression-ray-{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        sweep(parent)  # again: helpers of a killed run write for some seconds more


def sweep(parent: Path) -> None:
    """Delete the folders of runs that were killed."""
    for old in parent.glob("expression-ray-*"):
        found = TEMPORARY.fullmatch(old.name)
        if found and not is_alive(int(found[1])):
            shutil.rmtree(old, ignore_errors=True)


def parents() -> dict[int, int]:
    """{process: its parent} of those that run; none where the system does not tell (Linux does).

    One that ended but whose parent has not asked for its exit code runs no more.
    """
    found: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            state, parent = entry.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(entry.parent.name)] = int(parent)
    return found


def descendants() -> set[int]:
    """The processes below this one."""
    of, found, below = parents(), set[int](), {os.getpid()}
    while below:
        below = {child for child, parent in of.items() if parent in below} - found
        found |= below
    return found


def wait_for_end(processes: set[int], seconds: float = 10.0) -> None:
    """Ray's processes end by themselves, but some a moment after `ray.shutdown`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and processes & parents().keys():
        time.sleep(0.05)
