"""Files of OpenSSH and what `ssh -G` prints: known_hosts, revoked keys, ssh_config."""

import contextlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from asyncdeploy.connect.ssh.config.answer import read_answer, to_config
from asyncdeploy.connect.ssh.config.files import MAX_BYTES as LARGEST_CONFIG, WrittenWords
from asyncdeploy.connect.ssh.config.keywords import KEYWORDS
from asyncdeploy.connect.ssh.config.patterns import match_pattern
from asyncdeploy.connect.ssh.known_hosts.edit import forget_names, record_key
from asyncdeploy.connect.ssh.known_hosts.entries import MARK, MAX_BYTES as LARGEST_LIST, Entry, read_known_hosts
from asyncdeploy.connect.ssh.known_hosts.revoked import Certified, read_revoked
from tests.fuzz.dough import Dough
from tests.fuzz.target import MOST_BYTES, target

HOST = "gpu1.example.org"
KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0vX4pVqL1mBzqk8E1m8m2f1w4u9g2N3t5y6u7i8o9p"
WORDS = (
    *(HOST.encode(), b" ", b"\n", KEY, b"@revoked ", b"@cert-authority ", b"*", b"!", b"?", b",", b"#", b"|1|", b"="),
    *(b"|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg=", b"[gpu1.example.org]:2222", b"\xff", b"\x85"),
    *(b"ssh-rsa AAAA", b"\xe2\x80\xa8", b"\r", b" asyncdeploy"),
)


@target(*WORDS, most_bytes=LARGEST_LIST + MOST_BYTES)
def known_hosts(data: bytes) -> None:
    """A known_hosts file is read, written to and cut without an error, and other people's lines stay as they are."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "known_hosts")
        path.write_bytes(data)
        known = read_known_hosts(path)
        for name in (HOST, HOST.upper(), "[gpu1.example.org]:2222"):
            for entry in known.find(name):
                assert entry.is_sound or entry.marker == "revoked"
                assert entry.fingerprint.startswith("SHA256:") or not entry.is_sound
        kind, blob = KEY.decode().split()
        before = record_key(path, [HOST], kind, blob)[HOST]
        if not before:
            assert path.read_bytes().startswith(data)
            added = [entry for entry in read_known_hosts(path).find(HOST) if entry.is_ours and not entry.marker]
            assert [entry.blob for entry in added] == [blob]
        lines = path.read_bytes().split(b"\n")
        forget_names(path, [HOST])
        rest = path.read_bytes().split(b"\n")
        left = iter(lines)
        assert all(line in left for line in rest), "what stays, stays in its order"
        assert not any(line == f"{HOST} {kind} {blob} {MARK}".encode() for line in rest)


@target(*WORDS, slow=True, most_bytes=LARGEST_LIST + MOST_BYTES)
def known_hosts_as_ssh(data: bytes) -> None:
    """A host's keys are those that ssh-keygen finds, where the file is one that it reads as we do."""
    if shutil.which("ssh-keygen") is None or not re.fullmatch(rb"[\n -~]*", data):
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "known_hosts")
        path.write_bytes(data)
        line = ["ssh-keygen", "-F", HOST, "-f", str(path)]
        said = subprocess.run(line, capture_output=True, check=False).stdout.decode()
        theirs = [int(number) for number in re.findall(r"^# Host .* found: line ([0-9]+)", said, re.MULTILINE)]
        ours = [int(entry.source.rpartition(":")[2]) for entry in read_known_hosts(path).find(HOST)]
        sound = [number for number in theirs if _has_key(data.split(b"\n")[number - 1].decode())]
        assert sorted(set(ours)) == sorted(set(sound)), (ours, theirs)


def _has_key(line: str) -> bool:
    """Whether a line has a key at all; ssh-keygen does not look, ssh does."""
    words = [*line.split(), "", "", ""]
    kind, blob = words[2:4] if words[0].startswith("@") else words[1:3]
    return words[0] == "@revoked" or Entry("", kind, blob, "").is_sound


