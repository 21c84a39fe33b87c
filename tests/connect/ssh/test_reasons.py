"""K16: what the system says when no connection can be begun, whole, as a person reads it."""

import errno
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from asyncdeploy.connect.connecting import RETRIED
from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.handshake.reasons import NAMES, SYSTEM, name_error, system_error
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import ConnectError
from tests.support.places import ROOT
from tests.support.tools import need, need_root

THERE = "is the machine up, and is there a way to it from here (VPN, route, IPv6)?"
BUSY = "sshd does that when too many connect at once (MaxStartups), or to an address that it refuses"
PORTS = "`ss -s` counts its connections; net.ipv4.ip_local_port_range bounds them"
LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
RAISE = "raise it (`ulimit -n 65536` before the program starts, LimitNOFILE= of a service), or take fewer nodes at once"
FORBIDDEN = "its firewall or a sandbox forbids it"

# By errno: the reason, the message, the hint, and whether it is tried again.
TEXTS: dict[int, tuple[str, str, str, bool]] = {
    errno.ECONNREFUSED: (
        "refused",
        "h port 22 refuses connections",
        "is sshd running there, and is this its port?",
        False,
    ),
    errno.ECONNRESET: ("throttled", "h port 22 reset the connection", BUSY, True),
    errno.ECONNABORTED: ("throttled", "the connection to h port 22 was broken off while it was made", BUSY, True),
    errno.EPIPE: ("throttled", "h port 22 closed the connection while it was made", BUSY, True),
    errno.ETIMEDOUT: ("timeout", "h port 22 did not answer", "is the machine up, and does a firewall drop us?", True),
    errno.EHOSTUNREACH: ("unreachable", "h cannot be reached: no machine answers at that address", THERE, True),
    errno.EHOSTDOWN: ("unreachable", "h cannot be reached: the network says that it is down", THERE, True),
    errno.ENETUNREACH: ("unreachable", "h cannot be reached: this machine has no route to it", THERE, True),
    errno.ENETDOWN: ("unreachable", "h cannot be reached: this machine's network is down", THERE, True),
    errno.ENETRESET: ("unreachable", "h cannot be reached: the network broke the connection off", THERE, True),
    errno.EACCES: ("local", "this machine does not let us connect to h port 22", FORBIDDEN, False),
    errno.EPERM: ("local", "this machine does not let us connect to h port 22", FORBIDDEN, False),
    errno.EAFNOSUPPORT: (
        "local",
        "this machine cannot use the kind of address that h has",
        "is IPv6 off here?",
        False,
    ),
    errno.EINVAL: (
        "local",
        "h is an address to which nothing can connect",
        "a link-local IPv6 address needs the network card too, as in fe80::1%eth0",
        False,
    ),
    errno.EADDRNOTAVAIL: (
        "local",
        "this machine has no address or no free port from which h port 22 could be connected to",
        PORTS,
        True,
    ),
    errno.EADDRINUSE: (
        "local",
        "this machine has no free port from which h port 22 could be connected to",
        PORTS,
        True,
    ),
    errno.EMFILE: ("local", f"this program may have no more than {LIMIT} files and connections open", RAISE, False),
    errno.ENFILE: (
        "local",
        "this machine may have no more files and connections open",
        "fs.file-max bounds all its programs together",
        False,
    ),
    errno.ENOBUFS: ("local", "this machine has no buffers left for h port 22", "too many connections at once", True),
    errno.ENOMEM: ("local", "this machine has no memory left to connect to h port 22", "", True),
    errno.EPROTO: ("unreachable", "h port 22 cannot be connected to: Protocol error", THERE, True),
}
NAME_HINT = "check the name, or give an address"
NAME_TEXTS: dict[str, tuple[str, str, str, bool]] = {
    "EAI_NONAME": ("dns", "the name h is not known", NAME_HINT, False),
    "EAI_NODATA": ("dns", "the name h has no address", NAME_HINT, False),
    "EAI_ADDRFAMILY": ("dns", "the name h has no address that this machine can use", NAME_HINT, False),
    "EAI_AGAIN": (
        "dns",
        "the name server does not answer, asked for h",
        "is the network up on this side, and the DNS of /etc/resolv.conf? an address needs none",
        True,
    ),
    "EAI_FAIL": ("dns", "the name server refused to look h up", NAME_HINT, False),
    "EAI_MEMORY": ("local", "this machine has no memory left to look h up", "", True),
    "EAI_SERVICE": ("dns", "the name h could not be looked up", NAME_HINT, False),
}


def read(error: ConnectError) -> tuple[str, str, str, bool]:
    return error.reason, error.message, error.hint, error.passing or error.reason in RETRIED


