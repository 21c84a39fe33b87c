"""What is run instead of a line itself, so that it runs on a node of a Slurm job: a step of its own, by srun."""

from __future__ import annotations

from asyncdeploy.nodes.parse import Node

NOT_ITS_OWN = ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")
"""They say how we came to the login node; our programs would take its address for the node's."""

STEP = {"ASYNCDEPLOY_STEP": "1"}
"""By this our programs know that their step must outlive us if they start what does (node_side/run/outlive.py)."""

_BEGIN, _END = "exec /bin/sh -c '", "'"


def srun_words(node: Node) -> tuple[str, ...]:
    """Return srun and its options for a step on this node; none of them needs quoting.

    ``--overlap``: beside all other steps. ``--unbuffered``: else bytes wait for a line's end, and frames have none.
    ``--cpu-bind=none``, ``--mem=0``: one task may have all that the job has on the node. ``--propagate=NONE``: the
    limits of a login node are for people who edit files.
    """
    return (
        *("srun", f"--jobid={node.slurm_job}", f"--nodelist={node.host}", "--nodes=1", "--ntasks=1", "--overlap"),
        *("--unbuffered", "--quiet", "--export=ALL", "--cpu-bind=none", "--mem=0", "--mpi=none", "--propagate=NONE"),
    )


def login_line(node: Node, line: str) -> str:
    """Return the line for the login node's shell, whichever it is: our own lines pass all of them as they are."""
    return f"exec {' '.join(_env_words())} {' '.join(srun_words(node))} {_program(line)}"


def local_words(node: Node, line: str) -> tuple[str, ...]:
    """Return program and arguments for a step that is begun here."""
    script = _program(line).removeprefix(_BEGIN.removeprefix("exec ")).removesuffix(_END)
    return *_env_words(), *srun_words(node), "/bin/sh", "-c", script


def _env_words() -> tuple[str, ...]:
    gone = [word for name in NOT_ITS_OWN for word in ("-u", name)]
    return "env", *gone, *(f"{name}={value}" for name, value in STEP.items())


def _program(line: str) -> str:
    assert line.startswith(_BEGIN), line
    assert line.endswith(_END), line
    assert line.count("'") == 2, line
    return line.removeprefix("exec ")
