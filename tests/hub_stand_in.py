"""As much of the Hugging Face hub as publishing and fetching a network ask for, on this machine.

One handler a test: `stand_in()` makes it with repositories of its own. The token "hf_writes" may
write everywhere but to "other", "hf_reads" nowhere. What comes in is kept in `repos`.
"""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

LARGE = (".safetensors", ".onnx")  # kept with Git LFS, by SHA-256; others by git's own digest


@dataclass
class Repo:
    """A repository: its files, and how many commits made them."""

    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0
    sdk: str | None = None

    @property
    def sha(self) -> str:
        return hashlib.sha1(f"{id(self)} {self.commits}".encode()).hexdigest()


class StandIn(BaseHTTPRequestHandler):
    """The handler; `stand_in` gives each test a class of its own with these filled."""

    repos: dict[str, Repo]
    stored: dict[str, bytes]  # large files by SHA-256
    asked: list[str]
    served: dict[str, bytes]  # file → what is sent in its place
    broken: int | None  # answered to everything

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.begin()
        if found := re.fullmatch(r"/api/(models|spaces)/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self.describe(*found.groups())
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.give(*found.groups())
        else:
            self.refuse(404)

    def do_POST(self) -> None:
        path = self.begin()
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if path == "/api/validate-yaml":
            return self.answer({"warnings": [{"message": "add a picture"}], "errors": []})
        if (who := self.headers.get("Authorization")) != "Bearer hf_writes":
            return self.refuse(403 if who == "Bearer hf_reads" else 401)
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            return self.answer({"files": [
                {"path": name, "uploadMode": "lfs" if name.endswith(LARGE) else "regular",
                 "shouldIgnore": False} for name in names]})  # fmt: skip
        if path.endswith("/info/lfs/objects/batch"):
            here = f"http://{self.headers['Host']}/put/"
            return self.answer({"transfer": "basic", "objects": [
                one | {"actions": {"upload": {"href": here + one["oid"]}}}
                for one in json.loads(body)["objects"]]})  # fmt: skip
        if found := re.fullmatch(r"/api/(models|spaces)/(.+)/commit/main", path):
            return self.commit(*found.groups(), body)
        self.refuse(404)

    def do_PUT(self) -> None:
        digest = self.begin().removeprefix("/put/")
        content = self.rfile.read(int(self.headers["Content-Length"]))
        assert hashlib.sha256(content).hexdigest() == digest
        self.stored[digest] = content
        self.answer({})

    def begin(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(f"{self.command} {path}")
        return path

    def describe(self, kind: str, name: str, revision: str | None) -> None:
        repo = self.repos.get(f"{kind}/{name}")
        if repo is None:
            return self.refuse(404 if self.headers.get("Authorization") else 401, "RepoNotFound")
        if revision not in (None, "main", "v1", repo.sha):
            return self.refuse(404, "RevisionNotFound")
        readme = repo.files.get("README.md", b"").decode()
        block = re.match(r"---\n(.*?)\n---", readme, re.DOTALL)
        self.answer({
            "id": name, "sha": repo.sha, "tags": [], "sdk": repo.sdk, "private": False,
            "cardData": yaml.safe_load(block[1]) if block else None,
            "siblings": [{"rfilename": file, "size": len(content), **digests(file, content)}
                         for file, content in repo.files.items()],
        })  # fmt: skip

    def give(self, name: str, revision: str, file: str) -> None:
        repo = self.repos.get(f"models/{name}")
        if repo is None or file not in repo.files:
            return self.refuse(404, "EntryNotFound" if repo else "RepoNotFound")
        content, told = repo.files[file], digests(file, repo.files[file])
        headers = {"X-Repo-Commit": repo.sha, "ETag": f'"{told["blobId"]}"'}
        if "lfs" in told:
            headers |= {"X-Linked-ETag": f'"{told["lfs"]["sha256"]}"',
                        "X-Linked-Size": str(len(content))}  # fmt: skip
        if self.command == "GET":
            content = self.served.get(file, content)
        self.answer(content, headers)

    def create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted.get('type', 'model')}s/{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] == "other":
            return self.refuse(403)
        if name in self.repos:
            return self.refuse(409)
        self.repos[name] = Repo({".gitattributes": b""}, sdk=wanted.get("sdk"))
        self.answer({"url": f"http://{self.headers['Host']}/{name.removeprefix('models/')}"})

    def commit(self, kind: str, name: str, body: bytes) -> None:
        repo = self.repos[f"{kind}/{name}"]
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                repo.files[value["path"]] = self.stored[value["oid"]]
        repo.commits += 1
        url = f"http://{self.headers['Host']}/{name}/commit/{repo.sha}"
        self.answer({"success": True, "commitOid": repo.sha, "commitUrl": url})

    def refuse(self, status: int, code: str = "") -> None:
        self.answer({"error": "refused"}, {"X-Error-Code": code} if code else {}, status)

    def answer(self, body: Any, headers: dict[str, str] | None = None, status: int = 200) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(self.broken or status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


def digests(file: str, content: bytes) -> dict[str, Any]:
    """What the hub's listing says of a file's content."""
    told: dict[str, Any] = {
        "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    }
    if file.endswith(LARGE):
        told["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content),
                       "pointerSize": 130}  # fmt: skip
    return told


def stand_in() -> type[StandIn]:
    """A handler with no repository."""
    state = {"repos": {}, "stored": {}, "asked": [], "served": {}, "broken": None}
    return type("Hub", (StandIn,), state)
