"""A hub on this machine in place of the Hugging Face hub. Run alone it needs no package: it prints its address.

Usage: python tests/hub_double.py
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHA = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's protocol that one commit of small files and one snapshot need."""

    repos: dict[str, dict[str, bytes]]

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            self.server.asked.append(asked)
            self.repos.setdefault(f"{asked['organization']}/{asked['name']}", {})
            return self.answer({"url": f"{self.server.address}/{asked['organization']}/{asked['name']}"})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        repo = "/".join(self.path.split("/")[3:5])
        if "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.answer({"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.repos[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self.answer({"commitUrl": f"{self.server.address}/{repo}/commit/{SHA}", "commitOid": SHA})

    def do_GET(self):
        parts = self.path.partition("?")[0].strip("/").split("/")
        repo = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        files = self.repos.get(repo)
        if files is None:
            return self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        if parts[0] != "api":
            content = files[parts[-1]]
            headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": SHA}
            return self.answer(content, headers=headers)
        if "tree" in parts:
            oid = {name: hashlib.sha1(content).hexdigest() for name, content in files.items()}
            tree = [{"type": "file", "path": name, "size": len(files[name]), "oid": oid[name]} for name in files]
            return self.answer(tree)
        return self.answer({"id": repo, "sha": SHA, "siblings": [{"rfilename": name} for name in files]})

    def do_HEAD(self):
        self.do_GET()

    def answer(self, content, status=200, headers=None):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        """Print nothing."""


def serve() -> ThreadingHTTPServer:
    """Start a hub without repositories in a thread. It has `address`, `repos` (the files of each) and `asked`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Hub.repos = server.repos = {}
    server.asked = []  # to make repositories
    server.address = f"http://127.0.0.1:{server.server_port}"
    server.thread = threading.Thread(target=server.serve_forever, daemon=True)
    server.thread.start()
    return server


if __name__ == "__main__":
    running = serve()
    print(running.address, flush=True)
    running.thread.join()
