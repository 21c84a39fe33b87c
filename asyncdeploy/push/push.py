"""Local -> node: put a workspace on a node, whole, sending only what is not there yet."""

from __future__ import annotations

from pathlib import Path

from asyncdeploy.push.answer import Answer, read_answer
from asyncdeploy.push.bundle.bundle import Bundle, pack_workspace
from asyncdeploy.push.relay.crew import Crew
from asyncdeploy.push.sh.push import finish_by_sh, push_by_sh
from asyncdeploy.push.transfer import Transfer
from asyncdeploy.remote.interpreter import has_python
from asyncdeploy.remote.stage import stage
from asyncdeploy.remote.transport import Remote
from asyncdeploy.remote.worker import call_once, call_program
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.events import Noted
from asyncdeploy.values.workspace import Site, Workspace, check_remote_path

__all__ = ["Bundle", "finish_push", "pack_workspace", "push_code"]

LOCK_WAIT_S = 60.0
"""How long a push waits for another one: most are over in seconds."""
STAGE = "push"
AHEAD = 256
"""Names of a tree whose manifest goes with the first question, wanted or not: some KiB, for a round trip."""


@checked
async def push_code(
    remote: Remote, workspace: Workspace | Bundle | Crew | Path | str, *, wait_s: float = LOCK_WAIT_S
) -> Site:
    """Put a workspace on a node and return where it stands.

    An unchanged tree costs one request and one answer. Otherwise only contents that the node lacks travel; they are
    verified there before the new tree replaces the old one, under a journal. What we did not bring is never touched.

    Args:
        remote: the node.
        workspace: a Workspace or folder; or a Bundle, which is scanned once and serves many nodes; or a Crew of them.
        wait_s: seconds to wait while another deployer holds the site.

    Raises:
        WorkspaceConflict: it is another project's, not ours, or files were edited there (see Workspace.on_conflict).
        WorkspaceBusy: another deployer holds the site, or a job runs in it (see Workspace.under_jobs).
        NodeFull: no room; the old tree stands.
        TransferFailed: a file cannot be read here or written there.
        ConnectionLost: the connection broke; the node has the old tree or the new one.
        NoShell, ConnectError, AuthError, HostKeyError: nothing was changed.

    On cancellation contents that arrived stay staged for the next push; the old tree stands, or the new one if all was
    verified.
    """
    if isinstance(workspace, Crew):
        return await _push(remote, workspace, wait_s)
    if isinstance(workspace, Bundle):
        return await _push(remote, Crew(workspace), wait_s)
    async with pack_workspace(workspace) as bundle:
        return await _push(remote, Crew(bundle), wait_s)


async def finish_push(remote: Remote, path: str, *, wait_s: float = LOCK_WAIT_S) -> None:
    """Finish a swap that a dead push left begun in a site; asked once a connection, and not after a push over it.

    Only a receiver that is killed, or whose disk fails, leaves a swap begun: over the connection that brought a site
    whole there is nothing to ask until a push over it fails.

    Args:
        remote: the node.
        path: the site: absolute, or "~/...".
        wait_s: seconds to wait while a deployer holds the site.

    Raises:
        WorkspaceBusy, NodeFull, TransferFailed, ConnectionLost: as ``push_code``.
    """
    check_remote_path(path, "site path")
    whole = _whole_sites(remote)
    if path in whole:
        return
    if not await has_python(remote):
        answer = read_answer(remote.node.name, await finish_by_sh(remote, path, wait_s))
        whole.update((path, answer.path))
        return
    args = b"\0".join([b"finish", path.encode("utf-8", "surrogateescape"), *[b""] * 6, b"%g" % wait_s])
    answer = read_answer(remote.node.name, await call_once(remote, "push.receiver", args))
    whole.update((path, answer.path))


def _whole_sites(remote: Remote) -> set[str]:
    """Return the sites that we know to hold no begun swap, by path; forgotten with the connection."""
    whole = remote.memory.setdefault("whole sites", set())
    assert isinstance(whole, set)
    return whole


async def _push(remote: Remote, crew: Crew, wait_s: float) -> Site:
    node = remote.node.name
    try:
        push = _push_to_receiver if await has_python(remote) else _push_to_script
        bundle = await crew.scanned()
        with stage(remote, STAGE) as ours:
            for note in bundle.take_notes():
                remote.emit(Noted(node=node, text=note))
            answer, ours.detail = await push(remote, crew, bundle, wait_s)
            for text in answer.notes():
                remote.emit(Noted(node=node, text=text))
            _whole_sites(remote).add(answer.path)
            return Site(answer.path, bundle.digest, bundle.workspace.project)
    except BaseException:
        _whole_sites(remote).clear()  # a receiver whose disk failed, or that was killed alone, has left a swap begun
        raise
    finally:
        crew.gone(node)


async def _push_to_receiver(remote: Remote, crew: Crew, bundle: Bundle, wait_s: float) -> tuple[Answer, str]:
    transfer = Transfer(remote, crew, bundle)
    ahead = await bundle.packed_manifest() if len(bundle.manifest.entries) <= AHEAD else b""
    arguments = b"\0".join((push_arguments(bundle, "push", wait_s), ahead))
    async with call_program(remote, "push.receiver", arguments) as call:
        answer = read_answer(remote.node.name, await transfer.run(call))
    return answer, transfer.detail(answer)


async def _push_to_script(remote: Remote, crew: Crew, bundle: Bundle, wait_s: float) -> tuple[Answer, str]:
    crew.gone(remote.node.name)
    payload, sent = await push_by_sh(remote, bundle, wait_s)
    answer = read_answer(remote.node.name, payload)
    return answer, answer.summary(sent)


def push_arguments(bundle: Bundle, what: str, wait_s: float = LOCK_WAIT_S) -> bytes:
    """Return what the receiver is told of a push."""
    workspace = bundle.workspace
    fields = [what, workspace.site_path, bundle.digest, bundle.project, bundle.label, bundle.holder]
    fields += [workspace.on_conflict, workspace.under_jobs, f"{wait_s:g}", workspace.on_emptied, bundle.was]
    return "\0".join(fields).encode("utf-8", "surrogateescape")
