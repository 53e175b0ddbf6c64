"""A published network by its name on the Hugging Face hub: "hf:owner/name".

Why: whoever reads of a network wants to try it by its name, and to be sure of what they got. Only
.safetensors, .onnx and the README.md (numbers and text, nothing that runs) are fetched, and each
file's SHA-256 is compared with what the repository says before anything opens it. Files stay in the
hub's cache folder of the user (HF_HOME), so the second use needs no network.
Needs huggingface_hub, which keeps that cache, tokens and proxies; it is imported when a name
begins with "hf:", and not before.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expression.checkpoint import HUB_PREFIX, read_card

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["TIMEOUT", "HubName", "digest_rows", "fetch_checkpoint", "hub_api", "hub_error",
           "is_unreachable", "parse_name", "stated_digests"]  # fmt: skip

FORMS = "hf:owner/name, hf:owner/name@revision or hf:owner/name/FILE"
CARD = "README.md"
MAX_BYTES = 200_000_000  # of the three files together; ours have up to 45 MB
TIMEOUT = 10.0  # seconds, for the hub's first answer

_PART = r"[A-Za-z0-9][\w.-]*"
_NAME = re.compile(
    rf"hf:(?P<repo>{_PART}/{_PART})(?:@(?P<revision>refs/pr/\d+|[^/@\s]+))?(?:/(?P<file>.+))?"
)
_DIGEST = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_ROW = re.compile(r"^\| `([^`]+)` \|[^|\n]*\| `([0-9a-f]{64})` \|$", re.MULTILINE)


@dataclass(frozen=True)
class HubName:
    """A repository on the hub, and which revision and file of it (None: main, the only one)."""

    repo: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{HUB_PREFIX}{self.repo}{revision}" + (f"/{self.file}" if self.file else "")


def parse_name(given: str) -> HubName:
    """ "hf:owner/name@revision/FILE" in its parts. Raises ValueError for any other form."""
    found = _NAME.fullmatch(given)
    if not found:
        raise ValueError(f"{given!r} names no repository of the hub; give {FORMS}")
    return HubName(**found.groupdict())


def hub_api() -> "HfApi":
    """The hub at HF_ENDPOINT. Raises ImportError, one sentence, without huggingface_hub."""
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise ImportError(
            "networks from the Hugging Face hub need a package that is not installed here: "
            "pip install huggingface_hub"
        ) from None
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"))


def fetch_checkpoint(given: str) -> Path:
    """The checkpoint that a hub name means, its .onnx beside it, in the user's cache folder.

    The hub is asked for the newest files; where it cannot be reached, or `revision` is a whole
    commit, those in the cache are taken. Raises ValueError for a malformed name, a repository that
    holds no network of this project, and a file whose SHA-256 is another than the repository says;
    OSError for what cannot be fetched; ImportError without huggingface_hub.
    """
    name = parse_name(given)
    api = hub_api()
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

    if _DIGEST.fullmatch(name.revision or ""):  # a commit never changes
        try:
            return from_cache(api, name)
        except FileNotFoundError:
            pass
    try:
        return download(api, name)
    except (HTTPError, OfflineModeIsEnabled) as error:
        if not is_unreachable(error):
            raise hub_error(error, str(name), api) from None
        try:
            return from_cache(api, name)
        except FileNotFoundError:
            raise hub_error(error, f"{name} (no copy is on this machine)", api) from None


def download(api: "HfApi", name: HubName) -> Path:
    """Fetch what is not in the cache yet, all of one commit; returns the checkpoint's path."""
    info = api.model_info(name.repo, revision=name.revision, files_metadata=True, timeout=TIMEOUT)
    listed = {file.rfilename: file for file in info.siblings or ()}
    pair = choose_pair(listed, name)
    if (size := sum(listed[file].size or 0 for file in (*pair, CARD))) > MAX_BYTES:
        raise ValueError(
            f"{name} has {size / 1e6:.0f} MB and is not fetched; a network of this project has "
            f"less than {MAX_BYTES / 1e6:.0f} MB"
        )
    paths = {}
    for file in pair:
        entry = listed[file]
        digest = entry.lfs.sha256 if entry.lfs else entry.blob_id
        paths[file] = fetch_file(api, name, file, info.sha)
        check_digest(paths[file], digest, f"{name}: {file}")
    # The branch's name is kept with the last file, once the others are whole: see `from_cache`.
    card = fetch_file(api, name, CARD, name.revision or "main")
    return checked_pair(paths, card, name)


def fetch_file(api: "HfApi", name: HubName, file: str, revision: str | None) -> Path:
    """A file of the repository, in the cache. Raises as huggingface_hub, or ConnectionError."""
    try:
        return Path(api.hf_hub_download(name.repo, file, revision=revision))
    except FileNotFoundError as error:
        raise error.__cause__ or error from None
    except OSError as error:
        if getattr(error, "response", None) is not None or is_unreachable(error):
            raise
        raise ConnectionError(
            f"{name}: {file} was not fetched whole ({error}); try again"
        ) from None


