"""An environment made by uv from a project's pyproject.toml or requirements.txt."""

from __future__ import annotations

import functools
import hashlib
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Self

import attrs

from asyncdeploy.envs.base import Asset, PlainEnv, Step
from asyncdeploy.envs.registry import register_env
from asyncdeploy.envs.uv_project import check_names, misfit, required_version
from asyncdeploy.envs.uv_wheel import uv_asset
from asyncdeploy.envs.wanted import Wanted, node_python
from asyncdeploy.envs.wheelhouse import wheel_assets
from asyncdeploy.node_side.envs.made_from import find
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.command import Command, Secrets, check_env, to_secrets
from asyncdeploy.values.errors import TransferFailed
from asyncdeploy.values.regex import regex
from asyncdeploy.values.serialize import not_plain
from asyncdeploy.values.texts import packaged_text, python_word, sh_line
from asyncdeploy.values.workspace import Site, check_remote_path

SYNC_S = 3600.0
"""torch and its CUDA wheels are 3 GB: minutes over a good connection, most of an hour over a poor one."""
PRE_S = 1800.0
IMPORT_S = 600.0
"""The first import of torch from a cold network disk is minutes."""

_NAME = regex(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\Z")
_REQUEST = regex(r"[A-Za-z0-9/@<>=~!][A-Za-z0-9_./@<>=~!,*+-]*\Z")
_MODULE = regex(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")
_FROZEN = {None: "auto", True: "yes", False: "no"}
_SHOWN = 40


def _to_names(value: str | Iterable[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


def _step_name(kind: str, text: str) -> str:
    return f"{kind}: {' '.join(text.split())[:_SHOWN]}"


@functools.cache
def _enter_lines() -> str:
    lines = packaged_text("envs/uv_enter.sh").splitlines()
    return "\n".join(line for line in lines if line and not line.lstrip().startswith("#"))


def _made_programs() -> tuple[str, str]:
    return packaged_text("node_side/envs/made_note.py"), packaged_text("node_side/envs/made_from.py")


@checked_class
@register_env
@attrs.frozen
class UvEnv(PlainEnv):
    """The project's own ``.venv``, made by ``uv sync``; from pylock.toml or requirements.txt where there is no
    pyproject.toml. A new one is made beside the one in use, which stays whole until all steps are done.

    No file of the project is rewritten here; on the node uv may write a lock where none was pushed. uv's defaults hold:
    the ``dev`` group is installed unless the project says otherwise, and packages that the project does not name are
    removed. Where a node has no uv, or one that is too old or not what the project's ``required-version`` wants, the
    binary of the ``uv`` wheel installed beside us is sent, or one that fits is fetched.

    Args:
        extra: one or more of the project's extras.
        groups: dependency groups beside the default ones.
        python: a version ("3.12") or another request that uv understands; None leaves it to the project.
        frozen: True takes uv.lock as it is, False lets uv look whether it is up to date; None is True where one was
            pushed.
        locked: refuse to go on if the pushed uv.lock does not fit pyproject.toml.
        upgrade: take the newest versions that fit, whatever a lock says; on the node, and when it is made, not at each
            deploy.
        package: one package of a uv workspace, and what it needs.
        all_packages: all of them.
        requirements: files to install from instead, relative to the project's folder.
        cache_dir: uv's cache on the node, absolute or "~/..."; files are copied, not linked, from another file system.
        pre: shell lines that run before uv in the same shell (``export``, ``module load``), not before later commands.
            They are shown in events and in JSON: no place for a secret.
        secrets: variables of the steps, and of what is fetched here for ``offline``, whose values never show: the
            credentials of an index (UV_INDEX_<NAME>_PASSWORD), a token for git. Commands that run in the environment do
            not have them; another value of one makes no other environment.
        post: shell lines that run inside the environment once it is made.
        imports: modules that must import in it; one that does not is named, with what was probably meant.
        offline: for nodes without a way to an index: all that uv.lock (or pylock.toml, or the requirements) names is
            fetched here as wheels for the nodes' platform, once for all of them, and sent; their uv asks no network.

    Raises:
        ValueError: a name, version or path is not written as one, or two arguments say different things.
    """

    name: ClassVar[str] = "uv"

    extra: tuple[str, ...] = attrs.field(default=(), converter=_to_names)
    groups: tuple[str, ...] = attrs.field(default=(), converter=_to_names, kw_only=True)
    python: str | None = attrs.field(default=None, kw_only=True)
    frozen: bool | None = attrs.field(default=None, kw_only=True)
    cache_dir: str | None = attrs.field(default=None, kw_only=True)
    pre: tuple[str, ...] = attrs.field(default=(), converter=_to_names, kw_only=True)
    locked: bool = attrs.field(default=False, kw_only=True)
    package: str | None = attrs.field(default=None, kw_only=True)
    all_packages: bool = attrs.field(default=False, kw_only=True)
    requirements: tuple[str, ...] = attrs.field(default=(), converter=_to_names, kw_only=True)
    post: tuple[str, ...] = attrs.field(default=(), converter=_to_names, kw_only=True)
    imports: tuple[str, ...] = attrs.field(default=(), converter=_to_names, kw_only=True)
    upgrade: bool = attrs.field(default=False, kw_only=True)
    offline: bool = attrs.field(default=False, kw_only=True)
    secrets: Secrets = attrs.field(default=(), converter=to_secrets, kw_only=True)
    folder: Path | None = attrs.field(default=None, kw_only=True, repr=False, eq=False, metadata=not_plain())

    def __attrs_post_init__(self) -> None:
        for what, names in (("extra", self.extra), ("groups", self.groups)):
            for name in names:
                if not _NAME.match(name):
                    raise ValueError(f"UvEnv {what}: letters, digits, '-', '_' and '.' were expected, got {name!r}")
        if self.python is not None and not _REQUEST.match(self.python):
            raise ValueError(f'UvEnv python: a version such as "3.12" was expected, got {self.python!r}')
        if self.frozen not in _FROZEN:
            raise ValueError(f"UvEnv frozen: True, False or None was expected, got {self.frozen!r}")
        for name, secret in self.secrets:
            check_env(name, secret.value or "")
        if self.cache_dir is not None:
            check_remote_path(self.cache_dir, "UvEnv cache_dir")
        for line in (*self.pre, *self.post):
            if not line.strip() or "\0" in line:
                raise ValueError(f"UvEnv pre, post: shell lines without a NUL byte were expected, got {line!r}")
        for path in self.requirements:
            if path.startswith(("/", "-")) or ".." in path.split("/") or "\0" in path or "\n" in path or not path:
                raise ValueError(f"UvEnv requirements: files of the project were expected, got {path!r}")
        for module in self.imports:
            if not _MODULE.match(module):
                raise ValueError(f"UvEnv imports: names of modules were expected, got {module!r}")
        if self.package is not None and not _NAME.match(self.package):
            raise ValueError(f"UvEnv package: a package's name was expected, got {self.package!r}")
        if self.locked and self.frozen is not None:
            raise ValueError("UvEnv: frozen and locked say different things of the lock: one of them was expected")
        if self.offline and (self.upgrade or self.locked or self.frozen is False):
            raise ValueError("UvEnv: offline takes the lock as it is: no upgrade, locked, frozen=False beside it")
        if self.upgrade and (self.locked or self.frozen):
            raise ValueError("UvEnv: upgrade changes what frozen and locked keep: one of them was expected")
        if self.requirements and (self.extra or self.groups or self.frozen or self.locked or self.package):
            raise ValueError("UvEnv: requirements stand for themselves: no extra, group, package, lock beside them")

    def assets(self, site: Site, facts: NodeFacts) -> tuple[Asset, ...]:
        """Return uv's binary if the node has none, and the wheels that an offline node needs; may block.

        Raises:
            ToolMissing: the node has no uv, and none that fits is here; or there is no pip here to fetch wheels with.
            TransferFailed: a wheel cannot be had.
        """
        tools = () if self._node_uv(facts) else (uv_asset(facts, self._required()),)
        return (*tools, *wheel_assets(self._wanted(facts), site)) if self.offline else tools

    def with_folder(self, folder: Path) -> Self:
        """Return the same environment for the project in a folder of this machine: it says which uv and wheels.

        Raises:
            ValueError: the project there has no such extra or group.
        """
        if (self.extra or self.groups) and not (self.package or self.all_packages):
            check_names(folder, self.extra, self.groups)
        return attrs.evolve(self, folder=folder)

    def _required(self) -> str:
        return required_version(self.folder) if self.folder is not None else ""

    def _node_uv(self, facts: NodeFacts) -> str | None:
        """Return the path of the node's own uv, None where it has none that serves."""
        return None if misfit(facts.uv_version, self._required()) else facts.tool("uv")

    def _wanted(self, facts: NodeFacts) -> Wanted:
        if self.folder is None:
            hint = "deploy_project and deploy_all tell it; else env.with_folder(path)"
            raise TransferFailed("", "UvEnv(offline=True) must know where the project lies on this machine", hint)
        python = node_python(self.folder, self.python, facts)
        flags = tuple(self._flags())
        return Wanted(self.folder, flags, self.requirements, python, facts.arch, facts.libc, self.secrets)

    def sources(self, top: Path) -> tuple[str, ...] | None:
        """Return the files that uv would look at; None where a package is built, so that all of its code counts."""
        if self.folder is None:
            return None
        found = find(str(top), str(self.folder), self.requirements, "code")
        inside = f"{top}/"
        return None if found.doubt else tuple(path.removeprefix(inside) for path in found.files)

    def step_secrets(self) -> Secrets:
        """Return the secrets."""
        return self.secrets

    def steps(self, site: Site, facts: NodeFacts) -> tuple[Step, ...]:
        """Return the ``pre`` lines, ``uv sync``, the ``post`` lines and the imports.

        Raises:
            ToolMissing: as ``assets``.
        """
        uv = self._node_uv(facts) or uv_asset(facts, self._required()).target
        python, flags = self.python or "", self._flags()
        if self.offline:
            python, flags = node_python(self.folder or Path(), self.python, facts), []
        frozen = (
            "offline"
            if self.offline
            else "locked"
            if self.locked
            else "upgrade"
            if self.upgrade
            else _FROZEN[self.frozen]
        )
        files = "\n".join(self.requirements)
        words = [uv, self.venv(site), self._kept(site), site.path.rstrip("/")]
        words += [frozen, python, files, *_made_programs(), *flags]
        line = sh_line("envs/uv_sync.sh", *words)
        if self.cache_dir is not None:
            line = f"UV_CACHE_DIR={shlex.quote(facts.resolve(self.cache_dir))} {line}"
        pre = (Step(_step_name("pre", text), text, timeout_s=PRE_S) for text in self.pre)
        new = f"VIRTUAL_ENV=$(cat {shlex.quote(self._kept(site) + '/next')})"
        inside = f'{new}; unset PYTHONHOME\nexport VIRTUAL_ENV PATH="$VIRTUAL_ENV/bin${{PATH:+:$PATH}}"\n'
        after = [Step(_step_name("post", text), inside + text, timeout_s=PRE_S) for text in self.post]
        if self.imports:
            words = ["-c", python_word("node_side/envs/check_imports.py"), *self.imports]
            tried = f'{new}; "$VIRTUAL_ENV/bin/python" {shlex.join(words)}'
            after.append(Step(_step_name("import", ", ".join(self.imports)), tried, timeout_s=IMPORT_S))
        venvs = shlex.join([packaged_text("node_side/envs/venvs.py"), "switch", self.venv(site), self._kept(site)])
        switch = Step("switch", f'{new}; "$VIRTUAL_ENV/bin/python" -I -S -c {venvs}', timeout_s=PRE_S)
        return (*pre, Step("uv sync", line, timeout_s=SYNC_S), *after, switch)

    def _flags(self) -> list[str]:
        """Return what is chosen of the project, in the words of ``uv sync`` and ``uv export``."""
        flags = [word for name in self.extra for word in ("--extra", name)]
        flags += [word for name in self.groups for word in ("--group", name)]
        flags += ["--package", self.package] if self.package else []
        return [*flags, "--all-packages"] if self.all_packages else flags

    def check(self, site: Site, facts: NodeFacts) -> str | None:
        """Return a line that starts the environment's interpreter, which sees whether its sources are the same."""
        words = [self.venv(site), self._kept(site), *_made_programs(), packaged_text("node_side/envs/venvs.py")]
        words += [site.path.rstrip("/"), site.workdir.rstrip("/")]
        # No shell of its own: it is asked before each skip.
        return f"set -- {shlex.join([*words, *self.requirements])}\n{packaged_text('envs/uv_check.sh')}"

    def enter(self, command: Command, site: Site, facts: NodeFacts) -> Command:
        """Return the command with the environment's programs first on PATH, and in the project's folder by default."""
        # In front of the line, not around it: its exit status and its own quoting stay as they are.
        line = f"asyncdeploy_venv={shlex.quote(self.venv(site))}\n{_enter_lines()}\n{command.line}"
        return attrs.evolve(command, line=line, cwd=command.cwd or site.workdir)

    def venv(self, site: Site) -> str:
        """Return the absolute folder of the environment on the node."""
        return f"{site.workdir.rstrip('/')}/.venv"

    def _kept(self, site: Site) -> str:
        """Return the folder of the two environments that ``venv`` is a link to, by turns; one for each project."""
        mark = hashlib.sha256((site.project or "").encode("utf-8", "surrogateescape")).hexdigest()[:8]
        return f"{site.path.rstrip('/')}/.asyncdeploy/venv-{mark}"
