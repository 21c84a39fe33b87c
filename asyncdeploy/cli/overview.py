"""What verbs there are, in the order in which one needs them: the one table that help, parser and completion read."""

from __future__ import annotations

import attrs

INSTALL = "pip install 'asyncdeploy[cli]'"


@attrs.frozen
class Verb:
    """One verb: where its function stands below cli.verbs, the arguments and the line of the overview."""

    name: str
    place: str
    arguments: str
    line: str


GROUPS: dict[str, tuple[Verb, ...]] = {
    "To begin": (
        Verb("demo", "begin:demo", "", "the whole way once, on four nodes inside this process"),
        Verb("init", "begin:init", "[NODES]", "write a commented asyncdeploy.toml from what is found here"),
        Verb("check", "begin:check", "[NODES]", "this machine; with nodes, whether they can work together"),
    ),
    "A project on nodes": (
        Verb("plan", "project:plan", "[NODES]", "what a deploy would do; nothing is changed"),
        Verb("push", "project:push", "[NODES]", "send the project's files, only what changed"),
        Verb("deploy", "project:deploy", "[NODES]", "push, and make the environment"),
        Verb("run", "run:run", "[NODES] -- CMD", "run a command on all nodes, attached: it ends with us"),
        Verb("start", "start:start", "[NODES] -- CMD", "deploy, and start a command on each node, detached"),
        Verb("launch", "launch:launch", "SCRIPT -- ARGS", "deploy, and train on all nodes together, detached"),
    ),
    "What runs": (
        Verb("ps", "looks:ps", "[RUN]", "what runs and ran on the nodes"),
        Verb("logs", "looks:logs", "RUN", "what it has printed; -f follows it and only looks"),
        Verb("wait", "ends:wait", "RUN", "watch over it until it ends"),
        Verb("stop", "ends:stop", "RUN", "end it everywhere"),
        Verb("why", "looks:why", "RUN", "why it failed, or where each rank stands while it runs"),
        Verb("collect", "ends:collect", "RUN", "bring its results home"),
        Verb("forward", "reach:forward", "RUN[/RANK] PORT", "a port of a node as one of this machine"),
        Verb("ssh", "reach:ssh", "RUN[/RANK]", "a shell in the project's folder, inside its environment"),
        Verb("clean", "ends:clean", "[NODES]", "take away what deployments left and nobody uses"),
    ),
    "Machines for a while": (
        Verb("offers", "rent:offers", "GPU", "who would rent such machines, and for how much"),
        Verb("rent", "rent:rent", "GPU", "rent them until Ctrl-C, or all of their time"),
        Verb("rentals", "rent:rentals", "", "what is rented now, and what it costs"),
        Verb("give-back", "rent:give_back", "RENTAL", "end a rental, from any machine"),
        Verb("reap", "rent:reap", "", "end what is over, and what died left behind"),
    ),
}
VERBS = {verb.name: verb for verbs in GROUPS.values() for verb in verbs}


def overview() -> str:
    """Return the help of the whole."""
    rows = [(f"{verb.name} {verb.arguments}".strip(), verb.line) for verb in VERBS.values()]
    width = max(len(left) for left, _ in rows)
    lines = ["Usage: asyncdeploy VERB ...", "", "From N machines you can ssh to, to a running job and its results."]
    for title, verbs in GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {f'{verb.name} {verb.arguments}'.strip():<{width}}  {verb.line}" for verb in verbs]
    return "\n".join([*lines, "", *_ENDING])


_ENDING = (
    "Nodes: arguments (root@gpu[01-08]:22, @group), --hostfile FILE, ASYNCDEPLOY_NODES, SLURM_JOB_NODELIST, or",
    "`nodes` in asyncdeploy.toml. RUN: an id as ps shows it, its beginning, or `last`.",
    "",
    "  asyncdeploy VERB --help           its flags",
    "  asyncdeploy completion SHELL      completion for bash, zsh or fish, to be evaluated",
    "  asyncdeploy help --skill          one page for an agent that works with it",
    "  asyncdeploy --version",
)
