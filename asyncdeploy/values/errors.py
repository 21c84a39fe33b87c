"""What can go wrong, as types: each names its node, carries its evidence and says what to do next.

Every error holds text and numbers only, so it pickles and goes into JSON. ``outcome`` says which state a node has in
a Report when this error ended its work: ``unknown`` wherever we cannot prove what happened, never ``ok``. An error
without fields of its own is a plain subclass: it inherits all that attrs would make anew, at everybody's import.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import attrs

from asyncdeploy.values.shown.failure import failure_text
from asyncdeploy.values.shown.uncaught import ForPeople
from asyncdeploy.values.words import clean

State = Literal["ok", "failed", "unknown", "skipped", "cancelled"]


@attrs.define(slots=False, eq=False, str=False, repr=False)
class DeployError(ForPeople, Exception):
    """Something went wrong on a node, or on the way to it; hint and evidence are its notes (``__notes__``).

    Attributes:
        node: the node's name ("" where no single node is meant).
        message: what happened, one line.
        hint: what to do next, or "".
        evidence: the last lines of output, or other proof, or "".
    """

    outcome: ClassVar[State] = "failed"

    node: str
    message: str = attrs.field(converter=clean)
    hint: str = attrs.field(default="", converter=clean)
    evidence: str = attrs.field(default="", converter=clean)

    def __attrs_post_init__(self) -> None:
        self.add_notes(self.evidence, self.hint)

    def __str__(self) -> str:
        return f"{self.node}: {self.message}" if self.node else self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.node!r}, {self.message!r})"

    def to_dict(self) -> dict[str, Any]:
        """Return the error as plain data: its type's name, its outcome and its fields."""
        fields = [field.name for field in attrs.fields(type(self)) if field.name not in ("completed", "collected")]
        values = {name: getattr(self, name) for name in fields}
        return {"type": type(self).__name__, "outcome": self.outcome, **values}


@attrs.define(slots=False, eq=False, str=False, repr=False)
class ConnectError(DeployError):
    """No SSH connection could be made.

    Attributes:
        reason: refused, timeout, throttled, dns, unreachable, protocol, jump, config, local (lacking here).
        attempts: how many times it was tried.
        passing: whatever the reason, it may be otherwise a moment later.
    """

    reason: str = "refused"
    attempts: int = 1
    passing: bool = False


@attrs.define(slots=False, eq=False, str=False, repr=False)
class AuthError(DeployError):
    """The node refused every key we have for that user; not ``asked``: the key that the node names cannot be used."""

    asked: bool = True


@attrs.define(slots=False, eq=False, str=False, repr=False)
class HostKeyError(DeployError):
    """The node's host key is not the one we trust; nothing secret was sent.

    Attributes:
        reason: "unknown", "changed" or "revoked".
        offered: fingerprint of the key that the node showed, "SHA256:...".
        expected: fingerprints of the keys we trust for it.
        source: where those stand, "path:line".
    """

    reason: str = "unknown"
    offered: str = ""
    expected: tuple[str, ...] = ()
    source: str = ""


class NoShell(DeployError):
    """The node let us in, but no usable shell answered; ``evidence`` is what came instead."""


class ProtocolError(DeployError):
    """The node's side of our conversation said something it must not say; the node is not trusted further."""


@attrs.define(slots=False, eq=False, str=False, repr=False)
class ProgramFailed(DeployError):
    """One of our programs on the node raised what it did not foresee; ``evidence`` is the end of its traceback."""

    program: str = ""


class ConnectionLost(DeployError):
    """The connection broke while something ran: what became of it is unknown."""

    outcome: ClassVar[State] = "unknown"


class DeadlineExceeded(DeployError):
    """A node took longer than ``at_most_s``: what it was doing was cancelled, what became of it is unknown."""

    outcome: ClassVar[State] = "unknown"


@attrs.define(slots=False, eq=False, str=False, repr=False)
class CommandFailed(DeployError):
    """A command ended with a non-zero exit status or by a signal.

    Attributes:
        completed: the Completed, with what it printed; None where it was never started.
    """

    command: str = ""
    status: int | None = None
    signal: str | None = None
    completed: Any = None


