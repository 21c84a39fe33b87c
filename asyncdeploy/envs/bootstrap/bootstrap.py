"""Make a site's environment on a node: one coroutine for every Env, so that all share events, limits, locks, skipping.

An environment is named by what it was made from. Its name stands in ``<site>/.asyncdeploy/env`` once all steps are
done; as long as it does and the environment still works, there is nothing to do: one request and one answer.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shlex

import anyio
import attrs

from asyncdeploy.envs.base import Asset, Env, EnvWithSecrets, Step
from asyncdeploy.envs.bootstrap.assets import send_asset
from asyncdeploy.envs.bootstrap.listener import StepListener
from asyncdeploy.envs.built import Built
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.remote.probe import probe_node
from asyncdeploy.remote.stage import stage
from asyncdeploy.remote.transport import Remote
from asyncdeploy.run.attached import run_command
from asyncdeploy.tasks.threads import run_in_thread
from asyncdeploy.values.arguments import checked
from asyncdeploy.values.command import Command, Completed, Secrets, secret_values
from asyncdeploy.values.errors import (
    BootstrapFailed,
    ConnectionLost,
    DeployError,
    ToolMissing,
    TransferFailed,
    WorkspaceBusy,
)
from asyncdeploy.values.texts import python_word, sh_line
from asyncdeploy.values.words import last_lines
from asyncdeploy.values.workspace import Site

LOOK_S = 60.0
"""Hashing a few project files and starting an interpreter takes 20 ms, on a cold network home seconds."""
LOCK_WAIT_S = 1800
"""How long we wait for another deployer that makes an environment in the same site."""
FORMAT = 2
"""Goes into an environment's name: raised when an older marker must not be believed any more."""
TREE = "ASYNCDEPLOY_TREE"
"""The variable in which steps and checks find the digest of what was pushed."""
ONLY_LOOK = "ASYNCDEPLOY_ONLY_LOOK"
"""The variable that tells a check that this is a plan: it changes nothing, not even what only makes it quicker."""

_PYTHON = '"$(command -v python || command -v python3)"'


@attrs.frozen
class _Plan:
    """What an environment needs on this node, and the name of it."""

    site: Site
    assets: tuple[Asset, ...]
    steps: tuple[Step, ...]
    check: str
    inspect: Command
    key: str
    secrets: Secrets


@checked
async def bootstrap_env(remote: Remote, site: Site, env: Env) -> Built | None:
    """Make a site's environment, unless it stands already and works.

    Args:
        remote: the node.
        site: where the project stands.
        env: the environment.

    Returns:
        What it turned out to be; None where there is nothing to make, or no Python inside to say it.

    Raises:
        BootstrapFailed: a step failed or ran too long; what stood before was not named as new.
        ToolMissing: the env needs a tool that is neither on the node nor here.
        WorkspaceBusy: another deployer has been making an environment there for half an hour.
        NodeFull, TransferFailed: a file it needs could not be put on the node.
        ConnectionLost: the connection broke; the step under way is ended by its leash, and nothing is named as made.
        NoShell, ConnectError, AuthError, HostKeyError: nothing was begun.

    On cancellation the step under way is ended on the node, no marker is written, and the old environment still works
    as far as the step left it alone.
    """
    facts, plan = await _planned(remote, site, env)
    if not plan.steps and not plan.assets:
        return None
    with stage(remote, "env", env.name) as ours:
        stands, built = await _stands(remote, plan)
        if stands:
            ours.detail = "= unchanged"
            return built
        for asset in plan.assets:
            await send_asset(remote, asset)
        ours.detail, built = await _make(remote, plan, facts)
        return built


@attrs.frozen
class EnvPreview:
    """What making an environment would do on a node.

    Attributes:
        stands: whether it stands there and works; None where there is nothing to make.
        steps: the names of the steps that make it.
        assets: what would be put on the node first, by name.
        built: what it is, if it said so.
    """

    stands: bool | None
    steps: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()
    built: Built | None = None


async def preview_env(remote: Remote, site: Site, env: Env) -> EnvPreview:
    """Return what ``bootstrap_env`` would do; nothing is changed on the node.

    What the environment needs of this machine is made ready here all the same: it is part of what names it.

    Args:
        remote: the node.
        site: where the project stands, or would.
        env: the environment.

    Raises:
        ToolMissing: the env needs a tool that is neither on the node nor here.
        TransferFailed: a file it needs cannot be read or had here.
        ConnectionLost, NoShell, ConnectError, AuthError, HostKeyError: it could not be looked at.

    On cancellation there is nothing to undo.
    """
    _, plan = await _planned(remote, site, env)
    if not plan.steps and not plan.assets:
        return EnvPreview(None)
    stands, built = await _stands(remote, plan, only_look=True)
    names = tuple(step.name for step in plan.steps), tuple(asset.name for asset in plan.assets)
    return EnvPreview(stands, *names, built)