def from_cache(api: "HfApi", name: HubName) -> Path:
    """The same from the cache alone. Raises FileNotFoundError where it is not there, whole."""
    card = Path(api.hf_hub_download(name.repo, CARD, revision=name.revision, local_files_only=True))
    folder = card.parent
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}
    try:
        paths = {file: there[file] for file in choose_pair(there, name)}
    except ValueError as error:
        raise FileNotFoundError(str(error)) from None
    for file, path in paths.items():
        if path.is_symlink():  # to a file that has its digest as its name
            check_digest(path, Path(os.readlink(path)).name, f"{name}: {file}")
    return checked_pair(paths, card, name)


def choose_pair(names: Iterable[str], name: HubName) -> tuple[str, str]:
    """(checkpoint, its .onnx) among a repository's files.

    Raises ValueError where there is none, or several and `name` says not which.
    """
    names = set(names)
    stems = sorted(
        stem
        for stem, ending in map(os.path.splitext, names)
        if ending == ".onnx" and f"{stem}.safetensors" in names
    )
    wanted = re.sub(r"\.(onnx|safetensors)$", "", name.file or "")
    fitting = [stem for stem in stems if not wanted or stem == wanted]
    if len(fitting) == 1 and CARD in names:
        return f"{fitting[0]}.safetensors", f"{fitting[0]}.onnx"
    if len(fitting) > 1:
        raise ValueError(
            f"{name} holds several networks ({', '.join(stems)}); name one: {name}/{stems[0]}"
        )
    if wanted and stems:
        raise ValueError(f"{name}: no such file; the repository holds {', '.join(stems)}")
    raise ValueError(
        f"{name} holds no network of this project: a .safetensors, an .onnx of the same name and "
        f"a {CARD} are wanted, found {', '.join(sorted(names)[:8]) or 'no file'}"
    )


def checked_pair(paths: Mapping[str, Path], card: Path, name: HubName) -> Path:
    """The checkpoint's path. Raises ValueError where a file is not the one that the repository's
    card states, or the checkpoint is of another system."""
    stated = stated_digests(card.read_text(encoding="utf-8", errors="replace"))
    for file, path in paths.items():
        check_digest(path, stated.get(file), f"{name}: {file}")
    checkpoint = next(path for file, path in paths.items() if file.endswith(".safetensors"))
    try:
        read_card(checkpoint)
    except ValueError as error:
        said = str(error).replace(str(checkpoint), checkpoint.name)
        raise ValueError(f"{name} holds no network of this project: {said}") from None
    return checkpoint


def check_digest(path: Path, digest: str | None, what: str) -> None:
    """Raises ValueError, and removes the file, where its content has another digest.

    `digest` is a SHA-256 in hex, or git's own of a small file; None and other words say nothing.
    """
    if not digest or not _DIGEST.fullmatch(digest):
        return
    content = path.read_bytes()
    if len(digest) == 64:
        kind, found = "SHA-256", hashlib.sha256(content).hexdigest()
    else:
        kind, found = "git digest", hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if found != digest:
        for copy in (path.resolve(), path):  # where the link leads, then the link
            copy.unlink(missing_ok=True)
        raise ValueError(
            f"{what} has the {kind} {found[:16]}…, but the repository says {digest[:16]}…; it was "
            "removed from the cache. Try again; if it stays so, do not use that repository"
        )


def digest_rows(files: Mapping[str, bytes]) -> str:
    """Rows of a Markdown table: file, size, SHA-256. `stated_digests` reads them."""
    return "\n".join(
        f"| `{name}` | {len(content):,} bytes | `{hashlib.sha256(content).hexdigest()}` |"
        for name, content in files.items()
    )


def stated_digests(card: str) -> dict[str, str]:
    """{file: SHA-256} that a repository's card states; {} for a card without such rows."""
    return dict(_ROW.findall(card))


def is_unreachable(error: BaseException) -> bool:
    """Whether an error says that the hub cannot be asked now, not that it refused."""
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return status == 429 or status >= 500
    return isinstance(error, HTTPError | OfflineModeIsEnabled)


ANSWERS = {
    401: (PermissionError, "is not known to the hub, or shown only to who is logged in (401); "
          "check the name, and log in with `hf auth login` or set HF_TOKEN"),
    403: (PermissionError, "is not yours to read or write with this token (403); take a name of "
          "your own, or a token with the right, made at {endpoint}/settings/tokens"),
    404: (FileNotFoundError, "is not known to the hub (404); check owner, name and revision at "
          "{endpoint}"),
    409: (FileExistsError, "is taken (409); choose another name"),
}  # fmt: skip


def hub_error(error: BaseException, what: str, api: "HfApi") -> OSError:
    """What went wrong with the hub, in one sentence that says what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in ANSWERS:
        kind, words = ANSWERS[status]
        return kind(f"{what} {words.format(endpoint=api.endpoint)}")
    if status is not None:
        return ConnectionError(f"{what}: {api.endpoint} answered {status}; try again later")
    if type(error).__name__ == "OfflineModeIsEnabled":
        return ConnectionError(f"{what}: HF_HUB_OFFLINE forbids the network; unset it")
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ConnectionError(
        f"{what}: {api.endpoint} is out of reach ({reason}); check the network and HF_ENDPOINT"
    )