@attrs.define(slots=False, eq=False, str=False, repr=False)
class CommandTimeout(DeployError):
    """A command was not done within its timeout and was ended.

    Attributes:
        timeout_s: the limit, in seconds.
        ended: True if the node confirmed that nothing of it runs any more, or it was never started.
        completed: the Completed, with what it printed until then.
    """

    command: str = ""
    timeout_s: float = 0.0
    ended: bool = False
    completed: Any = None


@attrs.define(slots=False, eq=False, str=False, repr=False)
class BootstrapFailed(DeployError):
    """A step that makes the environment failed; the old environment, if any, still stands."""

    step: str = ""
    status: int | None = None


@attrs.define(slots=False, eq=False, str=False, repr=False)
class TransferFailed(DeployError):
    """A file could not be sent, received or put in place; nothing half-done has a final name."""

    path: str = ""


@attrs.define(slots=False, eq=False, str=False, repr=False)
class NodeFull(DeployError):
    """The node has no room; the old tree stands.

    Attributes:
        path: the file system that is full.
        free_bytes / needed_bytes: figures where they are known, else 0.
    """

    path: str = ""
    free_bytes: int = 0
    needed_bytes: int = 0


@attrs.define(slots=False, eq=False, str=False, repr=False)
class WorkspaceBusy(DeployError):
    """Another deployer holds the site, or a job runs in it."""

    path: str = ""


@attrs.define(slots=False, eq=False, str=False, repr=False)
class WorkspaceConflict(DeployError):
    """The site on the node is not ours to overwrite: another project's, or a folder that we did not make."""

    path: str = ""


@attrs.define(slots=False, eq=False, str=False, repr=False)
class ToolMissing(DeployError):
    """The node (or, with node "", this machine) lacks a tool that is needed."""

    tool: str = ""


@attrs.define(slots=False, eq=False, str=False, repr=False)
class JobExists(DeployError):
    """A job of that name already runs on that site.

    Attributes:
        job_id: the id of the running one.
    """

    job_id: str = ""


@attrs.define(slots=False, eq=False, str=False, repr=False)
class JobFailed(DeployError):
    """A detached job ended with a non-zero status, by a signal, or could not be started."""

    job_id: str = ""
    status: int | None = None
    signal: str | None = None


@attrs.define(slots=False, eq=False, str=False, repr=False)
class JobLost(DeployError):
    """Nobody recorded how the job ended (the node was rebooted, its folder is gone): unknown, never success."""

    outcome: ClassVar[State] = "unknown"

    job_id: str = ""


class PreflightFailed(DeployError):
    """The nodes cannot run this job together; found before any rank was started."""


@attrs.define(slots=False, eq=False, str=False, repr=False)
class LaunchFailed(DeployError):
    """A launch failed; ``str`` is all of it: the root cause first, then what it did to the others.

    Attributes:
        launch_id: the launch.
        node_rank: the node rank of the root cause.
        status / signal: how that node's command ended.
        consequences: one line a node that was stopped because of it.
        rank / local_rank: of the process that failed, None where no single one is known.
        world_size: how many processes there were.
        cause: the exception that ended it, "type: message", or "".
        frames: where it was raised, in the program's own code, the innermost last.
        log: the path of its log on the node, or "".
    """

    launch_id: str = ""
    node_rank: int | None = None
    status: int | None = None
    signal: str | None = None
    consequences: tuple[str, ...] = ()
    rank: int | None = None
    local_rank: int | None = None
    world_size: int = 0
    cause: str = ""
    frames: tuple[str, ...] = ()
    log: str = ""

    def __attrs_post_init__(self) -> None:
        self.add_notes()  # all of it stands in its text

    def __str__(self) -> str:
        return failure_text(self)


class WorkFailed(DeployError):
    """The caller's own coroutine raised something that is no DeployError; it is the ``__cause__``."""

    cause_is_theirs = True


class Skipped(DeployError):
    """Not tried, because of something that happened elsewhere."""

    outcome: ClassVar[State] = "skipped"


class Cancelled(DeployError):
    """Stopped by us before it was done."""

    outcome: ClassVar[State] = "cancelled"


class Abandoned(ConnectionLost, Cancelled):
    """We closed the connection ourselves over which something ran: its leash ends it, but nobody saw its end."""

    outcome: ClassVar[State] = "unknown"
