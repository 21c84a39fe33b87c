"""What is wrong with the network between nodes, in as few words as say all of it. Text; no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from asyncdeploy.launch.preflight.reachability import ALL_PAIRS
from asyncdeploy.launch.preflight.verdict import OPEN_HINT, SHOWN, Problem, Unreached

NOTHING_SHARED = "these nodes share no private network; a multi-node job cannot work"


def pair_problems(names: Sequence[str], bad: Sequence[Unreached]) -> tuple[Problem, ...]:
    """Return which nodes do not reach which, in as few words as say all of it.

    Args:
        names: of all nodes, in node rank order.
        bad: every pair that failed.
    """
    count, tries = len(names), min(len(names), ALL_PAIRS) - 1
    if count > 1 and len({(each.source, each.target) for each in bad}) == count * tries:
        return (Problem("", NOTHING_SHARED, OPEN_HINT, "\n".join(map(str, bad[:SHOWN]))),)
    found, by_target = [], dict[str, list[Unreached]]()
    for each in bad:
        by_target.setdefault(each.target, []).append(each)
    for to_it in (by_target[target] for target in names if target in by_target):
        if count > 2 and len(to_it) == tries:
            who = "no node" if tries == count - 1 else f"none of the {tries} nodes that tried"
            found.append(Problem("", f"{who} reaches {to_it[0].where}", OPEN_HINT))
        else:
            found += [Problem(each.source, f"cannot reach {each.where}", OPEN_HINT) for each in to_it]
    return tuple(found)


def network_problems(names: Sequence[str], bad: Sequence[Unreached], meeting: Sequence[Problem]) -> tuple[Problem, ...]:
    """Return what is wrong with the network, each thing once.

    Args:
        names: of all nodes, in node rank order.
        bad: every pair that failed.
        meeting: why the nodes could not meet at the first one, if they could not.
    """
    pairs = pair_problems(names, bad)
    if not meeting:
        return pairs
    if any(problem.text == NOTHING_SHARED for problem in pairs):
        evidence = [line for problem in (*meeting, *pairs) for line in (str(problem), problem.evidence)]
        return (Problem("", NOTHING_SHARED, OPEN_HINT, "\n".join(line for line in evidence if line != NOTHING_SHARED)),)
    if any(problem.node != names[0] for problem in meeting):  # it has said already that the first one is not reached
        bad = [each for each in bad if each.target != names[0]]
    return (*meeting, *pair_problems(names, bad))
