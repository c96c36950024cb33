"""A small server that speaks the part of the hub's protocol that the huggingface_hub client uses to download and to commit."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit


def leftovers(folder: Path) -> list[Path]:
    """Files of partial downloads and saves."""
    return [path for path in folder.rglob("*") if ".incomplete" in path.name or path.name.startswith(".saving")]


@dataclass
class Repo:
    """The commits of one repository, what its branches and tags point to, and who may see it."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    token: str | None = None

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        tree = {**self.commits.get(self.refs.get(ref, ""), {}), **files}
        digest = hashlib.sha1(repr((sorted(tree.items()), len(self.commits))).encode()).hexdigest()
        self.commits[digest] = tree
        self.refs[ref] = digest
        return digest

    def resolve(self, revision: str) -> str | None:
        return self.refs.get(revision, revision if revision in self.commits else None)

    @property
    def head(self) -> dict[str, bytes]:
        return self.commits[self.refs["main"]]


@dataclass
class Fault:
    """What goes wrong with the next `times` downloads of a file.

    Kinds: "drop" closes the connection after half of the asked-for bytes; "short" serves, as a whole, half of the file that HEAD announced;
    "unannounced" serves half of the file and tells nobody its size; "status" answers with `status`.
    """

    kind: str
    times: int = 1
    status: int = 500


class HubServer:
    """Run with `with HubServer() as hub:`; requests are recorded in `hub.requests` as (method, path, Range header)."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.faults: dict[str, Fault] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.refuse_commits: int | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> HubServer:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def repo(self, name: str, files: dict[str, bytes], **options: Any) -> Repo:
        self.repos[name] = Repo(**options)
        self.repos[name].commit(files)
        return self.repos[name]

    def downloads(self, suffix: str) -> list[str | None]:
        """The Range headers of all GET requests for files that end with `suffix`."""
        return [header for method, path, header in self.requests if method == "GET" and path.endswith(suffix)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._download(with_body=False)

    def do_GET(self) -> None:
        model = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self._path)
        if not model:
            return self._download(with_body=True)
        repo = self.hub.repos.get(model[1])
        commit = repo and repo.resolve(unquote(model[2] or "main"))
        if repo is None or commit is None:
            return self._fail(404, "RepoNotFound" if repo is None else "RevisionNotFound")
        siblings = [{"rfilename": name} for name in repo.commits[commit]]
        return self._json({"id": model[1], "modelId": model[1], "sha": commit, "siblings": siblings, "private": False, "tags": [], "downloads": 0})

    def do_POST(self) -> None:
        body = self._body()
        if self._path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self.hub.refuse_commits is not None:
            return self._fail(self.hub.refuse_commits, None)
        if self._path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.hub.repos:
                return self._json({"url": f"{self.hub.url}/{name}"}, status=409)
            self.hub.repo(name, {})
            return self._json({"url": f"{self.hub.url}/{name}"})
        preupload = re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", self._path)
        if preupload:
            modes = [(file["path"], "lfs" if file["path"].endswith(".safetensors") else "regular") for file in json.loads(body)["files"]]
            return self._json({"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes]})
        if self._path.endswith(".git/info/lfs/objects/batch"):
            objects = [{**entry, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{entry['oid']}"}}} for entry in json.loads(body)["objects"]]
            return self._json({"transfer": "basic", "objects": objects})
        commit = re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self._path)
        if commit:
            return self._commit(commit[1], [json.loads(line) for line in body.splitlines()])
        return self._fail(404, None)

    def do_PUT(self) -> None:
        body, oid = self._body(), self._path.rpartition("/")[2]
        if hashlib.sha256(body).hexdigest() != oid:
            return self._fail(422, None)
        self.hub.blobs[oid] = body
        return self._json({})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
        digest = self.hub.repos[name].commit(files)
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{digest}", "commitOid": digest, "success": True})

    def _download(self, *, with_body: bool) -> None:
        self.hub.requests.append((self.command, self._path, self.headers.get("Range")))
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._path)
        repo = self.hub.repos.get(match[1]) if match else None
        if match is None or repo is None:
            # The hub does not tell strangers which private repositories exist: without a token it answers 401.
            return self._fail(404 if self._token else 401, "RepoNotFound")
        if repo.token is not None and self._token != repo.token:
            return self._fail(401, None, message="Invalid credentials in Authorization header" if self._token else None)
        if repo.gated:
            return self._fail(403, "GatedRepo")
        commit = repo.resolve(unquote(match[2]))
        if commit is None:
            return self._fail(404, "RevisionNotFound")
        content = repo.commits[commit].get(match[3])
        if content is None:
            return self._fail(404, "EntryNotFound", commit=commit)
        return self._serve(match[3], content, commit, with_body=with_body)

    def _serve(self, path: str, content: bytes, commit: str, *, with_body: bool) -> None:
        fault = self.hub.faults.get(path)
        if fault is not None and (with_body or fault.kind in ("status", "unannounced")):
            fault.times -= with_body
            if fault.times < 0:
                fault = None
        else:
            fault = None
        if fault is not None and fault.kind == "status":
            return self._fail(fault.status, None)
        start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1])
        body = content[start:]
        sent = body[: len(body) // 2] if fault is not None else body
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if fault is None or fault.kind != "unannounced":
            self.send_header("Content-Length", str(len(sent if fault is not None and fault.kind == "short" else body)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        if with_body:
            with suppress(ConnectionError):
                self.wfile.write(sent)
        self.close_connection = fault is not None

    @property
    def _path(self) -> str:
        return urlsplit(self.path).path

    @property
    def _token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _json(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _fail(self, status: int, code: str | None, *, message: str | None = None, commit: str | None = None) -> None:
        self.send_response(status)
        for name, value in (("X-Error-Code", code), ("X-Error-Message", message), ("X-Repo-Commit", commit)):
            if value is not None:
                self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
