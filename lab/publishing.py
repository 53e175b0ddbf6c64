"""Put a network, and the page that runs it in a browser, on the Hugging Face hub.

Why: a network that is published by hand soon lacks its card, or carries the figures of another
training. Here one commit holds the checkpoint, its .onnx and its card with each file's SHA-256,
and only after they were checked against one another.
Source: written for this project; huggingface_hub uploads. The token is the one that it finds, in
HF_TOKEN or from `hf auth login`.
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, SpaceCardData, get_token
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from expression.about import LIMITS, headline
from expression.checkpoint import HUB_PREFIX, read_card, resolve_checkpoint
from expression.hub import TIMEOUT, digest_rows, hub_api, hub_error, parse_name
from expression.networks import open_onnx

__all__ = ["PAGE", "TAG", "Upload", "listing", "network_upload", "page_upload", "publish", "send"]

TAG = "facial-expression-recognition"  # by which repositories on the hub are known as ours
PAGE = Path("web/dist")  # what `make web` builds
NEEDED = ("license", "library_name", "pipeline_tag", "tags", "datasets", "metrics")
STARTERS = {".gitattributes", "README.md"}  # of a repository that holds nothing yet

USE = """## Use

With Expression Detect, which finds the faces first and says "not sure" where it is:

```python
from expression import ExpressionPredictor

for face in ExpressionPredictor("{name}").find("photo.jpg"):
    print(face.box, face.label)
```

At the command line: `expression photo.jpg --checkpoint {name}`.

## Files

Numbers and text, nothing that runs. A file with another SHA-256 is refused.

| File | Size | SHA-256 |
|---|---|---|
{rows}
"""

ABOUT_PAGE = """# Expression Detect

Finds faces and names the expression each shows, in the browser: no picture leaves the device.

