"""Known causes of a step that failed: from what it printed to what a person can do. Text in, text out."""

from __future__ import annotations

import re

from asyncdeploy.nodes.facts import NodeFacts

NO_ROOM = ("No space left on device", "Disk quota exceeded", r"os error 28\b")

NO_NETWORK = (
    *("dns error", "failed to lookup address", "[Cc]ould not resolve", "Name or service not known"),
    *("Temporary failure in name", "Network is unreachable", "No route to host", "Connection refused"),
    *("error sending request", "network (was|is|connectivity is) disabled", r"client error \(Connect\)"),
)

VARIABLES = "variables of the node, of its image say, change what uv does: UvEnv(pre='unset ...') for what is not meant"
OFFLINE = "look at its network, its proxy (HTTPS_PROXY) and UV_OFFLINE, or send all that is needed: UvEnv(offline=True)"
CREDENTIALS = (
    "the index wants credentials: UvEnv(secrets={'UV_INDEX_<NAME>_USERNAME': ..., 'UV_INDEX_<NAME>_PASSWORD': ...}), "
    "<NAME> as in [[tool.uv.index]], in capitals and with _ for other signs"
)
COPIES = (
    "uv copies every file: its cache is on another file system than the project; UvEnv(cache_dir=...) on the project's "
    "own is faster and takes less room"
)

