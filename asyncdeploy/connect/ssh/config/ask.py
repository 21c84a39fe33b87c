"""Asking `ssh -G` what ssh_config says about a host: real Match, Include and tokens, no parser of ours."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from asyncdeploy.connect.ssh.config.answer import Answer, SshConfig, read_answer, to_config
from asyncdeploy.connect.ssh.config.files import NO_MORE
from asyncdeploy.connect.ssh.config.homes import account_home
from asyncdeploy.connect.ssh.config.keywords import KEYWORDS
from asyncdeploy.tasks.programs import Ended, run_program
from asyncdeploy.values.errors import ConnectError
from asyncdeploy.values.regex import regex
from asyncdeploy.values.words import last_lines, one_line

ASK_S = 10.0
"""`Match exec` may run a program; one that takes longer would stop people's own ssh too."""
UNEXPANDED = ("identityfile", "certificatefile", "revokedhostkeys", "proxyjump")
"""Printed by `ssh -G` as they are written; what else we take is printed expanded."""

_TOKEN = regex(r"%.|%$|\$\{")
_BETWEEN = "\x1f"  # a control character, which is in nobody's file names


class NoSsh(Exception):
    """There is no ssh client here, or none that runs."""


@attrs.frozen
class Question:
    """Who is asked about.

    Attributes:
        host: the alias or host, as a Node has checked it.
        node: the node's name, for errors.
        user, port: what the node says itself, which ``Match user`` and tokens go by.
        file: another ssh_config than the user's.
    """

    host: str
    node: str
    user: str | None = None
    port: int | None = None
    file: Path | None = None

    def words(self, *options: str) -> list[str]:
        """Return the command that asks, with options that win over the files."""
        words = ["ssh", *(["-F", str(self.file)] if self.file else []), "-G"]
        words += [*(["-l", self.user] if self.user else []), *(["-p", str(self.port)] if self.port else [])]
        return [*words, *(word for option in options for word in ("-o", option)), "--", self.host]


async def ask_ssh(question: Question, written: Iterable[str] = KEYWORDS) -> SshConfig:
    """Ask the ssh client how it would reach a host.

    Args:
        question: who is asked about.
        written: the keywords that may stand in the files for it.

    Raises:
        NoSsh: there is no ssh client, or it does not read its configuration; the error has its words.
        ConnectError: it says what cannot be followed.
        OSError: this machine has no more of what a program needs.
    """
    words = question.words()
    answer = read_answer((await _run(words)).stdout.decode("utf-8", "replace"))
    answer = await _expand(question, answer)
    try:
        config = to_config(answer, written)
    except ValueError as error:
        hint = f"look at `{shlex.join(words)}`"
        raise ConnectError(question.node, f"ssh_config: {one_line(str(error))}", hint, reason="config") from None
    return attrs.evolve(config, by_name=_names_host(answer, question.host))


async def _run(words: Sequence[str]) -> Ended:
    try:
        done = await run_program(words, within_s=ASK_S)
    except TimeoutError:
        raise NoSsh(f"`ssh -G` did not answer within {ASK_S:.0f} s") from None
    except OSError as error:
        if error.errno in NO_MORE:
            raise
        raise NoSsh("" if isinstance(error, FileNotFoundError) else str(error)) from error
    if done.status:
        raise NoSsh(last_lines(done.stderr))
    return done


async def _expand(question: Question, answer: Answer) -> Answer:
    """Let ssh itself expand what it prints as it is written: as a ControlPath, which it expands before it prints it."""
    found = {key: values for key in UNEXPANDED if _TOKEN.search("".join(values := answer.get(key, ())))}
    agent = answer.get("identityagent", ("",))[0]
    if _TOKEN.search(agent) and not os.path.exists(agent):  # noqa: ASYNC240, PTH110 - an ssh before 8.4
        found["identityagent"] = (agent,)
    if not found:
        return answer
    every = [value for values in found.values() for value in values]
    try:
        expanded = iter(await _expand_all(question, every))
    except NoSsh:
        for key, values in found.items():
            for value in values:
                await _expand_one(question, key, value)
        raise
    return {**answer, **{key: tuple(next(expanded) for _ in values) for key, values in found.items()}}


async def _expand_all(question: Question, values: Sequence[str]) -> list[str]:
    # %d is not among ControlPath's tokens before 8.4.
    home = str(account_home()).replace("%", "%%")
    text = _BETWEEN.join(re.sub("%.", lambda token: home if token[0] == "%d" else token[0], value) for value in values)
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    said = (await _run(question.words(f'ControlPath="{_BETWEEN}{quoted}"'))).stdout.decode("utf-8", "replace")
    path = read_answer(said)["controlpath"][0]
    return path.split(_BETWEEN)[1:]


async def _expand_one(question: Question, key: str, value: str) -> None:
    try:
        await _expand_all(question, [value])
    except NoSsh as error:
        message = f"ssh_config's {KEYWORDS[key].name} {one_line(value)} cannot be expanded"
        hint = "tokens are %d %h %n %p %r %u ... (ssh_config(5), TOKENS), variables ${NAME}, a percent sign is %%"
        raise ConnectError(question.node, message, hint, str(error), reason="config") from None


def _names_host(answer: Answer, host: str) -> bool:
    """Return whether anything that we go by holds the host's name, but where it is."""
    for keyword, values in answer.items():
        is_taken = keyword in KEYWORDS and KEYWORDS[keyword].effect != "no effect"
        is_itself = keyword in ("host", "hostname") and values == (host,)
        if is_taken and not is_itself and any(host in value for value in values):
            return True
    return False
