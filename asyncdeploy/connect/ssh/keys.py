"""What we log in with: private keys, loaded once off the loop, and the ssh-agent, asked once for a short time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import anyio
import asyncssh
import attrs

from asyncdeploy.tasks.finish import finish
from asyncdeploy.tasks.threads import run_abandonable
from asyncdeploy.values.errors import AuthError

AGENT_S = 3.0
"""An agent answers in milliseconds; one behind a dead forwarding never does."""


@attrs.frozen(eq=False)
class Login:
    """The keys to offer, in order, what to call them in an error, and which could not be offered, and why."""

    pairs: tuple[asyncssh.SSHKeyPair, ...]
    names: tuple[str, ...]
    problems: tuple[str, ...] = ()


@attrs.frozen(eq=False)
class _File:
    """A key file: its pairs; or, if only an agent can use it, its public key (None where no .pub lies beside)."""

    needs_agent: bool = False
    public: bytes | None = None
    pairs: tuple[asyncssh.SSHKeyPair, ...] = ()
    problem: str = ""


class KeyRing:
    """Keys of one pool. ``close`` ends its talk with the agents."""

    def __init__(self) -> None:
        self._notes: list[str] = []
        self._files: dict[Path, _File] = {}
        self._agents: dict[str, tuple[asyncssh.SSHAgentClient, Sequence[asyncssh.SSHKeyPair]] | None] = {}
        self._logins: dict[tuple[object, ...], Login] = {}
        self._lock = anyio.Lock()

    async def login(
        self, node: str, paths: Sequence[Path], *, agent: str | None, only: bool, named: bool = False
    ) -> Login:
        """Return what to offer a node, which may be nothing: there are accounts that need no key.

        Args:
            node: its name, for errors.
            paths: private key files.
            agent: the agent's socket; None is $SSH_AUTH_SOCK, "none" is no agent.
            only: these files are meant and no other key; an agent may still hold theirs.
            named: the files are what the node itself names.

        Raises:
            AuthError: the node names a key that cannot be used.
        """
        where = os.environ.get("SSH_AUTH_SOCK", "") if agent is None else "" if agent == "none" else agent
        asked = (tuple(paths), where, only)
        async with self._lock:
            if asked not in self._logins:
                self._logins[asked] = await self._collect(paths, where, only=only)
            login = self._logins[asked]
        if named and not login.pairs:
            hint = "give another key_path, or load the key with `ssh-add`"
            raise AuthError(node, "; ".join(login.problems), hint)
        return login

    def take_notes(self) -> list[str]:
        """Return what a person should know of keys and agents, each note once."""
        notes, self._notes = self._notes, []
        return notes

    async def _collect(self, paths: Sequence[Path], agent: str, *, only: bool) -> Login:
        files = {path: await self._load(path) for path in paths}
        held: Sequence[asyncssh.SSHKeyPair] = ()
        if agent and (not only or any(file.needs_agent for file in files.values())):
            held = await self._ask(agent)
        offered: dict[bytes, tuple[asyncssh.SSHKeyPair, str]] = {}
        problems = []
        for path, file in files.items():
            usable = file.pairs or [pair for pair in held if file.public and pair.public_data == file.public]
            for pair in usable:
                offered.setdefault(pair.public_data, (pair, str(path)))
            if not usable:
                problems.append(f"{path}: {file.problem}")
        if not only:
            for pair in held:
                offered.setdefault(pair.public_data, (pair, f"agent: {pair.get_comment() or pair.algorithm.decode()}"))
        return Login(
            tuple(pair for pair, _ in offered.values()),
            tuple(name for _, name in offered.values()),
            tuple(problems),
        )

    async def _load(self, path: Path) -> _File:
        if path not in self._files:
            self._files[path] = await run_abandonable(_read_key, path)
        return self._files[path]

    async def _ask(self, path: str) -> Sequence[asyncssh.SSHKeyPair]:
        if path not in self._agents:
            client = asyncssh.SSHAgentClient(path)
            try:
                with anyio.fail_after(AGENT_S):
                    self._agents[path] = client, await client.get_keys()
            except (OSError, ValueError) as error:
                client.close()
                self._agents[path] = None
                why = f"no answer within {AGENT_S:.0f} s" if isinstance(error, TimeoutError) else str(error)
                self._notes.append(f"ssh-agent at {path} left out: {why}")
            except BaseException:
                client.close()
                raise
        found = self._agents[path]
        return found[1] if found else ()

    async def close(self) -> None:
        """End the talk with the agents; bounded."""
        for found in self._agents.values():
            if found:
                found[0].close()
                await finish(found[0].wait_closed(), 1)
        self._agents.clear()


def _read_key(path: Path) -> _File:
    """Load a key file with the certificate beside it; blocking."""
    try:
        return _File(pairs=tuple(asyncssh.load_keypairs([str(path)])))
    except OSError as error:
        return _File(problem=error.strerror or str(error))
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
        public = _read_public(f"{path}.pub") or _read_public(str(path))  # the file itself may be the public half
        if "passphrase" in str(error).lower():
            return _File(True, public, problem="the key is encrypted, and no ssh-agent holds it")
        if public is not None:
            return _File(True, public, problem="a public key, and no ssh-agent holds its private one")
        return _File(problem=f"no usable private key ({error})")


def _read_public(path: str) -> bytes | None:
    try:
        return asyncssh.read_public_key(path).public_data
    except (OSError, asyncssh.KeyImportError):
        return None
