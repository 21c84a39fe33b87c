"""RevokedHostKeys: ours says of each key and certificate what ssh-keygen says."""

import subprocess
from pathlib import Path

import asyncssh
import pytest

from asyncdeploy.connect.ssh.known_hosts.revoked import read_revoked
from asyncdeploy.connect.ssh.known_hosts.shown_key import ShownKey
from tests.support import tools

SERIALS = {"a": 5, "b": 70, "c": 100, "zero": 0}


def keygen(*words: str, folder: Path) -> None:
    """Run ssh-keygen."""
    tools.need("ssh-keygen")
    subprocess.run(["ssh-keygen", "-q", *words], check=True, cwd=folder, capture_output=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, and hosts that it has certified."""
    folder = tmp_path_factory.mktemp("revoked")
    for name in ("ca", *SERIALS):
        keygen("-t", "ed25519" if name != "b" else "ecdsa", "-N", "", "-C", name, "-f", name, folder=folder)
    for name, serial in SERIALS.items():
        keygen("-s", "ca", "-I", f"id-{name}", "-h", "-z", str(serial), "-n", "x", f"{name}.pub", folder=folder)
    return folder


def fingerprint(path: Path) -> str:
    """A key's digest, as ssh-keygen prints it."""
    return asyncssh.read_public_key(path).get_fingerprint()


@pytest.mark.parametrize(
    "words,spec",
    [
        (["-s", "ca.pub"], "serial: 5\nserial: 60-65\nserial: 68\nserial: 70\n"),
        (["-s", "ca.pub"], "serial: 1-4\nserial: 6\n"),
        (["-s", "ca.pub"], "".join(f"serial: {number}\n" for number in [*range(60, 200, 2), 5])),
        (["-s", "ca.pub"], "id: id-c\nid: id-x\n"),
        ([], "key: {a}\n"),
        ([], "sha1: {c}\n"),
        ([], "sha256: {b}\n"),
        ([], "hash: {hash}\n"),
        ([], "key: {ca}\n"),
        (["-z", "3"], ""),
    ],
)
def test_what_is_revoked_is_what_ssh_keygen_says(keys: Path, tmp_path: Path, words: list[str], spec: str) -> None:
    file, said = tmp_path / "revoked", tmp_path / "spec"
    text = {name: (keys / f"{name}.pub").read_text().strip() for name in ("ca", "a", "b", "c")}
    said.write_text(spec.format(**text, hash=fingerprint(keys / "b.pub")))
    keygen("-k", "-f", str(file), *words, str(said), folder=keys)
    ours = read_revoked(file)
    for name in SERIALS:
        shown = ShownKey.read(asyncssh.read_certificate(keys / f"{name}-cert.pub").public_data)
        assert shown.certificate is not None
        for path, certified in ((f"{name}-cert.pub", shown.certified), (f"{name}.pub", None)):
            asked = subprocess.run(
                ["ssh-keygen", "-Q", "-f", str(file), path], check=False, cwd=keys, capture_output=True
            )
            assert ours.has(shown.plain.public_data, certified) is (asked.returncode != 0), path


def test_a_text_of_public_keys_revokes_them_and_what_they_certify(keys: Path, tmp_path: Path) -> None:
    text = [(keys / f"{name}.pub").read_text() for name in ("a", "ca")]
    (tmp_path / "revoked").write_text("# gone\n\n" + "".join(text))
    ours = read_revoked(tmp_path / "revoked")
    shown = {name: ShownKey.read(asyncssh.read_certificate(keys / f"{name}-cert.pub").public_data) for name in "abc"}
    assert [ours.has(each.plain.public_data) for each in shown.values()] == [True, False, False]
    assert all(ours.has(each.plain.public_data, each.certified) for each in shown.values())


@pytest.mark.parametrize(
    "content",
    [b"nonsense\n", b"ssh-ed25519\n", b"ssh-ed25519 %%%\n", b"SSHKRL\n\0", b"SSHKRL\n\0" + b"\0" * 7 + b"\2" * 60],
)
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "revoked").write_bytes(content)
    with pytest.raises(ValueError, match="expected"):
        read_revoked(tmp_path / "revoked")


def test_half_a_krl_is_an_error(keys: Path, tmp_path: Path) -> None:
    keygen("-k", "-f", str(tmp_path / "krl"), "a.pub", folder=keys)
    whole = (tmp_path / "krl").read_bytes()
    read_revoked(tmp_path / "krl")
    for end in range(10, len(whole) - 1):
        (tmp_path / "krl").write_bytes(whole[:end])
        if end != 44:  # a KRL without sections is one
            with pytest.raises(ValueError, match="expected"):
                read_revoked(tmp_path / "krl")
