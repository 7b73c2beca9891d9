"""A hub on this machine, which has one model: the files of a directory."""

import hashlib
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """What of the hub's interface a download needs: a revision's commit, its files, and each of them."""

    directory: Path
    name: str
    asked: list[str]

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        path = self.path.partition("?")[0]
        self.asked.append(path)
        api, files = f"/api/models/{self.name}", f"/{self.name}/resolve/{COMMIT}/"
        file = self.directory / path.removeprefix(files)
        if path in (f"{api}/revision/main", f"{api}/revision/v1"):
            content = json.dumps({"id": self.name, "sha": COMMIT, "siblings": []}).encode()
        elif path == f"{api}/tree/{COMMIT}":
            content = json.dumps([*map(self.described, self.directory.rglob("*"))]).encode()
        elif path.startswith(files) and file.is_file():
            content = file.read_bytes()
        else:
            self.send_response(200 if path == "/" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if body:
            self.wfile.write(content)

    def described(self, file):
        path = file.relative_to(self.directory).as_posix()
        if file.is_dir():
            return {"type": "directory", "path": path, "oid": "0"}
        content = file.read_bytes()
        return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def log_message(self, *_):
        """Say nothing."""


@contextmanager
def serving(directory, name):
    """Inside, a hub has the files of `directory` as `name`: its address, and the paths that it is asked for."""
    handler = type("OneHub", (Hub,), {"directory": directory, "name": name, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