@pytest.mark.parametrize("number", TEXTS, ids=lambda number: errno.errorcode[number])
def test_k16_what_the_system_says_as_a_person_reads_it(number: int) -> None:
    # asyncio puts its own words in: "Connect call failed ('192.0.2.1', 22)".
    said = OSError(number, "Connect call failed ('192.0.2.1', 22)")
    assert read(system_error("n", "h", 22, said)) == TEXTS[number]


@pytest.mark.parametrize("name", NAME_TEXTS)
def test_k16_what_a_name_server_says_as_a_person_reads_it(name: str) -> None:
    said = socket.gaierror(getattr(socket, name), "as the C library puts it")
    assert read(system_error("n", "h", 22, said)) == NAME_TEXTS[name]


def test_every_row_of_the_table_is_compared() -> None:
    assert set(SYSTEM) < set(TEXTS)
    assert set(NAMES) < set(NAME_TEXTS)


@pytest.mark.parametrize(
    "host,what",
    [
        ("a..b", "a..b is no host name: a part between two dots is empty"),
        (".a", ".a is no host name: a part between two dots is empty"),
        (
            "x" * 64 + ".example",
            f"{'x' * 64}.example is no host name: its part xxxxxxxxxxxx... has 64 letters, at most 63 were expected",
        ),
        ("b\xfccher\ud800", "b\xfccher\\ud800 is no host name: it has letters that no host name can have"),
    ],
)
def test_k16_what_no_host_name_can_be(host: str, what: str) -> None:
    assert read(name_error("n", host)) == ("dns", what, NAME_HINT, False)


@pytest.mark.parametrize("host", ["a..b", f"{'x' * 64}.example"])
async def test_k16_such_a_name_is_an_error_of_the_node(host: str, key_path: str) -> None:
    async with Pool(host_keys=HostKeys.pinned({})) as pool:
        with pytest.raises(ConnectError) as caught:
            await pool.at(Node(host, user="u", port=22, name="odd", key_path=key_path)).open("true")
    assert caught.value.describe() == name_error("odd", host).describe()


async def test_k16_an_address_that_needs_its_network_card(key_path: str) -> None:
    async with Pool(host_keys=HostKeys.pinned({})) as pool:
        with pytest.raises(ConnectError) as caught:
            await pool.at(Node("fe80::1", user="u", port=22, key_path=key_path)).open("true")
    assert read(caught.value) == tuple(
        part.replace("h is", "fe80::1 is") if isinstance(part, str) else part for part in TEXTS[errno.EINVAL]
    )


_PROGRAM = """\
import asyncio, os, resource, sys
from asyncdeploy import ConnectError, HostKeys, Limits, Node, Pool
host, key, few = sys.argv[1:]
async def main():
    await asyncio.to_thread(int)
    taken = []
    async with Pool(host_keys=HostKeys.pinned({}), limits=Limits(connect_deadline_s=1)) as pool:
        if few == "few":
            resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
            try:
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                pass
        try:
            await pool.at(Node(host, user="u", port=22, name="n", key_path=key)).open("true")
        except ConnectError as error:
            for descriptor in taken:
                os.close(descriptor)
            print(error.describe(), error.attempts > 1, sep="\\n")
asyncio.run(main())
"""


def told(*words: str, before: tuple[str, ...] = ()) -> list[str]:
    """What another process of ours is told, line by line."""
    words = (*before, sys.executable, "-c", _PROGRAM, *words)
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, "HOME": "/nonexistent"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("host", ["127.0.0.1", "some-host.example"])
def test_k16_too_many_open_files_is_our_own_limit(host: str, key_path: str) -> None:
    expected = "n: this program may have no more than 32 files and connections open"
    assert told(host, key_path, "few") == [expected, f"hint: {RAISE}", "False"]


def test_k16_without_a_network_it_is_said_and_tried_again(key_path: str, tmp_path: Path) -> None:
    need_root()
    need("unshare")
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.53\noptions timeout:1 attempts:1\n")
    mount = f'mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec "$@"'
    alone = ("unshare", "--net", "--mount", "--", "sh", "-c", mount, "sh")
    assert told("192.0.2.1", key_path, "", before=alone) == [
        "n: 192.0.2.1 cannot be reached: this machine has no route to it",
        f"hint: {THERE}",
        "True",
    ]
    assert told("some-host.example", key_path, "", before=alone) == [
        "n: the name server does not answer, asked for some-host.example",
        "hint: is the network up on this side, and the DNS of /etc/resolv.conf? an address needs none",
        "True",
    ]
