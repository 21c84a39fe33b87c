"""A detached job and its state: Job, JobStatus."""

from __future__ import annotations

import secrets
from typing import Literal

import attrs

from asyncdeploy.nodes.parse import Node
from asyncdeploy.values.errors import DeployError, JobFailed, JobLost
from asyncdeploy.values.not_found import STATUS, hint_of_missing
from asyncdeploy.values.regex import regex
from asyncdeploy.values.serialize import PlainData
from asyncdeploy.values.shown.one_line import OneLine
from asyncdeploy.values.shown.table import Described, Table
from asyncdeploy.values.words import describe_survivors

JobState = Literal["starting", "running", "exited", "signalled", "orphaned", "lost", "elsewhere"]

_NAME = regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_ID = regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}-[a-z2-7]{8}\Z")
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


def check_job_name(name: str) -> str:
    """Return ``name``; ValueError unless it can be a folder's and a tmux session's name."""
    if not _NAME.match(name):
        raise ValueError(
            f"job name {name!r}: at most 64 letters, digits and '_.-' were expected, the first a letter or digit"
        )
    return name


def check_job_id(job_id: str) -> str:
    """Return ``job_id``; ValueError unless it is "<name>-<8 base32>"."""
    if not _ID.match(job_id):
        raise ValueError(f"job id {job_id!r}: '<name>-<8 characters of a-z2-7>' was expected")
    return job_id


def new_job_id(name: str) -> str:
    """Return a new id for a job: made once, before the first attempt, and repeated by its retries."""
    return f"{check_job_name(name)}-{''.join(secrets.choice(_BASE32) for _ in range(8))}"


@attrs.frozen(repr=False)
class Job(OneLine, Described, PlainData):
    """A detached job on a node: a handle, good on any machine that can reach the node.

    Attributes:
        node: where it runs.
        id: "<name>-<8 base32>".
        name: the name it was started under.
        site: absolute path of the site it runs in, or "".
        command: its shell line, for people.
        created_at: seconds since 1970, our clock.
        survives_logout: False where the node's logind kills all that a user runs once the last session is over
            (KillUserProcesses in logind.conf): then it lives only as long as our connection.
        keeps_shared_memory: False where the node's logind takes away a user's shared memory after the last session
            (RemoveIPC in logind.conf): what the job holds in /dev/shm then goes under it.
        window: a tmux session on the node that shows its log: ``ssh -t HOST tmux attach -t =WINDOW``; "" without one.
    """

    node: Node
    id: str = attrs.field(validator=lambda _self, _field, value: check_job_id(value))
    name: str = ""
    site: str = ""
    command: str = ""
    created_at: float = 0.0
    window: str = ""
    survives_logout: bool = True
    keeps_shared_memory: bool = True

    def gist(self) -> str:
        """Return its id."""
        return self.id

    def table(self) -> Table:
        """Return what a person is shown: where it runs, what, and how to look at it."""
        below = [f"in {self.site}: {self.command}" if self.site else self.command]
        below += [f"window: tmux session {self.window}"] if self.window else []
        below += [] if self.survives_logout else ["it ends with our connection: the node's logind kills what is left"]
        return Table(f"job {self.id} on {self.node.name}", below=tuple(filter(None, below)))


