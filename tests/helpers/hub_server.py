"""A model hub on this machine: the part of the Hugging Face Hub's HTTP API that its client calls, over real HTTP."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

TOKEN = "hf_" + "x" * 30
Files = dict[str, bytes]
LARGE = re.compile(r".*\.safetensors")


@dataclass
class Repo:
    """A repository: commits by their hash, in order, and branches."""

    private: bool
    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: Files) -> str:
        names = json.dumps([[name, sha256(data).hexdigest()] for name, data in sorted(files.items())])
        made = sha1(f"{len(self.commits)}{names}".encode()).hexdigest()
        self.commits[made], self.branches[branch] = files, made
        return made


@dataclass
class Hub:
    """What the server holds, and every request that came: (method, path)."""

    endpoint: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def files(self, repo: str, revision: str = "main") -> Files:
        own = self.repos[repo]
        return own.commits[own.branches.get(revision, revision)]


class Handler(BaseHTTPRequestHandler):
    """Routes of the hub."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    do_GET = do_POST = do_PUT = do_HEAD  # noqa: N815 - as the server asks for them

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self.chunks()
        with self.hub.lock:
            self.hub.requests.append((self.command, path))
            for method, pattern, act in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and self.command in method:
                    act(self, body, *found.groups())
                    return
            self.reply(404, {"error": f"no route {self.command} {path}"})

    def chunks(self) -> bytes:
        whole = b""
        while size := int(self.rfile.readline().strip(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def reply(self, status: int, body: Any = None, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @property
    def known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def repo(self, name: str) -> Repo | None:
        """The repository; what may not be seen is not there, as the hub says."""
        found = self.hub.repos.get(name)
        if found is None or (found.private and not self.known):
            self.reply(404 if self.known else 401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        return found

    def files(self, name: str, revision: str) -> tuple[str, Files] | None:
        own = self.repo(name)
        if own is None:
            return None
        sha = own.branches.get(revision, revision)
        if sha not in own.commits:
            self.reply(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
            return None
        return sha, own.commits[sha]

    def may_write(self) -> bool:
        if not self.known:
            self.reply(401, {"error": "Invalid username or password."})
        return self.known

    def create(self, body: bytes) -> None:
        if not self.may_write():
            return
        asked = json.loads(body)
        name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
        if name in self.hub.repos:
            self.reply(409, {"error": "You already created this model repo", "url": f"{self.hub.endpoint}/{name}"})
            return
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        self.hub.repos[name] = Repo(private)
        self.hub.repos[name].commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"})
        self.reply(200, {"url": f"{self.hub.endpoint}/{name}", "name": name, "id": name})

    def branch(self, body: bytes, name: str, branch: str) -> None:
        own = self.repo(name) if self.may_write() else None
        if own is not None:
            there = branch in own.branches
            own.branches.setdefault(branch, own.branches["main"])
            self.reply(409 if there else 201, {"error": "exists"} if there else {})

    def info(self, body: bytes, name: str, revision: str) -> None:
        found = self.files(name, revision)
        if found is not None:
            siblings = [{"rfilename": path} for path in found[1]]
            self.reply(200, {"id": name, "sha": found[0], "private": self.hub.repos[name].private, "siblings": siblings,
                             "tags": [], "downloads": 0, "likes": 0})  # fmt: skip

    def tree(self, body: bytes, name: str, revision: str) -> None:
        found = self.files(name, revision)
        if found is not None:
            self.reply(200, [{"type": "file", "path": path, "size": len(data), "oid": sha1(data).hexdigest()}
                             for path, data in found[1].items()])  # fmt: skip

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        if self.may_write():
            files = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if LARGE.fullmatch(one["path"]) else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            self.reply(200, {"files": files})

    def batch(self, body: bytes, name: str) -> None:
        if self.may_write():
            wanted = json.loads(body)["objects"]
            objects = [one if one["oid"] in self.hub.large else {**one, "actions": {"upload": {
                "href": f"{self.hub.endpoint}/upload/{one['oid']}"}}} for one in wanted]  # fmt: skip
            self.reply(200, {"transfer": "basic", "objects": objects})

    def upload(self, body: bytes, oid: str) -> None:
        assert sha256(body).hexdigest() == oid
        self.hub.large[oid] = body
        self.reply(200, {})

    def commit(self, body: bytes, name: str, revision: str) -> None:
        found = self.files(name, revision) if self.may_write() else None
        if found is None:
            return
        files = dict(found[1])
        for line in body.splitlines():
            one = json.loads(line)
            value = one["value"]
            if one["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif one["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif one["key"] == "deletedFile":
                files.pop(value["path"])
        made = self.hub.repos[name].commit(revision, files)
        self.reply(200, {"success": True, "commitOid": made, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{made}"})

    def resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        found = self.files(name, revision)
        if found is None:
            return
        if path not in found[1]:
            self.reply(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=found[0])
            return
        data = found[1][path]
        self.reply(200, data, ETag=f'"{sha256(data).hexdigest()}"', X_Repo_Commit=found[0])

    def validate(self, body: bytes) -> None:
        self.reply(200, {"errors": [], "warnings": []})


_REPO = r"([\w.-]+/[\w.-]+)"
ROUTES: list[tuple[tuple[str, ...], str, Any]] = [
    (("POST",), r"/api/repos/create", Handler.create),
    (("POST",), r"/api/validate-yaml", Handler.validate),
    (("POST",), rf"/api/models/{_REPO}/branch/(.+)", Handler.branch),
    (("GET",), rf"/api/models/{_REPO}/revision/(.+)", Handler.info),
    (("GET",), rf"/api/models/{_REPO}/tree/([^/]+)/?", Handler.tree),
    (("POST",), rf"/api/models/{_REPO}/preupload/(.+)", Handler.preupload),
    (("POST",), rf"/{_REPO}\.git/info/lfs/objects/batch", Handler.batch),
    (("PUT",), r"/upload/(\w+)", Handler.upload),
    (("POST",), rf"/api/models/{_REPO}/commit/(.+)", Handler.commit),
    (("GET", "HEAD"), rf"/{_REPO}/resolve/([^/]+)/(.+)", Handler.resolve),
]


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run a hub on a free port while the block runs."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def client_of_a_hub(cache: Path, patch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a hub; its client has an empty cache and what HF_ENDPOINT, HF_HOME and HF_TOKEN would set."""
    with running_hub() as server:
        patch.setattr(constants, "ENDPOINT", server.endpoint)
        resolve = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", resolve)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setenv("HF_TOKEN", TOKEN)
        yield server
