"""A package index on loopback that serves a folder of wheels, and can be told to misbehave."""

from __future__ import annotations

import base64
import hashlib
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote


class Index:
    """A simple index; `status` other than 200 is its answer to everything, `asked` the paths it was asked for, `login`
    ("user:password") what it wants before it answers; without `hashed` it names no hashes. Below /flat it is one page.
    """

    def __init__(self, wheels: Path) -> None:
        self.wheels = wheels
        self.status = 200
        self.asked: list[str] = []
        self.login = ""
        self.hashed = True
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                told = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
                body = index.answer(self.path)
                status = 401 if index.login and told != index.login else index.status if body is not None else 404
                body = b"who are you?" if status == 401 else body
                self.send_response(status)
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="index"')
                self.send_header("Content-Type", "application/zip" if self.path.endswith(".whl") else "text/html")
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body or b"")

            do_HEAD = do_GET  # noqa: N815 - the base class names it

            def log_message(self, *words: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 128  # of five, many at once lose their first packet, and a second with it

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        """What uv is told."""
        return f"http://127.0.0.1:{self._server.server_port}/simple"

    def answer(self, path: str) -> bytes | None:
        """What there is under a path."""
        if self.status != 200:
            return b"not now"
        name = unquote(path.rstrip("/").rpartition("/")[2])
        if name.endswith(".whl"):
            wheel = self.wheels / name
            return wheel.read_bytes() if wheel.exists() else None
        found = sorted(self.wheels.glob("*.whl" if name == "flat" else f"{name.replace('-', '_')}-*.whl"))
        marks = [f"#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}" if self.hashed else "" for wheel in found]
        links = "".join(
            f'<a href="/files/{quote(w.name)}{mark}">{w.name}</a>' for w, mark in zip(found, marks, strict=True)
        )
        return f"<html><body>{links}</body></html>".encode() if found else None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Be gone: connections are refused from now on."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


def write_release(folder: Path, name: str, version: str, files: int = 1, size: int = 100) -> Path:
    """Write a wheel whose package says its version in each of its files, so that a mixture of two shows."""
    module = name.replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{module}-{version}-py3-none-any.whl"
    info = f"{module}-{version}.dist-info"
    filler = f"# {'x' * size}\n"
    parts = {f"{module}/part{number}.py": f"VERSION = {version!r}\n{filler}" for number in range(files)}
    whole = (
        f"import importlib\n\nVERSION = {version!r}\n"
        f"parts = [importlib.import_module(f'{module}.part{{n}}').VERSION for n in range({files})]\n"
        "assert set(parts) == {VERSION}, parts\n"
    )
    texts = {
        f"{module}/__init__.py": whole,
        **parts,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {module}.part0:VERSION.encode\n",
    }
    record = "".join(f"{file},,\n" for file in (*texts, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in {**texts, f"{info}/RECORD": record}.items():
            wheel.writestr(zipfile.ZipInfo(file), text)
    return path
