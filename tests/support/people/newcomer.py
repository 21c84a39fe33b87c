"""Somebody who met asyncdeploy this morning: a shell, a folder, nodes by aliases in ~/.ssh/config."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs

from tests.support.beds.sshd_node import SshdNode
from tests.support.people.command_line import CommandLine, Said, command_line

PATIENCE_S = 90


@attrs.frozen
class Newcomer:
    """A person. What is written and read is counted: blank lines do not count, comments do."""

    ad: CommandLine
    path: str

    def types(self, lines: str, *, reads: int, writes: int = 1) -> Said:
        """Type lines into a shell that stops at the first one that fails.

        reads: how many lines they have to read at most, of both streams. writes: how many they have to type.
        """
        return self._does(["sh", "-e", "-c", lines], lines, reads, writes)

    def runs(self, script: str, *, reads: int, writes: int) -> Said:
        """Write a script, and run it."""
        (self.ad.folder / "mine.py").write_text(script)
        return self._does([sys.executable, "-W", "error", "mine.py"], script, reads, writes)

    def begins(self, line: str) -> "subprocess.Popen[str]":
        """Type a line that is left to run; whoever asked ends it."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            ["sh", "-c", f"exec {line}"],
            cwd=self.ad.folder,
            env=self.environ(),
            stdout=pipe,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: signal.signal(
                signal.SIGINT, signal.SIG_DFL
            ),  # a shell's "&" before us may have ignored it
        )

    def environ(self) -> dict[str, str]:
        """The variables of their session."""
        return self.ad.environ(PATH=self.path)

    def _does(self, words: list[str], text: str, reads: int, writes: int) -> Said:
        wrote = _lines(text)
        assert len(wrote) <= writes, "more than a newcomer has to write"
        done = subprocess.run(
            words,
            cwd=self.ad.folder,
            env=self.environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        shown = f"{text}\nexit status {done.returncode}\n{done.stdout}{done.stderr}"
        assert len(_lines(done.stdout) + _lines(done.stderr)) <= reads, f"more than a newcomer reads:\n{shown}"
        return Said(done.returncode, done.stdout, done.stderr)


def newcomer(folder: Path, config: str, known: Sequence[SshdNode]) -> Newcomer:
    """A person whose ~/.ssh/config says this, and who has met these nodes.

    ssh reads the config of the home that /etc/passwd names, which is not theirs: so theirs is the system-wide one of an
    ssh of their own.
    """
    ad = command_line(folder / "home", folder / "project", known)
    (folder / "bin").mkdir()
    (folder / "etc" / "ssh").mkdir(parents=True)
    place = folder / "etc" / "ssh" / "ssh_config"
    place.write_text(config)
    _program(folder / "bin" / "ssh", f'exec {shutil.which("ssh")} -F {place} "$@"')
    _program(folder / "bin" / "asyncdeploy", f'exec {sys.executable} -W error -m asyncdeploy "$@"')
    return Newcomer(ad, f"{folder / 'bin'}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin")


def aliases(nodes: Sequence[SshdNode], first: int = 1, more: str = "") -> str:
    """An ssh_config in which the nodes are called gpu1, gpu2 and so on."""
    return "".join(
        f"Host gpu{number}\n  HostName {each.node.host}\n  Port {each.node.port}\n  User root\n{more}"
        for number, each in enumerate(nodes, first)
    )


def _program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]
