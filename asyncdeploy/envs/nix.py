"""An environment from a nix flake: its development shell or a package, evaluated once and kept."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path
from typing import ClassVar, Self

import attrs

from asyncdeploy.envs.base import Asset, PlainEnv, Step
from asyncdeploy.envs.nix_closure import Closure, closure_assets
from asyncdeploy.envs.registry import register_env
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.command import Command, Secrets, carried_line, check_env, to_secrets
from asyncdeploy.values.errors import ToolMissing, TransferFailed
from asyncdeploy.values.regex import regex
from asyncdeploy.values.serialize import not_plain
from asyncdeploy.values.texts import packaged_text, sh_line
from asyncdeploy.values.workspace import Site

MAKE_S = 7200.0
"""What no cache has is built, which may be a CUDA."""

_ATTRIBUTE = regex(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*\Z")
_PATH = """\
for asyncdeploy_each in "$asyncdeploy_made-bin" "$asyncdeploy_made"; do
    asyncdeploy_each=$(readlink "$asyncdeploy_each") && PATH=$asyncdeploy_each/bin:$PATH
done
unset asyncdeploy_made asyncdeploy_each
export PATH"""
"""Enters what the links name now: a later deploy turns them. nix collects nothing that a process's variables name."""
_HINT = "install nix there (a single-user installation in the home folder does), or use UvEnv"


@checked_class
@register_env
@attrs.frozen
class NixEnv(PlainEnv):
    """A flake's development shell, or one of its packages first on PATH.

    It is evaluated when it is deployed, never when a command enters it, and kept from nix's garbage collection. It is
    made anew when a ``*.nix`` file or ``flake.lock`` of the pushed flake changed. The lock decides: one that does not
    fit is an error, and no file of the project is rewritten. The shell's ``shellHook`` runs for every command; what it
    prints goes to stderr, and where it goes is not where the command starts. Functions of the shell are not passed on.

    Args:
        flake_ref: a flake as nix names it ("github:org/repo"); "." is the one that was pushed, in the project's folder.
        shell: which development shell; "" is the default one.
        package: a package instead, by its name ("default"): its ``bin`` is first on PATH.
        copy_closure: for nodes that reach no cache: it is evaluated and built on this machine, once for all nodes, and
            sent with all that it needs.
        secrets: variables of nix when it is made, whose values never show: NIX_CONFIG with its access-tokens.

    Raises:
        ValueError: a name or reference is not written as one, or both a shell and a package are named.
    """

    name: ClassVar[str] = "nix"

    flake_ref: str = "."
    shell: str = attrs.field(default="", kw_only=True)
    package: str | None = attrs.field(default=None, kw_only=True)
    copy_closure: bool = attrs.field(default=False, kw_only=True)
    secrets: Secrets = attrs.field(default=(), converter=to_secrets, kw_only=True)
    folder: Path | None = attrs.field(default=None, kw_only=True, repr=False, metadata=not_plain())

    def __attrs_post_init__(self) -> None:
        ref = self.flake_ref
        if not ref or ref.startswith("-") or not ref.isprintable() or set(ref) & set(" #'\""):
            raise ValueError(f"NixEnv flake_ref: a flake without its attribute was expected, got {ref!r}")
        if ref.startswith(("./", "../")):
            raise ValueError(
                f'NixEnv flake_ref: "." is the pushed flake; another folder is a Workspace project: {ref!r}'
            )
        for what, name in (("shell", self.shell), ("package", self.package)):
            if name and not _ATTRIBUTE.match(name):
                raise ValueError(f"NixEnv {what}: a name was expected, got {name!r}")
        for name, secret in self.secrets:
            check_env(name, secret.value or "")
        if self.package == "" or (self.package is not None and self.shell):
            raise ValueError("NixEnv: the name of a shell or of a package was expected, not both")

    def assets(self, site: Site, facts: NodeFacts) -> tuple[Asset, ...]:
        """Return the closure that is to be copied; nothing where what the flake needs is the node's nix's to fetch.

        Raises:
            ToolMissing, TransferFailed: it cannot be made on this machine.
        """
        if not self.copy_closure:
            return ()
        if self.folder is None:
            hint = "deploy_project and deploy_all tell it; else env.with_folder(path)"
            raise TransferFailed("", "NixEnv(copy_closure=True) must know where the project lies on this machine", hint)
        ref, attribute = self._flake()
        mode = "develop" if self.package is None else "build"
        closure = Closure(self.folder, packaged_text("envs/nix_make.sh"), mode, ref, attribute)
        return closure_assets(closure, self._state(site), facts)

    def with_folder(self, folder: Path) -> Self:
        """Return the same environment for the project in a folder of this machine, where its closure is made."""
        return attrs.evolve(self, folder=folder) if self.copy_closure else self

    def step_secrets(self) -> Secrets:
        """Return the secrets."""
        return self.secrets

    def steps(self, site: Site, facts: NodeFacts) -> tuple[Step, ...]:
        """Return the one step that evaluates the shell or builds the package.

        Raises:
            ToolMissing: the node has no nix.
        """
        mode, what = ("develop", "nix develop") if self.package is None else ("build", "nix build")
        if self.copy_closure:
            mode, what = "import", "nix-store --import"
        return (Step(what, self._line(mode, site, facts), timeout_s=MAKE_S),)

    def check(self, site: Site, facts: NodeFacts) -> str | None:
        """Return a line that looks whether what was made is still there, and made from what is there now."""
        return self._line("check", site, facts)

    def enter(self, command: Command, site: Site, facts: NodeFacts) -> Command:
        """Return the command inside the shell, or with the package's programs first on PATH; nix is not asked."""
        cwd = command.cwd or site.workdir
        if self.package is None:
            line = "exec " + sh_line("envs/nix_enter.sh", self._state(site))
            carried = carried_line("NixEnv command", "ASYNCDEPLOY_NIX_LINE", command.line)
            return attrs.evolve(command, line=line, cwd=cwd).with_env(carried)
        # In front of the line, not around it: its exit status and its own quoting stay as they are.
        line = f"asyncdeploy_made={shlex.quote(self._state(site))}/result\n{_PATH}\n{command.line}"
        return attrs.evolve(command, line=line, cwd=cwd)

    def _line(self, mode: str, site: Site, facts: NodeFacts) -> str:
        nix = facts.tool("nix")
        if nix is None:
            raise ToolMissing("", "the node has no nix", _HINT, tool="nix")
        words = [mode, nix, *self._flake(), self._state(site), "there"]
        if mode in ("develop", "build"):
            words += [site.path, site.project or ".", packaged_text("envs/pushed_tree.sh")]
        return sh_line("envs/nix_make.sh", *words)

    def _flake(self) -> tuple[str, str]:
        """Return the flake, "" for the one that is pushed, and what of it."""
        attribute = self.package or self.shell
        return "" if self.flake_ref == "." else self.flake_ref, f"#{attribute}" if attribute else ""

    def _state(self, site: Site) -> str:
        """Return the folder that keeps what was made: one for each environment of a site."""
        named = "\0".join((site.project or "", self.flake_ref, self.shell, self.package or ""))
        mark = hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        return f"{site.path.rstrip('/')}/.asyncdeploy/nix-{mark}"