async def _planned(remote: Remote, site: Site, env: Env) -> tuple[NodeFacts, _Plan]:
    facts = await probe_node(remote)
    try:
        # Off the loop: an env may have to hash a file of 40 MB for the first time.
        return facts, await run_in_thread(_plan, site, env, facts)
    except ToolMissing as error:
        raise ToolMissing(remote.node.name, error.message, error.hint, error.evidence, error.tool) from None
    except TransferFailed as error:
        raise TransferFailed(remote.node.name, error.message, error.hint, error.evidence, error.path) from None


def _plan(site: Site, env: Env, facts: NodeFacts) -> _Plan:
    assets, steps, check = env.assets(site, facts), env.steps(site, facts), env.check(site, facts)
    made_from = {
        "format": FORMAT,
        "env": env.to_dict(),
        "steps": [[step.name, step.line, step.unless] for step in steps],
        "assets": [[asset.target, asset.sha256] for asset in assets],
        "site": [site.path, site.workdir],  # a venv holds absolute paths
        "node": [facts.system, facts.arch, facts.libc, facts.python_version],
    }
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()
    inspection = f"{_PYTHON} -c {shlex.quote(python_word('node_side/envs/inspect_env.py'))}"
    inside = env.enter(Command(inspection), site, facts) if steps else Command(":")
    secrets = env.step_secrets() if isinstance(env, EnvWithSecrets) else ()
    return _Plan(site, assets, steps, check or "", inside, key, secrets)


def _command(plan: _Plan, mode: str, mark: str) -> Command:
    site, workdir = plan.site.path.rstrip("/"), plan.site.workdir.rstrip("/")
    words = [mode, mark, site, workdir, plan.key, plan.check, plan.inspect.line, str(LOCK_WAIT_S)]
    if mode == "make":
        words += [word for step in plan.steps for word in (step.line, step.unless or "")]
    # What a command must be ended by name for (a container), a step must be too.
    line = "exec " + sh_line("node_side/envs/env.sh", *words)
    # How Python is asked what it is may stand in a variable of ours; the others are for those who run inside.
    told = {name: value for name, value in plan.inspect.env if name.startswith("ASYNCDEPLOY_")}
    told[TREE] = plan.site.digest
    secrets = plan.secrets if mode == "make" else ()
    return Command(line, env=told, on_end=plan.inspect.on_end, secrets=secrets)


def _new_mark() -> str:
    return f"asyncdeploy-{secrets.token_hex(8)}"


async def _stands(remote: Remote, plan: _Plan, *, only_look: bool = False) -> tuple[bool, Built | None]:
    """Return whether the environment is there and works, and what it is: one request, one answer."""
    mark = _new_mark()
    listener = StepListener(remote, mark, ())
    look = attrs.evolve(_command(plan, "look", mark), timeout_s=LOOK_S)
    completed = await run_command(listener, look.with_env({ONLY_LOOK: "1"}) if only_look else look)
    if listener.verdict not in ("same", "differs"):
        raise _unheard(remote, listener, completed, "look")
    return listener.verdict == "same", listener.built


async def _make(remote: Remote, plan: _Plan, facts: NodeFacts) -> tuple[str, Built | None]:
    """Run the steps under the site's lock, and return what to say of it and what it is."""
    node, mark, completed = remote.node.name, _new_mark(), None
    with anyio.CancelScope(deadline=anyio.current_time() + LOCK_WAIT_S + LOOK_S) as limit:
        listener = StepListener(remote, mark, plan.steps, limit, secret_values(plan.secrets).values())
        try:
            completed = await run_command(listener, _command(plan, "make", mark))
        finally:
            listener.end_step()
    if listener.verdict == "made":
        return f"{len(plan.steps)} steps" if len(plan.steps) > 1 else "", listener.built
    if listener.verdict == "same":
        return "= made by another deployer", listener.built
    if listener.verdict == "busy":
        path = plan.site.path
        what = f"another deployer has been making an environment in {path} for {LOCK_WAIT_S // 60} minutes"
        raise WorkspaceBusy(node, what, "look for it there with `ps`", path=path)
    if listener.verdict == "moved":
        hint = "two deployers with different code share this site: give each its own remote_path"
        raise listener.failure("ended well, but the project's files were changed meanwhile", facts, hint)
    if completed is None:
        raise listener.failure("ran longer than its limit and was ended", facts)
    if listener.verdict == "failed":
        raise listener.failure(f"exited {listener.status}" if listener.status else "left the shell", facts)
    raise _unheard(remote, listener, completed, "make")


def _unheard(remote: Remote, listener: StepListener, completed: Completed, step: str) -> DeployError:
    """Return the error for a script that ended without its last word."""
    node, evidence = remote.node.name, listener.evidence() or listener.without_secrets(last_lines(completed.stderr))
    if completed.status is None and completed.signal is None:
        return ConnectionLost(node, "nobody knows how the environment's step ended", evidence=evidence)
    how = f"died of SIG{completed.signal}" if completed.signal else f"exited {completed.status}"
    what = f"env: our script for it {how}"
    return BootstrapFailed(node, what, listener.hint(), evidence, listener.step_name or step, completed.status)
