"""What is said to do about a failed step: the words of real tools, and a cause that is not another one's."""

import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from asyncdeploy.envs.bootstrap.bootstrap import bootstrap_env
from asyncdeploy.envs.known_errors import find_hint
from asyncdeploy.envs.uv import UvEnv
from asyncdeploy.launch.root_cause.known_errors import hint_for
from asyncdeploy.values.errors import BootstrapFailed
from asyncdeploy.values.events import Noted
from asyncdeploy.values.workspace import Site
from tests.support.envs import write_project
from tests.support.remotes.shell_remote import ShellRemote
from tests.support.tools import need

CONNECT = "  cause: client error (Connect)\n  cause: tcp connect error\n  cause: Connection refused (os error 111)"
GIT = "error: Failed to download and build `x @ git+ssh://git@host/a/b`\n  cause: Git operation failed\n"
SAID = {
    "a git host that wants a key": (
        f"{GIT}--- stderr\ngit@host: Permission denied (publickey).\nfatal: Could not read from remote repository.",
        "the git host does not know the node",
    ),
    "a git host out of reach": (
        f"{GIT}--- stderr\nssh: connect to host 10.0.0.1 port 22: Connection refused\nfatal: Could not read",
        "cannot reach the git host",
    ),
    "a certificate": (
        "error: Failed to fetch: `https://index/`\n  cause: client error (Connect)\n  cause: invalid peer certificate",
        "does not trust that server's certificate",
    ),
    "no route": (
        "error: Failed to fetch: `https://index/simple/x/`\n  cause: tcp connect error\n  cause: No route to host",
        "UvEnv(offline=True)",
    ),
    "a Python that uv fetches": (
        f"error: Failed to download `https://host/20251031/cpython-3.9.25%2B20251031-x86_64.tar.gz`\n{CONNECT}",
        "the node has no such Python",
    ),
    "a library of the system": (
        "cannot import cv2: ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
        "a library or header of the system is missing",
    ),
    "a header of the system": ("fatal error: Python.h: No such file or directory", "Python.h python3-dev"),
    "a version from git": (
        "LookupError: setuptools-scm was unable to detect version for /root/proj.\nMake sure",
        "SETUPTOOLS_SCM_PRETEND_VERSION",
    ),
    "open files": ("error: Failed to open file\n  cause: Too many open files (os error 24)", "ulimit -n"),
    "no git": ("error: Git executable not found. Ensure that Git is installed and available.", "the node has none"),
    "a login": (
        "hint: An index URL (http://h) could not be queried due to a lack of valid authentication credentials (401",
        "UV_INDEX_<NAME>_PASSWORD",
    ),
    "another uv": ("error: Required uv version `==0.5.0` does not match the running version `0.13.9`.", "another uv"),
    "uv's variables": (
        "error: Unable to find lockfile at `uv.lock`, but `UV_FROZEN=1` was provided. To create a lockfile, run",
        "unset",
    ),
    "a folder of somebody else": ("error: failed to create directory `/x`: Permission denied (os error 13)", "owner"),
    "an index that is down": ("HTTP status server error (503 Service Unavailable)", "in trouble"),
}


@pytest.mark.parametrize("case", SAID)
def test_e13_the_hint_fits_the_cause(case: str) -> None:
    output, wanted = SAID[case]
    assert wanted in find_hint(output)


@pytest.mark.parametrize("case", ["a library of the system", "a header of the system"])
def test_e13_a_rank_that_lacks_something_of_the_system_was_pushed_well(case: str) -> None:
    hint = hint_for(SAID[case][0])
    assert "missing" in hint
    assert "pushed" not in hint


async def failure(remote: ShellRemote, site: Site, env: UvEnv) -> BootstrapFailed:
    with pytest.raises(BootstrapFailed) as caught:
        await bootstrap_env(remote, site, env)
    return caught.value


async def test_e13_a_member_that_was_sent_alone(remote: ShellRemote, site: Site, folder: Path) -> None:
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "a"\nversion = "1"\nrequires-python = ">=3.8"\ndependencies = ["lib"]\n'
        "[tool.uv]\npackage = false\n[tool.uv.sources]\nlib = { workspace = true }\n"
    )
    assert "Workspace(top, project='libs/a')" in (await failure(remote, site, UvEnv())).hint


async def test_e13_a_certificate_that_nobody_signed(
    remote: ShellRemote, site: Site, folder: Path, tmp_path: Path
) -> None:
    key, cert = tmp_path / "key", tmp_path / "cert"
    need("openssl")
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2"]
    words += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(words, check=True, capture_output=True)
    with https_server(cert, key) as url:
        write_project(folder)
        (folder / "pyproject.toml").unlink()
        (folder / "requirements.txt").write_text(f"--index-url {url}/simple\nsome-lib\n")
        del remote.env["UV_OFFLINE"]
        remote.env |= {"UV_HTTP_RETRIES": "0", "UV_NO_CONFIG": "1"}
        error = await failure(remote, site, UvEnv())
    assert "certificate" in error.hint, error.evidence


@contextmanager
def https_server(cert: Path, key: Path) -> Iterator[str]:
    """A server on loopback that nobody trusts."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def test_e13_an_image_s_variables_turn_uv_to_nothing_else(remote: ShellRemote, site: Site, folder: Path) -> None:
    write_project(folder, ("one-lib",))
    remote.env |= {"UV_PROJECT": "/nowhere", "UV_SYSTEM_PYTHON": "1", "UV_PROJECT_ENVIRONMENT": "/nowhere"}
    await bootstrap_env(remote, site, UvEnv())
    assert (folder / ".venv").is_symlink()


async def test_e13_an_image_s_variables_are_named_when_uv_fails(remote: ShellRemote, site: Site, folder: Path) -> None:
    write_project(folder, ("one-lib",))
    remote.env["UV_EXCLUDE_NEWER"] = "never ever"
    error = await failure(remote, site, UvEnv(frozen=False))
    assert "UV_EXCLUDE_NEWER" in error.evidence
    assert "unset" in error.hint
    noted = [event.text for event in remote.events if isinstance(event, Noted)]
    assert not any("UV_EXCLUDE_NEWER" in text for text in noted), "it is said once, with the error"


@pytest.mark.parametrize("nearby", [True, False])
async def test_e14_a_folder_without_a_project_is_not_passed_over_in_silence(
    remote: ShellRemote, site: Site, folder: Path, nearby: bool
) -> None:
    if nearby:
        (folder / "libs" / "a").mkdir(parents=True)
        write_project(folder / "libs" / "a")
    await bootstrap_env(remote, site, UvEnv())
    said = [event.text for event in remote.events if isinstance(event, Noted)]
    assert f"no pyproject.toml, pylock.toml or requirements.txt in {folder}" in said[0]
    assert ('project="libs/a"' in said[-1]) is nearby
