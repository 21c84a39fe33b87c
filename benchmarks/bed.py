"""N real sshd servers on loopback, and what plain OpenSSH needs to reach them."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs

from tests.support.beds.sshd import SshdBed

# OpenSSH's own default (sntrup761) costs its client 65 ms of CPU a connection and asyncssh does not use it: everyone
# here takes curve25519, or the key exchange would be all that is compared.
SSH_CONFIG = """\
Host *
  User root
  IdentityFile {key}
  IdentitiesOnly yes
  UserKnownHostsFile {known_hosts}
  GlobalKnownHostsFile none
  HostKeyAlgorithms ssh-ed25519
  KexAlgorithms curve25519-sha256
  StrictHostKeyChecking yes
  BatchMode yes
  LogLevel ERROR
"""


@attrs.frozen
class Bed:
    """A bed that is up.

    Attributes:
        names: the hosts' names, as ssh_config knows them.
        homes: name -> home folder (the same path on the node).
        folder: scratch for this run.
        ssh_config: for ``ssh -F``.
        nodes_file: the nodes as JSON, for the asyncdeploy driver.
    """

    names: tuple[str, ...]
    homes: dict[str, Path]
    folder: Path
    ssh_config: Path
    known_hosts: Path
    nodes_file: Path

    @property
    def ssh(self) -> str:
        """The ssh command of every peer."""
        return f"ssh -F {self.ssh_config}"

    def each(self, name: str, text: str, first: str = "") -> list[str]:
        """Return an argv that runs a shell text once a host, all hosts at once, with the host's name as $1.

        Args:
            name: of the script's file.
            text: what is done for each host.
            first: what is done once before.
        """
        script = self.folder / f"{name}.sh"
        script.write_text(text)
        return ["sh", "-c", f"{first}\nxargs -a {self.folder}/hosts -P {len(self.names)} -I{{}} sh {script} {{}}"]


@contextlib.contextmanager
def bed_of(count: int) -> Iterator[Bed]:
    """Bring up ``count`` hosts and end them afterwards."""
    bed = SshdBed()
    try:
        hosts = [bed.start(f"h{number}") for number in range(1, count + 1)]
        folder = bed.folder / "bench"
        folder.mkdir()
        config = "".join(
            f"Host {host.node.name}\n  HostName {host.node.host}\n  Port {host.node.port}\n" for host in hosts
        )
        ssh_config = folder / "ssh_config"
        ssh_config.write_text(config + SSH_CONFIG.format(key=bed.key_path, known_hosts=bed.known_hosts))
        nodes_file = folder / "nodes.json"
        nodes_file.write_text(json.dumps([host.node.to_dict() for host in hosts]))
        (folder / "hosts").write_text("".join(f"{host.node.name}\n" for host in hosts))
        homes = {host.node.name: host.home for host in hosts}
        yield Bed(tuple(homes), homes, folder, ssh_config, bed.known_hosts, nodes_file)
    finally:
        bed.close()
        shutil.rmtree(bed.folder, ignore_errors=True)
