"""OpenSSH's own client: a second opinion on what a node is and does."""

import subprocess

from tests.support import tools
from tests.support.beds.sshd_node import SshdNode


def ssh_words(sshd: SshdNode, line: str, **extra: object) -> list[str]:
    """The words that run `line` on a node, with nothing of the user's configuration; extra: ssh_config keywords."""
    tools.need("ssh")
    node = sshd.node
    options = [f"UserKnownHostsFile={sshd.known_hosts}", "StrictHostKeyChecking=yes", "BatchMode=yes", "LogLevel=ERROR"]
    options += [f"Port={node.port or 22}", *(f"{key}={value}" for key, value in extra.items())]
    words = [word for option in options for word in ("-o", option)]
    return ["ssh", "-F", "none", *words, "-i", str(node.key_path), f"{node.user}@{node.host}", line]


def run_ssh(sshd: SshdNode, line: str, **extra: object) -> "subprocess.CompletedProcess[str]":
    """Run `line` on a node to its end."""
    words = ssh_words(sshd, line, **extra)
    return subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def ssh(sshd: SshdNode, line: str) -> str:
    """What `line` prints on a node, where it must succeed."""
    result = run_ssh(sshd, line)
    assert result.returncode == 0, result.stderr + sshd.log()
    return result.stdout.strip()
