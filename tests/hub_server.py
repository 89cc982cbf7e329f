"""A small Hugging Face Hub on loopback: what huggingface_hub asks for is answered as the real one answers it.

Large files are served by a second host name, as the Hub's storage is: there no token must arrive.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from huggingface_hub.utils.sha import git_hash

LARGE = (".safetensors", ".bin", ".gz", "tokenizer.json")
GOOD_TOKEN = "hf_theTokenOfThisTest"


@dataclass
class HubRepository:
    """Files at one commit; ``announced`` gives another content than is served its hash."""

    commit: str
    files: dict[str, bytes]
    gated: bool = False
    announced: dict[str, bytes] = field(default_factory=dict)


class HubServer:
    """Repositories by kind and name (``models/someone/something``), the faults to make, and what was asked."""

    def __init__(self) -> None:
        self.repositories: dict[str, HubRepository] = {}
        self.renamed: dict[str, str] = {}
        """Kinds and names by former ones, which are redirected."""
        self.limited = 0
        """Answer as many requests with 429."""
        self.odd: dict[str, tuple[dict[str, str], bytes | Iterator[bytes]]] = {}
        """By path, headers and body to answer with; a body of parts is sent until the other side hangs up."""
        self.status = 0
        """Answer every request with it."""
        self.break_after: list[int] = []
        """Send only so many bytes of the next large files."""
        self.stall_after: list[int] = []
        """Send so many bytes of the next large files, and the rest never."""
        self.requests: list[tuple[str, str, str | None, str | None]] = []
        """Method, path, range, token."""
        self.ignores_ranges = False
        """Send every large file from its start."""
        self.uploaded: dict[str, bytes] = {}
        """Large files that arrived, by their SHA-256."""
        self.private: dict[str, bool] = {}
        """Whether a repository that was made is private, by its name."""
        self.sent = 0
        """Bytes of odd bodies that were sent."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fetched(self) -> Counter[str]:
        """How often the content of each file was asked for, by its name."""
        return Counter(
            path.rpartition("/")[2]
            for method, path, _, _ in self.requests
            if method == "GET" and (path.startswith("/storage/") or ("/resolve/" in path and not path.endswith(LARGE)))
        )

    def _handler(hub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_POST(self) -> None:
                path = unquote(urlsplit(self.path).path)
                if re.search(r"/(create|validate-yaml|preupload/main|commit/main|objects/batch)$", path):
                    body = self.rfile.read(int(self.headers["Content-Length"]))
                    hub.requests.append((self.command, path, None, self.headers.get("Authorization")))
                    if self.headers.get("Authorization") != f"Bearer {GOOD_TOKEN}":
                        return self.refuse(401, None, "Invalid username or password.")
                    return self.take_upload(path, body)
                self.do_GET()

            def take_upload(self, path: str, body: bytes) -> None:
                """A step of an upload: files arrive in a commit, large ones before it, by PUT."""
                if path == "/api/validate-yaml":
                    return self.answer(200, b'{"warnings": [], "errors": []}')
                lines = [json.loads(line) for line in body.splitlines()]
                if path == "/api/repos/create":
                    name = "/".join(filter(None, (lines[0].get("organization"), lines[0]["name"])))
                    hub.repositories.setdefault(f"models/{name}", HubRepository("0" * 40, {}))
                    hub.private[name] = bool(lines[0].get("private") or lines[0].get("visibility") == "private")
                    return self.answer(200, json.dumps({"url": f"{hub.endpoint}/{name}"}).encode())
                if path.endswith("/objects/batch"):
                    objects = [
                        one | {"actions": {"upload": {"href": f"{hub.endpoint}/uploads/{one['oid']}"}}}
                        for one in lines[0]["objects"]
                    ]
                    return self.answer(200, json.dumps({"transfer": "basic", "objects": objects}).encode())
                name = path.removeprefix("/api/").rpartition("/main")[0].rpartition("/")[0]
                if path.endswith("/preupload/main"):
                    modes = [
                        {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular"}
                        | {"shouldIgnore": False}
                        for file in lines[0]["files"]
                    ]
                    return self.answer(200, json.dumps({"files": modes}).encode())
                for line in lines:
                    if line["key"] == "file":
                        content = base64.b64decode(line["value"]["content"])
                    elif line["key"] == "lfsFile":
                        content = hub.uploaded[line["value"]["oid"]]
                    else:
                        continue
                    hub.repositories[name].files[line["value"]["path"]] = content
                found = {"commitUrl": f"{hub.endpoint}/{name}/commit/{'0' * 40}", "commitOid": "0" * 40}
                self.answer(200, json.dumps(found).encode())

            def do_PUT(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                hub.requests.append((self.command, self.path, None, self.headers.get("Authorization")))
                hub.uploaded[hashlib.sha256(content).hexdigest()] = content
                self.answer(200)

            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                token = self.headers.get("Authorization")
                hub.requests.append((self.command, path, self.headers.get("Range"), token))
                if path in hub.odd:
                    self.answer_oddly(*hub.odd[path])
                elif hub.status:
                    self.answer(hub.status)
                elif hub.limited:
                    hub.limited -= 1
                    self.answer(429, headers={"RateLimit": '"api";r=0;t=1'})
                elif token not in (None, f"Bearer {GOOD_TOKEN}") and not path.startswith("/storage/"):
                    self.refuse(401, None, "Invalid credentials in Authorization header")
                elif path.startswith("/api/"):
                    self.answer_api(path.removeprefix("/api/"))
                elif path.startswith("/storage/"):
                    self.send_content(path)
                else:
                    self.resolve(path)

            def find(self, name: str, revision: str | None) -> HubRepository | None:
                repository = hub.repositories.get(name)
                if repository is None:
                    # The real one does not tell strangers whether a repository is private or does not exist.
                    stranger = self.headers.get("Authorization") is None
                    self.refuse(*((401, None, "Invalid username or password.") if stranger else (404, "RepoNotFound")))
                elif revision not in (None, "main", repository.commit):
                    self.refuse(404, "RevisionNotFound")
                else:
                    return repository
                return None

            def redirect(self, name: str) -> None:
                """Of a former name to the one that it has now."""
                self.answer(307, headers={"Location": self.path.replace(name, hub.renamed[name], 1)})

            def answer_api(self, path: str) -> None:
                name, asked, rest = re.fullmatch(r"(.+?)(?:/(tree|revision|paths-info)/(.+))?", path).groups()
                if name in hub.renamed:
                    return self.redirect(name)
                revision, _, folder = (rest or "").partition("/")
                repository = self.find(name, revision or None)
                if repository is None:
                    return
                if asked == "paths-info":
                    wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["paths"]
                    return self.answer(
                        200, json.dumps([e for e in self.entries(repository) if e["path"] in wanted]).encode()
                    )
                if asked != "tree":
                    about = {"id": name.partition("/")[2], "sha": repository.commit, "tags": []}
                    about["siblings"] = [{"rfilename": file} for file in repository.files]
                    return self.answer(200, json.dumps(about).encode())
                if folder:
                    return self.refuse(404, "EntryNotFound")
                self.answer(200, json.dumps(list(self.entries(repository))).encode())

            def entries(self, repository: HubRepository) -> Iterator[dict]:
                for folder in {file.partition("/")[0] for file in repository.files if "/" in file}:
                    yield {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
                at_the_top = {file: content for file, content in repository.files.items() if "/" not in file}
                for file, content in at_the_top.items():
                    content = repository.announced.get(file, content)
                    entry = {"type": "file", "path": file, "oid": git_hash(content), "size": len(content)}
                    if file.endswith(LARGE):
                        lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
                        entry |= {"oid": "0" * 40, "lfs": lfs}
                    yield entry

            def resolve(self, path: str) -> None:
                name, _, rest = path.strip("/").partition("/resolve/")
                revision, _, file = rest.partition("/")
                kind = "" if name.startswith("datasets/") else "models/"
                if kind + name in hub.renamed:
                    return self.redirect(name)
                repository = self.find(kind + name, revision)
                if repository is None:
                    return
                if repository.gated and self.headers.get("Authorization") != f"Bearer {GOOD_TOKEN}":
                    return self.refuse(401, "GatedRepo")
                if file not in repository.files:
                    return self.refuse(404, "EntryNotFound")
                content = repository.files[file]
                announced = repository.announced.get(file, content)
                headers = {"X-Repo-Commit": repository.commit}
                if not file.endswith(LARGE):
                    return self.answer(200, content, headers | {"ETag": f'"{git_hash(announced)}"'})
                headers |= {
                    "X-Linked-Etag": f'"{hashlib.sha256(announced).hexdigest()}"',
                    "X-Linked-Size": str(len(announced)),
                    "Location": f"http://localhost:{hub.port}/storage/{kind}{name}/{file}",
                }
                self.answer(302, headers=headers)

            def send_content(self, path: str) -> None:
                name = next(name for name in hub.repositories if path.startswith(f"/storage/{name}/"))
                content = hub.repositories[name].files[path.removeprefix(f"/storage/{name}/")]
                asked = None if hub.ignores_ranges else self.headers.get("Range")
                start = int((asked or "bytes=0-").removeprefix("bytes=").rstrip("-"))
                headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
                if hub.stall_after:
                    return self.stall(content[start:], hub.stall_after.pop(0))
                stop = hub.break_after.pop(0) if hub.break_after else None
                self.answer(206 if start else 200, content[start:], headers, stop)

            def answer_oddly(self, headers: dict[str, str], body: bytes | Iterator[bytes]) -> None:
                if isinstance(body, bytes):
                    return self.answer(200, body, headers)
                self.send_response(200)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
                self.close_connection = True
                with suppress(OSError):
                    for part in body if self.command != "HEAD" else ():
                        self.wfile.write(part)
                        hub.sent += len(part)

            def stall(self, content: bytes, stop: int) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[:stop])
                self.connection.recv(1)  # until the other side is gone
                self.close_connection = True

            def refuse(self, status: int, code: str | None, message: str = "no") -> None:
                self.answer(status, headers={"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}))

            def answer(self, status: int, content: bytes = b"", headers=(), stop: int | None = None) -> None:
                """Send an answer; ``stop``: send so many bytes, then break the connection."""
                self.send_response(status)
                for key, value in dict(headers).items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content[:stop])
                if stop is not None:
                    self.close_connection = True

            def log_message(self, *_) -> None:
                pass

        return Handler
