"""One ssh_config, and two who follow it: OpenSSH's own client, who is the judge, and ours."""

import asyncio
import subprocess
from pathlib import Path

import attrs

from asyncdeploy.connect.pool import Pool
from asyncdeploy.connect.ssh.connector import AsyncsshConnector
from asyncdeploy.connect.ssh.host_keys import HostKeys
from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import DeployError
from asyncdeploy.values.events import Noted
from tests.support import tools
from tests.support.beds.sshd_node import SshdNode

STRICTNESS = {"strict": "yes", "accept_new": "accept-new", "pinned": "yes"}


def where(sshd: SshdNode) -> str:
    """A node's address as known_hosts has it."""
    return f"[{sshd.node.host}]:{sshd.node.port}"


@attrs.define
class BesideSsh:
    """A folder with an ssh_config that both clients read; nothing of the user's own is read by either.

    notes: what ours had to tell a person.
    """

    folder: Path
    notes: list[str] = attrs.field(factory=list)

    @property
    def config(self) -> Path:
        """The ssh_config."""
        return self.folder / "ssh_config"

    @property
    def known(self) -> Path:
        """The known_hosts file that `write` names."""
        return self.folder / "known_hosts"

    def write(self, sshd: SshdNode, lines: str = "", *, alias: str = "box", key: bool = True) -> None:
        """Write an ssh_config in which an alias is this node; `lines` come first, and win. key: the bed's is used."""
        node = sshd.node
        own = f"HostName {node.host}\n Port {node.port}\n User {node.user}\n"
        own += f" UserKnownHostsFile {self.known}\n GlobalKnownHostsFile none\n"
        own += f" IdentityFile {node.key_path}\n IdentitiesOnly yes\n" if key else ""
        said = "\n ".join(line.strip() for line in lines.splitlines())
        self.config.write_text(f"Host {alias}\n {said}\n {own}")

    def ssh(self, host: str = "box", line: str = "echo in", *options: str) -> "subprocess.CompletedProcess[str]":
        """What OpenSSH's client does; options are words of ssh_config that win over the file's."""
        tools.need("ssh")
        words = [word for option in (*options, "BatchMode=yes", "ConnectTimeout=10") for word in ("-o", option)]
        command = ["ssh", "-F", str(self.config), *words, host, line]
        return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def answer(self, host: str = "box", *options: str) -> dict[str, str]:
        """What `ssh -G` prints, by keyword; of several lines the first."""
        words = [word for option in options for word in ("-o", option)]
        command = ["ssh", "-F", str(self.config), "-G", *words, host]
        printed = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL).stdout
        return dict(reversed([line.partition(" ")[::2] for line in printed.splitlines()]))

    async def ssh_gets_in(self, rule: HostKeys, host: str = "box") -> bool:
        """Whether OpenSSH's client gets in where it is as strict as this rule; what it recorded is taken back."""
        before = {path: path.read_bytes() for path in self.folder.iterdir() if path.is_file()}
        strictness = f"StrictHostKeyChecking={STRICTNESS[rule.mode]}"
        result = await asyncio.to_thread(self.ssh, host, "echo in", strictness)
        for path, content in before.items():
            path.write_bytes(content)
        return result.stdout == "in\n"

    async def run(self, rule: HostKeys, node: Node | None = None, line: str = "echo in", *, times: int = 1) -> str:
        """What a line prints over ours; times: over so many connections, one after another."""
        connector = AsyncsshConnector(
            rule, config_path=self.config, connect_timeout_s=10, note=lambda _node, text: self.notes.append(text)
        )
        try:
            for _ in range(times):
                async with Pool(connector=connector, observer=self._observe) as pool:
                    channel = await pool.at(node or Node("box")).open(line)
                    out = b""
                    while data := await channel.read():
                        out += data
                    await channel.close()
            return out.decode()
        finally:
            await connector.close()

    async def refusal(self, rule: HostKeys, node: Node | None = None) -> DeployError | None:
        """Why ours does not get in; None if it does."""
        try:
            assert await self.run(rule, node) == "in\n"
        except DeployError as error:
            return error
        return None

    def _observe(self, event: object) -> None:
        if isinstance(event, Noted):
            self.notes.append(event.text)
