"""The catalogue: what is said where a node is not reached, each by a real server."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import attrs

import asyncdeploy as ad
from asyncdeploy.connect.ssh.connector import AsyncsshConnector
from tests.support.beds.sshd_node import SshdNode

StartSshd = Callable[..., SshdNode]
Told = Callable[..., str]
SOON = ad.Limits(connect_deadline_s=4)


async def refusal(node: ad.Node, rule: ad.HostKeys | None = None, **options: object) -> ad.DeployError | None:
    """Why a node cannot be run on, as run_all gives it."""
    async with ad.Pool(host_keys=rule or ad.HostKeys.strict("/dev/null"), limits=SOON, **options) as pool:  # type: ignore[arg-type]
        report = await ad.run_all(node, "true", pool=pool)
    return report.outcomes[0].error


async def test_no_key_that_it_knows(start_sshd: StartSshd, key_path: str, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    error = await refusal(attrs.evolve(sshd.node, key_path=key_path), ad.HostKeys.strict(sshd.known_hosts))
    assert (
        told(error)
        == """\
gpu-a: login as 'root' at 127.0.0.1 port <port> was refused; tried <tmp>/stranger; it would take publickey
hint: is the public key in ~root/.ssh/authorized_keys there, and may root log in from here (PermitRootLogin)?"""
    )


async def test_a_key_that_needs_its_passphrase(start_sshd: StartSshd, make_key: Callable[..., str], told: Told) -> None:
    sshd = start_sshd("gpu-a")
    key = make_key("locked", "open sesame")
    error = await refusal(attrs.evolve(sshd.node, key_path=key), ad.HostKeys.strict(sshd.known_hosts))
    assert (
        told(error)
        == """\
gpu-a: <tmp>/locked: the key is encrypted, and no ssh-agent holds it
hint: give another key_path, or load the key with `ssh-add`"""
    )


async def test_a_host_key_that_nobody_knows_yet(start_sshd: StartSshd, tmp_path: Path, told: Told) -> None:
    error = await refusal(start_sshd("gpu-a").node, ad.HostKeys.strict(tmp_path / "known_hosts"))
    assert (
        told(error)
        == """\
gpu-a: the host key of [127.0.0.1]:<port> is not known: SHA256:<key>
hint: compare the fingerprint with the provider's, then `ssh-keyscan -p <port> 127.0.0.1 >> <tmp>/known_hosts`; or use HostKeys.accept_new(), on the command line --accept-new"""
    )


async def test_a_host_key_that_has_changed(start_sshd: StartSshd, tmp_path: Path, told: Told) -> None:
    sshd, other = start_sshd("gpu-a"), start_sshd("gpu-b")
    known = tmp_path / "known_hosts"
    known.write_text(
        other.known_hosts_lines.replace(str(other.node.port), str(sshd.node.port)).replace("gpu-b", "gpu-a")
    )
    assert (
        told(await refusal(sshd.node, ad.HostKeys.strict(known)))
        == """\
gpu-a: the host key has changed: it showed SHA256:<key>, <tmp>/known_hosts:1 has SHA256:<key> or SHA256:<key> or SHA256:<key>
hint: someone may be in between; if the machine was made anew or its address given to another, HostKeys.forget(node) takes the old key out; at a shell delete lines 1 and 2 and 3 of <tmp>/known_hosts; if [127.0.0.1]:<port> there is another machine, give this one a HostKeyAlias in ssh_config"""
    )


async def test_nobody_listens(told: Told) -> None:
    assert (
        told(await refusal(ad.Node("127.0.0.1", port=1, name="gpu-a")))
        == """\
gpu-a: 127.0.0.1 port 1 refuses connections
hint: is sshd running there, and is this its port?"""
    )


async def test_a_name_that_nobody_has(told: Told) -> None:
    assert (
        told(await refusal(ad.Node("no-such-host.invalid", user="root", name="gpu-a")))
        == """\
gpu-a: the name no-such-host.invalid is not known
hint: check the name, or give an address"""
    )


async def test_too_many_logins_at_once(start_sshd: StartSshd, told: Told) -> None:
    sshd = start_sshd("gpu-a", config={"MaxStartups": "1:100:1"})
    with socket.create_connection(("127.0.0.1", sshd.node.port or 22)) as first:
        first.recv(10)
        error = await refusal(sshd.node, ad.HostKeys.strict(sshd.known_hosts))
    assert (
        told(error)
        == """\
gpu-a: 127.0.0.1 port <port>: sshd there has as many logins under way as it allows (MaxStartups)
hint: wait a little, or connect to fewer at once"""
    )


async def test_another_service_is_at_that_port(told: Told) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            link, _ = server.accept()
            with link:
                link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        error = await refusal(ad.Node("127.0.0.1", user="root", port=server.getsockname()[1], name="gpu-a"))
        thread.join()
    assert (
        told(error)
        == """\
gpu-a: what listens at 127.0.0.1 port <port> does not speak SSH: it said 'HTTP/1.1 400 Bad Request'
hint: is an SSH server listening on this port?"""
    )


async def test_a_proxy_that_runs_no_commands(start_sshd: StartSshd, told: Told) -> None:
    words = "echo 'Error: Your SSH client does not support PTY'; exit 1"
    sshd = start_sshd("gpu-a", config={"ForceCommand": words})
    assert (
        told(await refusal(sshd.node, ad.HostKeys.strict(sshd.known_hosts)))
        == """\
gpu-a: its login shell ended without running our line
  | Error: Your SSH client does not support PTY
hint: that is a provider's proxy, which shows terminals and runs no commands (ssh.runpod.io): take the machine's own address and port (direct TCP)"""
    )


async def test_a_way_by_a_command(start_sshd: StartSshd, tmp_path: Path, told: Told) -> None:
    config = tmp_path / "ssh_config"
    config.write_text("Host gpu-a\n  User root\n  ProxyCommand corkscrew proxy 80 %h %p\n")
    connector = AsyncsshConnector(ad.HostKeys.strict("/dev/null"), config_path=config)
    try:
        async with ad.Pool(connector=connector) as pool:
            report = await ad.run_all("gpu-a", "true", pool=pool)
    finally:
        await connector.close()
    assert (
        told(report.outcomes[0].error)
        == """\
gpu-a: ssh_config has ProxyCommand for gpu-a (corkscrew proxy 80 %h %p), which is not supported
hint: use ProxyJump, or Node(jump=), which takes its place"""
    )


async def test_the_way_leads_over_a_host_that_is_off(start_sshd: StartSshd, told: Told) -> None:
    sshd = start_sshd("gpu-a")
    gate = ad.Node("127.0.0.1", user="root", port=1, name="gate")
    error = await refusal(attrs.evolve(sshd.node, jump=gate), ad.HostKeys.strict(sshd.known_hosts))
    assert (
        told(error)
        == """\
gpu-a: jump host gate: 127.0.0.1 port 1 refuses connections
hint: is sshd running there, and is this its port?"""
    )