_CAUSES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("cannot connect to (daemon|socket)", "daemon-socket.*(No such file|Connection refused)"),
        "the nix daemon does not answer there: start it (systemctl start nix-daemon), or take a single-user nix",
    ),
    (
        ("lock file changes but", "requires lock file changes", "cannot write modified lock file"),
        "flake.lock does not fit flake.nix: run `nix flake lock` here and deploy again",
    ),
    (
        ("lacks a (valid )?signature", "is not (allowed|privileged|trusted)", "missing privilege"),
        "that nix takes unsigned paths from trusted users only: add the login user to trusted-users in its nix.conf",
    ),
    (
        ("is not a recognised command", "unrecognised flag"),
        "that nix is too old for flakes: 2.4 or later is needed",
    ),
    (
        ("buildx component is missing", "requires BuildKit"),
        "DockerEnv(secrets=) needs BuildKit: install docker's buildx on the node (docker-buildx), or take podman",
    ),
    (
        ("Cannot connect to the Docker daemon", "docker daemon is not running", "Is the docker daemon running"),
        "start the docker daemon there, or take podman; a node that is a container (RunPod, Vast) has none: use UvEnv",
    ),
    (
        ("permission denied while trying to connect to the Docker", "dial unix .*docker.*permission denied"),
        "the login user may not talk to the docker daemon: add it to the group docker, or take podman",
    ),
    (
        (
            "pull access denied",
            "manifest unknown",
            "repository .* not found",
            "requested access to the resource is denied",
        ),
        "no such image, or it is private: look at its name, and run `docker login` on the node",
    ),
    (
        (
            r"\b40[13]\b.{0,40}(Unauthorized|Forbidden|Client Error)",
            "authentication credentials",
            "[Mm]issing credentials",
        ),
        CREDENTIALS,
    ),
    (
        ("invalid peer certificate", "certificate verify failed", "CERTIFICATE_VERIFY_FAILED", "UnknownIssuer"),
        (
            "the node does not trust that server's certificate, or a proxy's: UvEnv(pre='export SSL_CERT_FILE=...'), "
            "or UV_SYSTEM_CERTS=1 there for the node's own store (pre stands under [env] in asyncdeploy.toml); a clock "
            "that is wrong has the same effect"
        ),
    ),
    (
        (r"Permission denied \(publickey", "Host key verification failed", "could not read (Username|Password) for"),
        (
            "the git host does not know the node: give it a token by UvEnv(secrets=) and git's insteadOf in pre, or a "
            "key of its own; agents are not forwarded"
        ),
    ),
    (
        ("Git executable not found", "git: (command )?not found"),
        "a dependency comes from git, and the node has none: install git there, or depend on a release of it",
    ),
    (
        (r"Git operation failed[\s\S]*(connect to host|resolve host|unable to access|Connection refused)",),
        "the node cannot reach the git host of a dependency: look at its network and proxy, or depend on a release",
    ),
    (
        (r"(download|fetch|install|request)[\s\S]{0,200}(cpython-|python-build-standalone)",),
        (
            "the node has no such Python, and uv cannot fetch it: install it there, ask for one that is there "
            "(UvEnv(python=)), or set UV_PYTHON_INSTALL_MIRROR"
        ),
    ),
    (
        ("was unable to detect version", "unable to detect version for", "vcs.versioning", "hatch-vcs"),
        "the version is taken from git, which is not pushed: UvEnv(pre='export SETUPTOOLS_SCM_PRETEND_VERSION=0.0.0')",
    ),
    (
        ("references a workspace in .*but is not", "is missing a `?pyproject.toml", "Distribution not found at"),
        (
            "a part of it was sent without the rest: Workspace(top, project='libs/a') pushes all of a uv workspace, "
            "and works in one of its folders"
        ),
    ),
    (
        ("Too many open files", r"os error 24\b"),
        "a process may open few files there: UvEnv(pre='ulimit -n 4096'), or UV_CONCURRENT_DOWNLOADS=8",
    ),
    (
        (r"\.so[.0-9]*: cannot open shared object file", r"fatal error: \S+\.h(pp)?: No such file"),
        (
            "a library or header of the system is missing on the node, which no Python package brings: install it "
            "there (libGL.so.1 is libgl1 of Debian, Python.h python3-dev)"
        ),
    ),
    (
        ("Required uv version .* does not match",),
        "the project wants another uv: deploy_project and deploy_all send one that fits; else env.with_folder(path)",
    ),
    (
        ("`UV_[A-Z_]+(=[^`]*)?` (was|is) (provided|set)",),
        VARIABLES,
    ),
    (
        (r"\b50[0234]\b.*(Server Error|Bad Gateway|Unavailable|Timeout)",),
        "the package index is in trouble: try again",
    ),
    (
        NO_NETWORK,
        f"the node cannot reach the package index: {OFFLINE}",
    ),
    (
        ("lockfile.*(needs to be updated|outdated|out of date)", r"[Ff]ailed to parse.*uv\.lock"),
        "run `uv lock` here and deploy again",
    ),
    (("Unable to find lockfile",), "run `uv lock` here so that uv.lock is pushed, or leave frozen out"),
    (
        ("[Hh]ash(es)? mismatch", "[Hh]ashes do not match"),
        "the index served another file than the lock names: run `uv lock` here, or look at the mirror",
    ),
    (("Extra `[^`]*` is not defined",), "name one of the extras under [project.optional-dependencies]"),
    (("Group `[^`]*` is not defined",), "name one of the groups under [dependency-groups]"),
    (
        ("No interpreter found", "No Python (at|found)", "(in|not )compatible with the project's Python"),
        "the node has no such Python and uv could not fetch one: install it there, or ask for another (UvEnv(python=))",
    ),
    (
        ("Exec format error", "cannot execute"),
        "that program is for another kind of machine, or its folder is mounted noexec",
    ),
    (
        ("Permission denied", "Read-only file system"),
        "the login user may not write there: look at the owner of the folder, and whether it is read-only",
    ),
    (
        ("there (is|are) no versions? of", "was not found in the package registry"),
        "no index that was asked has it: look at its name and version, and at [[tool.uv.index]]",
    ),
    (
        ("^variables that uv also reads",),
        VARIABLES,
    ),
)


def find_hint(output: str, facts: NodeFacts | None = None) -> str:
    """Return what to do about a failed step, "" if its cause is none we know.

    Args:
        output: its last lines.
        facts: of its node, for figures.
    """
    if _says(output, NO_ROOM):
        disks = sorted(facts.disks, key=lambda disk: disk.free_bytes) if facts else []
        figures = ", ".join(f"{disk.path} had {disk.free_bytes / 1e9:.1f} GB free" for disk in disks)
        what = "make room, or use a larger disk: UvEnv(cache_dir=...), Workspace(..., remote_path=...)"
        return f"{what} ({figures})" if figures else what
    return next((hint for patterns, hint in _CAUSES if _says(output, patterns)), "")


def find_note(line: str) -> str:
    """Return what a person should know of a line that a step printed though it did not fail, "" if nothing."""
    return COPIES if "Failed to hardlink files" in line else ""


def _says(output: str, patterns: tuple[str, ...]) -> bool:
    return any(re.search(pattern, output, re.MULTILINE) for pattern in patterns)
