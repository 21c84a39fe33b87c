"""The catalogue: what is said where an environment cannot be made, by real tools on real nodes."""

import os
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import asyncdeploy as ad
from asyncdeploy.envs.uv_wheel import find_uv_binary
from tests.support.beds.disks import small_disk
from tests.support.beds.index import Index, write_release
from tests.support.beds.pools import pool_for
from tests.support.beds.sshd_node import SshdNode
from tests.support.tools import need, need_root

StartSshd = Callable[..., SshdNode]
Told = Callable[..., str]
WORDS = "the tool's own words"
PROJECT = '[project]\nname = "proj"\nversion = "1"\nrequires-python = ">=3.8"\ndependencies = ["parts-lib=={}"]\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that wants a package of an index."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PROJECT.format("1.0"))
    return folder


def telling(url: str, **more: str) -> str:
    """Shell that tells uv of one index, and to give up at once."""
    said = {"UV_DEFAULT_INDEX": url, "UV_PYTHON_DOWNLOADS": "never", "UV_HTTP_RETRIES": "0", **more}
    return "; ".join(f"export {name}={value}" for name, value in {**said, "PIP_CONFIG_FILE": os.devnull}.items())


async def failure(
    sshd: SshdNode, project: Path, env: ad.Env, seen: list[ad.Event] | None = None
) -> ad.DeployError | None:
    """Why the project cannot be deployed on a node that has uv."""
    tools = sshd.home / ".local" / "bin"
    tools.mkdir(parents=True, exist_ok=True)
    if not (tools / "uv").exists():
        (tools / "uv").symlink_to(find_uv_binary().path)
    async with pool_for(sshd, observer=None if seen is None else seen.append) as pool:
        report = await ad.deploy_all(sshd.node, project, env, pool=pool)
    return report.outcomes[0].error


async def test_the_index_cannot_be_reached(start_sshd: StartSshd, project: Path, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    error = await failure(sshd, project, ad.UvEnv(pre=telling("http://127.0.0.1:1/simple")))
    assert (
        told(error, WORDS, home=sshd.home)
        == """\
gpu-a: env failed: uv sync exited 2
  | <the tool's own words>
hint: the node cannot reach the package index: look at its network, its proxy (HTTPS_PROXY) and UV_OFFLINE, or send all that is needed: UvEnv(offline=True)"""
    )


async def test_the_index_wants_a_password(start_sshd: StartSshd, project: Path, tmp_path: Path, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    write_release(tmp_path / "wheels", "parts-lib", "1.0", files=1)
    with Index(tmp_path / "wheels") as index:
        index.login = "ann:secret"
        error = await failure(sshd, project, ad.UvEnv(pre=telling(index.url)))
    assert (
        told(error, WORDS, home=sshd.home)
        == """\
gpu-a: env failed: uv sync exited 1
  | <the tool's own words>
hint: the index wants credentials: UvEnv(secrets={'UV_INDEX_<NAME>_USERNAME': ..., 'UV_INDEX_<NAME>_PASSWORD': ...}), <NAME> as in [[tool.uv.index]], in capitals and with _ for other signs"""
    )


async def test_the_package_is_not_in_the_index(
    start_sshd: StartSshd, project: Path, tmp_path: Path, told: Told
) -> None:
    sshd = start_sshd("gpu-a")
    write_release(tmp_path / "wheels", "parts-lib", "2.0", files=1)
    with Index(tmp_path / "wheels") as index:
        error = await failure(sshd, project, ad.UvEnv(pre=telling(index.url)))
    assert (
        told(error, WORDS, home=sshd.home)
        == """\
gpu-a: env failed: uv sync exited 1
  | <the tool's own words>
hint: no index that was asked has it: look at its name and version, and at [[tool.uv.index]]"""
    )


async def test_a_certificate_that_nobody_signed(
    start_sshd: StartSshd, project: Path, tmp_path: Path, told: Told
) -> None:
    need("openssl")
    sshd, key, cert = start_sshd("gpu-a"), tmp_path / "key.pem", tmp_path / "cert.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2"]
    subprocess.run([*words, "-subj", "/CN=127.0.0.1"], check=True, capture_output=True)
    with Index(tmp_path) as index:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        index._server.socket = context.wrap_socket(index._server.socket, server_side=True)
        error = await failure(sshd, project, ad.UvEnv(pre=telling(index.url.replace("http:", "https:"))))
    assert (
        told(error, WORDS, home=sshd.home)
        == """\
gpu-a: env failed: uv sync exited 2
  | <the tool's own words>
hint: the node does not trust that server's certificate, or a proxy's: UvEnv(pre='export SSL_CERT_FILE=...'), or UV_SYSTEM_CERTS=1 there for the node's own store (pre stands under [env] in asyncdeploy.toml); a clock that is wrong has the same effect"""
    )


async def test_the_disk_is_full(start_sshd: StartSshd, project: Path, tmp_path: Path, told: Told) -> None:
    need_root()
    full = tmp_path / "cache"
    full.mkdir()
    sshd = start_sshd("gpu-a", disks={str(full): "full"})
    write_release(tmp_path / "wheels", "parts-lib", "1.0", files=150)
    with Index(tmp_path / "wheels") as index:
        error = await failure(sshd, project, ad.UvEnv(pre=telling(index.url), cache_dir=str(full)))
    assert (
        told(error, WORDS, home=sshd.home)
        == """\
gpu-a: env failed: uv sync exited 2
  | <the tool's own words>
hint: make room, or use a larger disk: UvEnv(cache_dir=...), Workspace(..., remote_path=...) (<home> had <n> GB free)"""
    )


async def test_the_cache_is_on_another_file_system(start_sshd: StartSshd, project: Path, tmp_path: Path) -> None:
    write_release(tmp_path / "wheels", "parts-lib", "1.0", files=1)
    seen: list[ad.Event] = []
    with small_disk(tmp_path / "cache", 64), Index(tmp_path / "wheels") as index:
        sshd = start_sshd("gpu-a")
        env = ad.UvEnv(pre=telling(index.url), cache_dir=str(tmp_path / "cache"))
        assert await failure(sshd, project, env, seen) is None
    text = "uv copies every file: its cache is on another file system than the project; UvEnv(cache_dir=...) on the"
    assert [event.text for event in seen if isinstance(event, ad.Noted)] == [
        f"env: {text} project's own is faster and takes less room"
    ]


async def test_no_such_python(start_sshd: StartSshd, project: Path, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    error = await failure(sshd, project, ad.UvEnv(pre=telling("http://127.0.0.1:1/simple"), python="3.99"))
    assert (
        told(error, WORDS, home=sshd.home)
        == """\
gpu-a: env failed: uv sync exited 2
  | <the tool's own words>
hint: the node has no such Python and uv could not fetch one: install it there, or ask for another (UvEnv(python=))"""
    )


async def test_no_docker(start_sshd: StartSshd, project: Path, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    (project / "pyproject.toml").unlink()
    error = await failure(sshd, project, ad.DockerEnv("python:3.12"))
    assert (
        told(error, WORDS, home=sshd.home)
        == """\
gpu-a: env failed: reach the engine exited 1
  | <the tool's own words>
hint: start the docker daemon there, or take podman; a node that is a container (RunPod, Vast) has none: use UvEnv"""
    )