## What it cannot tell
"""

Kind = Literal["model", "space"]


@dataclass(frozen=True)
class Upload:
    """The files of one commit by their names in the repository; README.md has the metadata."""

    kind: Kind
    repo: str  # owner/name
    files: dict[str, bytes]

    def __str__(self) -> str:
        return f"{self.kind} {self.repo}"


def publish(
    checkpoint: str, to: str | None, space: str | None, really: bool, page: Path = PAGE,
    say: Callable[[str], Any] = print,
) -> None:  # fmt: skip
    """Upload a checkpoint to the repository `to` and the page to the Space `space`.

    Unless `really`, only says what would be uploaded: no network is asked. Raises ValueError where
    nothing is named or a name is none, and as `network_upload`, `page_upload` and `send`.
    """
    if not (to or space):
        raise ValueError("where to? Give --to OWNER/NAME, --space OWNER/NAME, or both")
    if to and not checkpoint:
        raise ValueError("which checkpoint? None is named; try: publish expression --to OWNER/NAME")
    for option, repo in (("--to", to), ("--space", space)):
        check_repo(option, repo)
    uploads = [network_upload(resolve_checkpoint(checkpoint), to)] if to else []
    uploads += [page_upload(page, space, to)] if space else []
    for upload in uploads:
        say(f"{upload}\n{listing(upload)}\n")
    if not really:
        say("nothing was uploaded; the same command with --yes does it")
        return
    for upload in uploads:
        say(f"uploaded {send(upload)}")


def check_repo(option: str, repo: str | None) -> None:
    """Raises ValueError for what is no OWNER/NAME."""
    if repo is None:
        return
    try:
        plain = parse_name(f"{HUB_PREFIX}{repo}").repo == repo
    except ValueError:
        plain = False
    if not plain:
        raise ValueError(f"{option} is {repo!r}; give OWNER/NAME, such as ada/expression")


def network_upload(checkpoint: Path, repo: str) -> Upload:
    """A checkpoint with its .onnx and its card, checked against one another.

    Raises FileNotFoundError where one of the three is missing and ValueError where they do not
    belong together.
    """
    open_onnx(checkpoint)
    paths = [checkpoint, checkpoint.with_suffix(".onnx")]
    files = {path.name: path.read_bytes() for path in paths}
    return Upload("model", repo, files | {"README.md": readme(checkpoint, repo, files).encode()})


def readme(checkpoint: Path, repo: str, files: dict[str, bytes]) -> str:
    """The card beside a checkpoint, and how to use and check what is published."""
    path = checkpoint.with_suffix(".md")
    again = "`python experiments.py compare` writes the cards again"
    if not path.is_file():
        raise FileNotFoundError(f"there is no card {path}; {again}")
    card = ModelCard(path.read_text(encoding="utf-8"))
    if missing := [key for key in NEEDED if not card.data.get(key)]:
        raise ValueError(f"the metadata of {path} lack {', '.join(missing)}; {again}")
    if headline(read_card(checkpoint)) not in card.text:
        raise ValueError(f"{path} is not the card of this {checkpoint.name}; {again}")
    body = USE.format(name=f"{HUB_PREFIX}{repo}", rows=digest_rows(files))
    return f"---\n{card.data.to_yaml()}\n---\n\n{card.text.strip()}\n\n{body}"


def page_upload(folder: Path, repo: str, model: str | None = None) -> Upload:
    """The static page as a Space. Raises FileNotFoundError where it was not built."""
    if not (folder / "index.html").is_file():
        raise FileNotFoundError(f"there is no page in {folder}; `make web` builds it")
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            files[name.as_posix()] = path.read_bytes()
    data = SpaceCardData(
        title="Expression Detect", sdk="static", app_file="index.html", license="mit", tags=[TAG],
        models=[model] if model else None,
    )  # fmt: skip
    text = f"---\n{data.to_yaml()}\n---\n\n{ABOUT_PAGE}\n{LIMITS}\n"
    return Upload("space", repo, files | {"README.md": text.encode()})


def listing(upload: Upload) -> str:
    """Each file with size and SHA-256, and the metadata of the README.md."""
    text = upload.files["README.md"].decode()
    block = re.match(r"---\n.*?\n---$", text, re.DOTALL | re.MULTILINE)
    return f"{digest_rows(upload.files)}\n{block[0] if block else ''}"


def send(upload: Upload) -> str:
    """Make the repository where it does not exist, and commit to it; returns its address.

    Raises PermissionError without a token or right, FileExistsError where the name belongs to
    something else, ConnectionError where the hub is out of reach, ValueError where it refuses the
    card's metadata.
    """
    api = hub_api()
    if not get_token():
        raise PermissionError(
            f"no token for {api.endpoint}: log in with `hf auth login`, or set HF_TOKEN to one "
            f"with the right to write, made at {api.endpoint}/settings/tokens"
        )
    try:
        if not exists_as_ours(api, upload):
            sdk = "static" if upload.kind == "space" else None
            api.create_repo(upload.repo, repo_type=upload.kind, space_sdk=sdk)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the hub's wishes for metadata
            api.create_commit(
                upload.repo,
                [CommitOperationAdd(name, content) for name, content in upload.files.items()],
                commit_message=f"Upload {', '.join(list(upload.files)[:3])}",
                repo_type=upload.kind,
            )
    except (HTTPError, OfflineModeIsEnabled) as error:
        raise hub_error(error, str(upload), api) from None
    except RuntimeError as error:  # huggingface_hub's own words around what an upload met
        raise hub_error(error.__cause__ or error, str(upload), api) from None
    return f"{api.endpoint}/{'spaces/' if upload.kind == 'space' else ''}{upload.repo}"


def exists_as_ours(api: HfApi, upload: Upload) -> bool:
    """Whether the repository exists, empty or from an earlier upload; else it may be made.

    Raises FileExistsError where it holds something that this did not upload.
    """
    try:
        ask = api.space_info if upload.kind == "space" else api.model_info
        info = ask(upload.repo, timeout=TIMEOUT)
    except RepositoryNotFoundError:
        return False
    found = {file.rfilename for file in info.siblings or ()} - STARTERS
    tags = info.card_data.get("tags") if info.card_data else None
    ours = TAG in (tags or [])
    if found and not ours:
        raise FileExistsError(
            f"{upload} exists and holds something else ({', '.join(sorted(found)[:4])}); choose "
            "another name"
        )
    return True