@attrs.frozen(repr=False)
class JobStatus(OneLine, Described, PlainData):
    """What the job's folder on the node says.

    Attributes:
        job: the job.
        state: starting | running | exited | signalled | orphaned (its supervisor is gone, it lives) | lost (nobody
            recorded its end)
            | elsewhere (it belongs to another machine that shares the home folder).
        exit_status / signal: as recorded; None where they do not apply.
        started_at / ended_at: seconds since 1970, the node's clock; None if unknown.
        timed_out: it ran longer than its command's timeout_s and was ended for that: no success, whatever its status.
        stopped: it was asked to end before its program had ended by itself, by whomever.
        stopped_at: when, by the node's clock; None where nobody asked, or the node did not note it.
        told_at / because: when the other supervisors of its launch told it to end (the node's clock) and why; None and
            "" if they did not.
        booted_at: of one that is lost, when its node began (the node's clock); None where it did not say.
        met: of a launch's rank, whether its program was seen to connect to node rank 0 (there: to listen); None where
            nobody looked.
        signal_possible: the exit status, above 128, may stand for a signal: a node without python3 cannot tell.
        survivors: processes that could not be ended, "pid name"; "0 why" where something may live that the node
            cannot see.
        gpu_left: of a launch's rank, GPUs on which memory stayed in use that was free before, though nobody is seen
            there: "GPU 3: 61.0 GiB".
        last_lines: the log's end, where it was asked for.
        path: the PATH that it was started with, where its status is 127: the shell did not find something.
    """

    job: Job
    state: JobState
    exit_status: int | None = None
    signal: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    survivors: tuple[str, ...] = ()
    last_lines: str = ""
    timed_out: bool = False
    signal_possible: bool = False
    told_at: float | None = None
    because: str = ""
    stopped: bool = False
    stopped_at: float | None = None
    gpu_left: tuple[str, ...] = ()
    booted_at: float | None = None
    met: bool | None = None
    path: str = attrs.field(default="", repr=False)

    @property
    def ok(self) -> bool:
        """True only if exit status 0 was recorded, and not because its time was over."""
        return self.state == "exited" and self.exit_status == 0 and not self.timed_out

    @property
    def ended(self) -> bool:
        """True if it will not change any more as far as this node can tell."""
        return self.state in ("exited", "signalled", "lost")

    @property
    def how(self) -> str:
        """How it ended, in words: "exited 3"; what it is where nobody recorded that."""
        if self.state == "lost":
            return f"is lost: {self._loss}"
        if self.state not in ("exited", "signalled"):
            return f"is {self.state}"
        how = f"died of SIG{self.signal}" if self.signal else f"exited {self.exit_status}"
        return f"ran longer than its timeout_s and was ended: it {how}" if self.timed_out else how

    @property
    def missing(self) -> str:
        """What to do where the shell did not find a program (status 127); "" where that is not so."""
        if self.state != "exited" or self.exit_status != STATUS:
            return ""
        return hint_of_missing(self.last_lines, self.path, self.job.command)

    def gist(self) -> str:
        """Return how it ended, and the last line that it printed where that was asked for."""
        said = self.last_lines.rstrip().rpartition("\n")[2]
        return f"{self.how.removeprefix('is ')}: {said}" if said else self.how.removeprefix("is ")

    def table(self) -> Table:
        """Return what a person is shown: the job, how it ended, its last lines."""
        below = [*(f"  | {line}" for line in self.last_lines.splitlines())]
        below += [describe_survivors(self.survivors)] if self.survivors else []
        below += [f"memory still in use: {each}" for each in self.gpu_left]
        return Table(f"job {self.job.id} on {self.job.node.name} {self.how}", below=tuple(below))

    @property
    def _loss(self) -> str:
        if self.started_at is not None and self.booted_at is not None and self.booted_at > self.started_at:
            return f"its node was booted again {self.booted_at - self.started_at:.0f} s after the start"
        return "no exit status was recorded"

    def failure(self) -> DeployError | None:
        """Return None if it ended with status 0, else the error that says what it is."""
        if self.ok:
            return None
        node, job_id = self.job.node.name or self.job.node.host, self.job.id
        if self.state in ("exited", "signalled"):
            what = f"job {job_id} {self.how}"
            hint = self.missing or f"its whole log: ~/.asyncdeploy/jobs/{job_id}/log on {node}"
            return JobFailed(node, what, hint, self.last_lines, job_id, self.exit_status, self.signal)
        rest = "" if self.state == "lost" else ": no exit status was recorded"
        hint = f"what it printed until then: ~/.asyncdeploy/jobs/{job_id}/log on {node}"
        return JobLost(node, f"job {job_id} {self.how}{rest}", hint, self.last_lines, job_id)