@target(
    *(
        b"SSHKRL\n\0",
        b"\0\0\0\1",
        b"\0" * 24,
        b"\0\0\0\0",
        b"\1",
        b"\2",
        b"\3\0\0\0\x18\0\0\0\x14" + b"k" * 20,
        b"\x20",
    ),
    *(b"\x21", b"\x22", b"\x23", b"\xff", KEY, b"\n", b"#", b"\0\0\0\x08", b"\x39"),
    most_bytes=LARGEST_LIST + MOST_BYTES,
)
def revoked(data: bytes) -> None:
    """A file of revoked keys, as text or as a KRL: read, or refused as a whole."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "revoked")
        path.write_bytes(data)
        try:
            found = read_revoked(path)
        except ValueError:
            return
        found.has(b"key", Certified(b"authority", 7, b"id"))
        for key in found.keys:
            assert found.has(key)


@target(b"*", b"?", b"a", b"b", b"*a", b"\xff", b"*a*a*a*a*b", b"a" * 40)
def host_patterns(data: bytes) -> None:
    """OpenSSH's patterns, beside the same as a regular expression on names so short that it ends."""
    pattern, name = (piece.decode("latin-1") for piece in (*Dough(data).pieces(), b"", b"")[:2])
    found = match_pattern(pattern[:1000], name)
    if len(name) <= 12 and pattern.count("*") <= 4:
        expression = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern[:1000])
        assert found == bool(re.fullmatch(expression, name, re.DOTALL))


CONFIG_WORDS = (
    *(
        b"Host ",
        HOST.encode(),
        b"\n",
        b"Match all\n",
        b"User root\n",
        b"Port 2222\n",
        b"*",
        b"!",
        b'"',
        b"'",
        b"\\",
        b"#",
    ),
    *(
        b"HostName %h.x\n",
        b"Include x\n",
        b"ProxyJump none\n",
        b"IdentityFile ~/k\n",
        b"=",
        b" ",
        b"\t",
        b"\r",
        b"Ciphers x\n",
    ),
    *(
        b"Match host ",
        b"CanonicalizeHostname yes\n",
        b"StrictHostKeyChecking no\n",
        b"\xff",
        b"HostKeyAlias %C\n",
        b"?",
    ),
)


@target(*CONFIG_WORDS, most_bytes=LARGEST_CONFIG + MOST_BYTES)
def ssh_config(data: bytes) -> None:
    """Whatever stands in an ssh_config, which keywords it says is known, or all may be said."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config")
        path.write_bytes(data)
        written = WrittenWords.read(path)
        for host in (HOST, "x"):
            assert written.of(host) <= frozenset(KEYWORDS) | written._every
            written.tell_apart(host)


@target(*CONFIG_WORDS, slow=True, most_bytes=LARGEST_CONFIG + MOST_BYTES)
def ssh_config_as_ssh(data: bytes) -> None:
    """What ssh itself would do otherwise because of a file is among the keywords that we have found in it."""
    if shutil.which("ssh") is None or b"exec" in data.lower() or b"include" in data.lower():
        return
    with tempfile.TemporaryDirectory() as folder:
        path, empty = Path(folder, "config"), Path(folder, "empty")
        path.write_bytes(data)
        empty.write_bytes(b"")
        answers = []
        for file in (path, empty):
            done = subprocess.run(["ssh", "-F", file, "-G", "--", HOST], capture_output=True, check=False, timeout=20)
            if done.returncode:
                return  # ssh does not take the file, and people cannot use it
            answers.append(read_answer(done.stdout.decode("utf-8", "replace")))
        said, usual = answers
        with contextlib.suppress(ValueError):
            to_config(said, KEYWORDS)
        changed = {word for word in KEYWORDS if word != "hostname" and said.get(word) != usual.get(word)}
        found = WrittenWords.read(path).of(HOST)
        # ssh sets some by others, as what a ProxyJump and a ProxyCommand exclude.
        assert changed <= found | {"user"} or found == frozenset(KEYWORDS), (changed, found)


@target(
    *(b"hostname x\n", b"port 22\n", b"port ", b"9" * 5000, b"\xc2\xb2", b"user root\n", b"identityfile ~/.ssh/id\n"),
    *(
        b"addressfamily inet\n",
        b"proxyjump a,b\n",
        b"userknownhostsfile /x /y z\n",
        b"identityagent $X\n",
        b"none",
        b" ",
    ),
    *(
        b"requiredrsasize 2048\n",
        b"ciphers aes128-ctr,x\n",
        b"proxycommand nc %h\n",
        b"stricthostkeychecking no\n",
        b"\n",
    ),
    *(b"\0", b"~\0", b"~nobody/x", b"revokedhostkeys /x\n", b"certificatefile "),
)
def ssh_answers(data: bytes) -> None:
    """What `ssh -G` prints is a way to a host, or a value is named that is none."""
    answer = read_answer(data.decode("utf-8", "replace"))
    try:
        found = to_config(answer, KEYWORDS)
    except ValueError as error:
        assert str(error)
        return
    assert found.port is None or found.port >= 1
