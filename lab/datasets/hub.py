"""Fetch a labelled face set from the Hugging Face hub, or say within seconds that it cannot be.

Why: without a network `load_dataset` retries for minutes and ends in a long trace. Here one short
question comes first; where it has no answer, the copies that earlier runs left on this machine
are used, and without those one sentence says what was looked for, where, and what would help.
"""

import os
import threading
from pathlib import Path

import datasets
import huggingface_hub
from datasets.packaged_modules.cache.cache import Cache
from huggingface_hub import HfApi, constants

from lab.datasets.splits import rename_splits

__all__ = ["HubUnavailable", "load", "why_not"]

_TRUE = {"1", "ON", "YES", "TRUE"}


class HubUnavailable(ConnectionError):
    """Neither the hub nor a cache on this machine has the data set. The message says what helps."""


def _offline() -> bool:
    """Both libraries read the variable when imported; a later change is honoured here too."""
    named = (os.environ.get(k, "") for k in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))
    return constants.HF_HUB_OFFLINE or any(value.upper() in _TRUE for value in named)


def why_not(repo_id: str, revision: str | None, timeout: float) -> str | None:
    """None where the hub has the data set, or the reason why not, after `timeout` seconds at most.

    The request runs in its own thread, because looking up a host name has no time limit.
    """
    if _offline():
        return "offline mode is on (HF_HUB_OFFLINE)"
    answer: list[str | None] = []

    def ask() -> None:
        try:
            HfApi(endpoint=datasets.config.HF_ENDPOINT).dataset_info(
                repo_id, revision=revision, timeout=timeout
            )
            answer.append(None)
        except Exception as error:  # refused, no route, no such host, 401, 404, another server…
            first = (str(error).strip() or "no reason given").splitlines()[0]
            answer.append(f"{type(error).__name__}: {first[:160]}")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    return answer[0] if answer else f"no answer within {timeout:g} s"


def _cached(repo_id: str, revision: str | None, cache_dir: str | None) -> datasets.DatasetDict:
    """The copy that an earlier run prepared (datasets cache) or downloaded (hub cache).

    Asks no network. Raises OSError or ValueError where there is neither.
    """
    try:
        folder = huggingface_hub.snapshot_download(
            repo_id, repo_type="dataset", revision=revision, local_files_only=True
        )
    except (OSError, ValueError):
        folder = None
    commit = Path(folder).name if folder else revision
    try:
        if commit is None:
            exact = {"version": "auto", "hash": "auto"}  # the latest that was prepared
        else:
            exact = {"config_name": "default", "version": "0.0.0", "hash": commit}
        prepared = Cache(
            cache_dir=cache_dir, repo_id=repo_id, dataset_name=repo_id.split("/")[-1], **exact
        )
        prepared.download_and_prepare()
        return prepared.as_dataset()
    except (OSError, ValueError):
        if folder is None:
            raise
    return datasets.load_dataset(folder, cache_dir=cache_dir)


def load(
    repo_id: str = "sxdave/emotion_detection",
    revision: str | None = None,
    timeout: float = 5.0,
    cache_dir: str | None = None,
) -> datasets.DatasetDict:
    """The data set as the hub has it, or the copy on this machine where the hub is out of reach.

    `revision`: a branch, tag or commit. `timeout`: seconds to wait for the hub's first answer.
    `cache_dir`: where prepared data is kept; None leaves it to HF_DATASETS_CACHE. Splits called
    val, valid or dev become `validation`. Raises HubUnavailable where there is neither.
    """
    reason = why_not(repo_id, revision, timeout)
    try:
        if reason is None:
            found = datasets.load_dataset(repo_id, revision=revision, cache_dir=cache_dir)
        else:
            found = _cached(repo_id, revision, cache_dir)
    except Exception as error:
        if reason is None and not isinstance(error, OSError):
            raise  # the hub answered, but the data set cannot be read
        endpoint = datasets.config.HF_ENDPOINT
        late = ""
        if os.environ.get("HF_ENDPOINT", endpoint).rstrip("/") != endpoint.rstrip("/"):
            late = "; HF_ENDPOINT changed after `datasets` was imported: set it before"
        raise HubUnavailable(
            f"data set {repo_id}{f' at {revision}' if revision else ''} was found neither at "
            f"{endpoint} ({reason or error}) nor in the caches "
            f"{cache_dir or datasets.config.HF_DATASETS_CACHE} and {constants.HF_HUB_CACHE}{late}; "
            "set HF_HOME to a cache that holds it"
        ) from error
    if not isinstance(found, datasets.DatasetDict):
        found = datasets.DatasetDict({str(found.split or "train"): found})
    return rename_splits(found)
