"""Key files as they lie about: what is no key is named for what it is, and what gives nothing is not waited for."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pytest

from asyncdeploy.connect.ssh.config.answer import Keys
from asyncdeploy.connect.ssh.keys import MAX_BYTES, KeyRing
from asyncdeploy.values.errors import AuthError
from tests.support.tools import need


async def problem_with(path: Path) -> str:
    """What is said of a node's key_path."""
    with pytest.raises(AuthError) as caught:
        await KeyRing().login("box", Keys((path,), only=True, agent="none"), named=True)
    return caught.value.message


@pytest.mark.parametrize("change", [lambda text: text[:120], lambda text: b"\xef\xbb\xbf" + text, lambda _: b""])
async def test_k11_a_private_key_that_is_broken_is_not_called_a_public_one(
    make_key: Callable[..., str], change: Callable[[bytes], bytes]
) -> None:
    path = Path(make_key("key"))  # its public half lies beside, and is whole
    path.write_bytes(change(path.read_bytes()))
    assert "no usable private key" in await problem_with(path)


async def test_k11_a_public_key_is_called_one(make_key: Callable[..., str]) -> None:
    assert "a public key" in await problem_with(Path(make_key("key") + ".pub"))


async def test_k11_a_fifo_without_a_writer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncdeploy.connect.ssh.keys.FILE_S", 0.2)
    os.mkfifo(tmp_path / "key")
    assert "within" in await problem_with(tmp_path / "key")
    # The thread that reads it ends with its writer.
    os.close(os.open(tmp_path / "key", os.O_WRONLY))


async def test_k11_what_is_as_large_as_no_key_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "key").open("wb") as file:
        file.truncate(100 * MAX_BYTES)
    assert "a key of at most 1 MiB was expected" in await problem_with(tmp_path / "key")


async def test_k11_an_agents_comment_in_latin_1_is_no_reason_to_stay_outside(
    tmp_path: Path, make_key: Callable[..., str]
) -> None:
    need("ssh-agent", "ssh-add")
    key = asyncssh.read_private_key(make_key("key"))
    key.set_comment("ren\xe9".encode("latin-1"))
    (tmp_path / "latin").write_bytes(key.export_private_key())
    (tmp_path / "latin").chmod(0o600)
    path = str(tmp_path / "agent")
    words = ["ssh-agent", "-a", path, "sh", "-c", f"ssh-add -q {tmp_path}/latin && echo ready && read end"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"ready\n"
        ring = KeyRing()
        login = await ring.login("box", Keys(agent=path))
        await ring.close()
        agent.communicate(b"\n")
    assert login.names == ("agent: ren\ufffd",)
