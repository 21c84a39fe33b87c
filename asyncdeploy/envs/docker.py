"""Commands in containers, by docker or podman: the image is fetched, loaded or built once, each command has its own."""

from __future__ import annotations

import functools
import hashlib
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import attrs

from asyncdeploy.envs.base import Asset, Env, EnvWithSecrets, LocalEnv, PlainEnv, Step
from asyncdeploy.envs.registry import env_from_dict, register_env
from asyncdeploy.envs.this_machine import file_sha256
from asyncdeploy.nodes.facts import NodeFacts
from asyncdeploy.values.arguments import checked_class
from asyncdeploy.values.command import Command, Secrets, carried_line, check_env, to_secrets
from asyncdeploy.values.errors import ToolMissing, TransferFailed
from asyncdeploy.values.regex import regex
from asyncdeploy.values.serialize import not_plain
from asyncdeploy.values.texts import sh_line
from asyncdeploy.values.workspace import Site

PULL_S = 7200.0
"""An image with CUDA and torch is 10 GB."""
ULIMITS = ("memlock=-1", "stack=67108864")
"""What NVIDIA asks for: NCCL pins memory."""

LINE = "ASYNCDEPLOY_DOCKER_LINE"
"""In which docker_run.sh finds the line of a command."""

_IMAGE = regex(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*\Z")
_GPUS = regex(r"[0-9]+(,[0-9]+)*\Z")
_HINT = (
    "install docker or podman there; a node that is a container itself (RunPod, Vast) has neither: "
    "use UvEnv, and take your image as the node's own"
)


def _to_texts(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _to_limits(value: str | Iterable[str] | None) -> tuple[str, ...] | None:
    return None if value is None else _to_texts(value)


def _to_path(value: Path | str | None) -> Path | None:
    return None if value is None else Path(value).absolute()


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, _size: int, _mtime_ns: int) -> str:
    return file_sha256(path)


def _inside(facts: NodeFacts) -> NodeFacts:
    """Return what is known of the inside of a container on a node: not its tools, its Python, or its C library."""
    return attrs.evolve(facts, tools=(), python="", python_version="", libc="")


def _as_lines(step: Step) -> str:
    """Return a step as lines of a script that ends where a step fails."""
    said = f"printf '%s\\n' {shlex.quote('==> ' + step.name)}"
    line = f'{said}\ncd "$asyncdeploy_here" || exit\n{{ {step.line}\n}} || exit'
    return f"if ! ({step.unless}) >/dev/null 2>&1; then\n{line}\nfi" if step.unless else line


@checked_class
@register_env
@attrs.frozen
class DockerEnv(PlainEnv):
    """Each command, job and rank in a container of its own, which ends with it.

    The workspace is mounted at its own path, results belong to the login user, the network and IPC are the node's (what
    torchrun and NCCL need), and the container is named after the run or job. Its entry point is not used: the command
    is run by the image's ``/bin/sh``. Variables reach it through the tool's own environment, never through an argument
    list; whoever may talk to the docker daemon, which is to say root, can see them with ``docker inspect``.

    Args:
        image: an image's name, pulled where the node does not have it.
        archive: a local file of ``docker save``, sent and loaded instead.
        dockerfile: relative to the workspace: the image is built from it there, with what was pushed as its context.
        gpus: "auto" (all that the node has, none where it has none), "all", "0,1" by index, or None.
        mounts: further mounts as ``-v`` takes them: "/data:/data:ro".
        ulimits: as ``--ulimit`` takes them; None lets NCCL pin memory (memlock=-1, stack=67108864) where the engine is
            root's, and leaves the engine's own elsewhere.
        options: further options for ``run``, each a word. They are shown: no place for a secret.
        engine: "docker" or "podman"; None is what the node has, docker first.
        env: an environment inside the container: ``DockerEnv(image, env=UvEnv("train"))`` makes the project's own with
            the image's Python.
        secrets: for the build, by BuildKit: ``RUN --mount=type=secret,id=NAME`` finds one in /run/secrets/NAME. Their
            values never show, and are in no layer.

    Raises:
        ValueError: not exactly one of image, archive and dockerfile, or a value that docker would not take.
    """

    name: ClassVar[str] = "docker"

    image: str | None = None
    archive: Path | None = attrs.field(default=None, kw_only=True, converter=_to_path)
    dockerfile: str | None = attrs.field(default=None, kw_only=True)
    gpus: str | None = attrs.field(default="auto", kw_only=True)
    mounts: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_to_texts)
    ulimits: tuple[str, ...] | None = attrs.field(default=None, kw_only=True, converter=_to_limits)
    options: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_to_texts)
    engine: Literal["docker", "podman"] | None = attrs.field(default=None, kw_only=True)
    env: Env | None = attrs.field(default=None, kw_only=True, metadata=not_plain())
    secrets: Secrets = attrs.field(default=(), kw_only=True, converter=to_secrets)

    def __attrs_post_init__(self) -> None:
        if (count := sum(source is not None for source in (self.image, self.archive, self.dockerfile))) != 1:
            raise ValueError(f"DockerEnv: one of image, archive and dockerfile was expected, got {count} of them")
        if self.image is not None and not _IMAGE.match(self.image):
            raise ValueError(f"DockerEnv image: an image's name was expected, got {self.image!r}")
        if self.dockerfile is not None and (
            self.dockerfile.startswith(("/", "-")) or ".." in self.dockerfile.split("/") or "\0" in self.dockerfile
        ):
            raise ValueError(f"DockerEnv dockerfile: a path in the workspace was expected, got {self.dockerfile!r}")
        if self.gpus not in (None, "auto", "all") and not _GPUS.match(self.gpus):
            expected = '"auto", "all", indices such as "0,1", or None was expected'
            raise ValueError(f"DockerEnv gpus: {expected}, got {self.gpus!r}")
        if self.engine not in (None, "docker", "podman"):
            raise ValueError(f'DockerEnv engine: "docker", "podman" or None was expected, got {self.engine!r}')
        for name, secret in self.secrets:
            check_env(name, secret.value or "")
        if isinstance(self.env, DockerEnv):
            raise ValueError(
                "DockerEnv env: an environment for the inside of the container was expected, got a DockerEnv"
            )
        for what, words in (("mounts", self.mounts), ("ulimits", self.ulimits or ()), ("options", self.options)):
            for word in words:
                if not word or "\0" in word:
                    raise ValueError(f"DockerEnv {what}: words without a NUL byte were expected, got {word!r}")

    def assets(self, site: Site, facts: NodeFacts) -> tuple[Asset, ...]:
        """Return the archive, if the image comes from one.

        Raises:
            TransferFailed: it cannot be read.
        """
        inner = self.env.assets(site, _inside(facts)) if self.env is not None else ()
        return inner if self.archive is None else (self._archive_asset(self.archive, facts), *inner)

    def _archive_asset(self, archive: Path, facts: NodeFacts) -> Asset:
        digest = self._archive_digest()
        target = f"{facts.home.rstrip('/')}/.asyncdeploy/images/{digest[:16]}.tar"
        return Asset(f"image {archive.name}", archive, digest, target)

    def with_folder(self, folder: Path) -> Self:
        """Return the same environment; the one inside is told where the project lies on this machine."""
        return attrs.evolve(self, env=self.env.with_folder(folder)) if isinstance(self.env, LocalEnv) else self

    def steps(self, site: Site, facts: NodeFacts) -> tuple[Step, ...]:
        """Return how the image comes to be there.

        Raises:
            ToolMissing: the node has neither docker nor podman.
        """
        engine, image = shlex.quote(self.tool(facts)), shlex.quote(self.image_of(site))
        there = f"{engine} image inspect {image}"
        # Says in words of its own, at once, what every later step would fail with.
        reach = Step("reach the engine", f"{engine} version >/dev/null", timeout_s=60.0)
        if self.image is not None:
            make = Step(f"pull {self.image}", f"{engine} pull -q {image}", unless=there, timeout_s=PULL_S)
        elif self.archive is not None:
            path = shlex.quote(self._archive_asset(self.archive, facts).target)
            line = (
                f"loaded=$({engine} load -q -i {path}) || exit\n"
                "loaded=$(printf '%s\\n' \"$loaded\" | sed -n 's/^Loaded image[^:]*: *//p' | tail -n 1)\n"
                f'{engine} tag "$loaded" {image} && rm -f {path}'
            )
            make = Step(f"load {self.archive.name}", line, unless=there, timeout_s=PULL_S)
        else:
            place, label = f"{site.path}/.asyncdeploy/context", shlex.quote(f"asyncdeploy.site={site.path}")
            file, context = shlex.quote(f"{place}/{self.dockerfile}"), shlex.quote(place)
            line = (
                # What was pushed: no results, logs or secrets that lie there.
                f"cd {shlex.quote(site.path)} && {sh_line('envs/pushed_tree.sh', '.', place)} || exit\n"
                f"{self._build(engine)} -q -f {file} -t {image} --label {label} {context}; asyncdeploy_status=$?\n"
                f'rm -rf {context}; [ "$asyncdeploy_status" = 0 ] || exit "$asyncdeploy_status"\n'
                # Those of older code share their layers with the new one; what still runs keeps its own.
                f"old=$({engine} images -q --filter label={label} --filter before={image})\n"
                f'[ -z "$old" ] || {engine} rmi $old >/dev/null 2>&1 || :'
            )
            make = Step(f"build {self.dockerfile}", line, unless=there, timeout_s=PULL_S)
        inner = self.env.steps(site, _inside(facts)) if self.env is not None else ()
        if self.env is None or not inner:
            return reach, make
        # In one container, because steps share a shell.
        lines = "\n".join(["asyncdeploy_here=$PWD", *(_as_lines(step) for step in inner)])
        line = self._contained(Command(lines, cwd=site.workdir, secrets=self._inner_secrets()), site, facts)
        return reach, make, Step(f"{self.env.name} inside", line, timeout_s=sum(step.timeout_s for step in inner))

    def _build(self, engine: str) -> str:
        words = "".join(f" --secret id={name},env={name}" for name, _ in self.secrets)
        return f"DOCKER_BUILDKIT=1 {engine} build{words}" if words else f"{engine} build"

    def step_secrets(self) -> Secrets:
        """Return the secrets, and those of the environment inside."""
        return to_secrets({**dict(self._inner_secrets()), **dict(self.secrets)})

    def _inner_secrets(self) -> Secrets:
        return self.env.step_secrets() if isinstance(self.env, EnvWithSecrets) else ()

    def check(self, site: Site, facts: NodeFacts) -> str | None:
        """Return a line that asks for the image, and inside for what was made there."""
        there = f"{shlex.quote(self.tool(facts))} image inspect {shlex.quote(self.image_of(site))}"
        inner = self.env.check(site, _inside(facts)) if self.env is not None else None
        return f"{there} && ({self._contained(Command(inner, cwd=site.workdir), site, facts)})" if inner else there

    def enter(self, command: Command, site: Site, facts: NodeFacts) -> Command:
        """Return the command in a container of its own; whatever ends the run ends the container.

        Raises:
            ToolMissing: the node has neither docker nor podman.
            ValueError: the site's path holds a ":", which no mount can name.
        """
        if self.env is not None:
            command = self.env.enter(command, site, _inside(facts))
        on_end = "\n".join(filter(None, [sh_line("envs/docker_end.sh", self.tool(facts)), command.on_end]))
        command = command.with_env(carried_line("DockerEnv command", LINE, command.line))
        line = "exec " + self._contained(command, site, facts, "")
        return attrs.evolve(command, line=line, cwd=site.path, on_end=on_end)

    def _contained(self, command: Command, site: Site, facts: NodeFacts, text: str | None = None) -> str:
        """Return a command as a line that runs it in a container; a text of "" stands in its variable instead."""
        text = command.line if text is None else text
        if ":" in site.path + facts.home:
            raise ValueError(f"DockerEnv: a path without ':' was expected for the site, got {site.path!r}")
        engine, cwd = self.tool(facts), facts.resolve(command.cwd or site.workdir)
        names = " ".join(name for name, _ in (*command.env, *command.secrets) if name != "HOME")
        words = [engine, self.image_of(site), site.path, cwd, names, text, *self._options(engine, facts)]
        return sh_line("envs/docker_run.sh", *words)

    def tool(self, facts: NodeFacts) -> str:
        """Return the path of docker or podman on the node.

        Raises:
            ToolMissing: there is none.
        """
        for name in (self.engine,) if self.engine else ("docker", "podman"):
            if path := facts.tool(name):
                return path
        what = f"the node has no {self.engine or 'docker or podman'}"
        raise ToolMissing("", what, _HINT, tool=self.engine or "docker")

    def image_of(self, site: Site) -> str:
        """Return the image's name on the node: for one that is built, by the tree that it was built from."""
        if self.image is not None:
            return self.image
        if self.archive is not None:
            return f"asyncdeploy/archive:{self._archive_digest()[:16]}"
        place = hashlib.sha256(f"{site.path}\0{self.dockerfile}".encode("utf-8", "surrogateescape")).hexdigest()
        return f"asyncdeploy/site-{place[:8]}:{site.digest[:16] or 'latest'}"

    def visible_gpus(self) -> str:
        """Return which of the node's GPUs are seen inside, in the words of CUDA_VISIBLE_DEVICES."""
        return "all" if self.gpus == "auto" else self.gpus or ""

    def _options(self, engine: str, facts: NodeFacts) -> list[str]:
        words = [word for mount in self.mounts for word in ("-v", mount)]
        rootless = engine.endswith("podman") and facts.uid != 0
        limits = (() if rootless else ULIMITS) if self.ulimits is None else self.ulimits
        words += [word for limit in limits for word in ("--ulimit", limit)]
        gpus = "" if self.gpus == "auto" and not facts.gpus else self.visible_gpus()
        if gpus and engine.endswith("podman"):
            words += [word for one in gpus.split(",") for word in ("--device", f"nvidia.com/gpu={one}")]
        elif gpus:
            words += ["--gpus", gpus if gpus == "all" else f'"device={gpus}"']
        return [*words, *self.options]

    def _archive_digest(self) -> str:
        assert self.archive is not None
        try:
            found = self.archive.stat()
            return _sha256(self.archive, found.st_size, found.st_mtime_ns)
        except OSError as error:
            what = f"{self.archive} on this machine: {error.strerror}"
            raise TransferFailed("", what, path=str(self.archive)) from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; the environment inside stands under "inside"."""
        return super().to_dict() | ({} if self.env is None else {"inside": self.env.to_dict()})

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Build a DockerEnv from ``to_dict``'s data.

        Raises:
            ValueError: it is not that.
        """
        inside = data.get("inside") if isinstance(data, dict) else None
        if inside is None:
            return super().from_dict(data)
        made = super().from_dict({key: value for key, value in data.items() if key != "inside"})
        return attrs.evolve(made, env=env_from_dict(inside))
