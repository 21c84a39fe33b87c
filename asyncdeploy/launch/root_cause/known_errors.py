"""What the words of a failed rank mean: a symptom of another's death, a known cause with something to do. No I/O."""

from __future__ import annotations

from asyncdeploy.values.regex import regex

_SYMPTOM = regex(
    r"Connection closed by (?:remote )?peer|Connection reset by peer|Connection refused|Broken pipe|recvValue failed"
    r"|sendBytes failed|[Ww]atchdog caught|ncclRemoteError|remote process exited|connectFullMesh|DistNetworkError"
    r"|DistStoreError|Gloo connect|[Tt]imed out waiting [0-9]+ ?ms for (?:recv|send)|[Ss]tore->get|failed to recv"
    r"|Some NCCL operations have failed or timed out|NCCL communicator was aborted"
    r"|RendezvousConnectionError|RendezvousClosedError|ActorDiedError|MPI_ERR_PROC_FAILED"
    r"|EOFError|IncompleteReadError|BrokenPipeError|Connection(?:Reset|Refused|Aborted)Error"
)
_WAITED = regex(
    r"[Tt]imed out after [0-9.]+ seconds waiting for clients|client socket has timed out after [0-9]+ ?ms while trying"
    r"|RendezvousTimeoutError"
)
_PORT_TAKEN = regex(r"EADDRINUSE|[Aa]ddress already in use")

_HINTS = (
    (
        regex(r"CUDA out of memory|OutOfMemoryError"),
        "the GPU's memory was full: by this job, or by another process; preflight(nodes) names who holds it",
    ),
    (regex(r"No module named"), "it is missing in the node's environment: look at the env's groups and extras"),
    (_PORT_TAKEN, "something else took a port between our proof and the start: start it again"),
    (regex(r"No space left on device"), "a file system of the node is full: df -h"),
    (
        regex(r"[Bb]us error|SIGBUS|/dev/shm"),
        "shared memory may be too small for data loaders: df -h /dev/shm",
    ),
    (
        regex(r"\.so[.0-9]*: cannot open shared object file"),
        (
            "a library of the system is missing on the node, which no Python package brings: install it there "
            "(libGL.so.1 is libgl1 of Debian), or take a package without it (opencv-python-headless)"
        ),
    ),
    (
        regex(r"fatal error: \S+\.h(pp)?: No such file"),
        "something is compiled on the node, and a header is missing there: install the system's development package",
    ),
    (
        regex(r"can't open file|No such file|command not found|: not found"),
        "paths are relative to the project's folder on the node: was it pushed?",
    ),
    (
        regex(r"no kernel image is available|CUDA driver version is insufficient|Found no NVIDIA driver"),
        "the node's driver and the torch that was installed there do not fit each other",
    ),
    (
        regex(r"[Ww]atchdog caught|operations have failed or timed out|[Tt]imed out waiting"),
        "some rank did not come to a collective: one that hangs or waits elsewhere, or a blocked network",
    ),
)


def is_symptom(text: str) -> bool:
    """Return whether a rank's words only say that a peer, or the way to it, is gone."""
    return _SYMPTOM.search(text) is not None and not port_was_taken(text)


def gave_up_waiting(text: str) -> bool:
    """Return whether a rank's words say that it gave up waiting for others where the ranks meet."""
    return _WAITED.search(text) is not None


def symptom_in(text: str) -> str:
    """Return the words of a text that make it a symptom, "" if nothing does."""
    found = _SYMPTOM.search(text)
    return found[0] if found else ""


def port_was_taken(log: str) -> bool:
    """Return whether a rank's last words say that a port was taken."""
    return _PORT_TAKEN.search(log) is not None


def hint_for(text: str) -> str:
    """Return what to do about a known cause, "" where none is known."""
    return next((hint for pattern, hint in _HINTS if pattern.search(text)), "")
