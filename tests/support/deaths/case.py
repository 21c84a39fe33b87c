"""One case: a piece of work on three nodes, one or two deaths at random moments, and what must be true afterwards."""

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

import asyncdeploy as ad
from tests.support.beds.network import Network
from tests.support.beds.sshd_node import SshdNode
from tests.support.deaths import victims
from tests.support.deaths.asker import told
from tests.support.places import ROOT
from tests.support.waiting import eventually

SILENCE_S = 4.0
# What holds a rank and dies with others of its kind at once.
TOGETHER = ("supervisor+guard", "supervisor+keeper", "keeper+guard", "supervisor+keeper+guard")
AROUND = ("client", "client network", "session", "sshd", "worker")  # none of them is a reason to stop anybody
OF = {
    "run": (*AROUND, "leader", "process", "node"),
    "job": (*AROUND, "leader", "process", "node", "supervisor", "keeper", "supervisor+keeper"),
    "ranks": (*AROUND, "leader", "process", "node", "network", "supervisor", "keeper", "guard", *TOGETHER),
}
OF["torchrun"] = OF["ranks"]
HELD = ("supervisor", "keeper", "guard", *TOGETHER)  # whoever of them is left holds the job
# A helper in a session of its own, one that has left its family, and one whose environment says nothing.
HELPERS = """\
setsid sh -c 'while :; do sleep 0.2; done' &
sh -c '(setsid sh -c "while :; do sleep 0.2; done" &)'
(setsid env -i /bin/sleep 86399 &)
"""


@attrs.frozen
class Death:
    """Who dies, where, how ("KILL", "TERM", "STOP CONT", "STOP KILL"), and for how long it stands still."""

    what: str
    node: int
    how: str
    pause_s: float

    def __str__(self) -> str:
        return f"{self.what} of node {self.node}: {self.how}"


@attrs.define
class Case:
    """A piece of work, drawn from a seed: "run" on all nodes, "job" on one, "ranks" or "torchrun" on all."""

    seed: int
    nodes: Sequence[SshdNode]
    network: Network
    deployments: Sequence[ad.Deployment]
    kinds: tuple[str, ...]
    said: list[dict[str, Any]] = attrs.Factory(list)
    hit: list[Death] = attrs.Factory(list)
    orphaned: set[int] = attrs.Factory(set)
    dice: random.Random = attrs.Factory(lambda self: random.Random(self.seed), takes_self=True)
    work: str = ""
    name: str = ""
    status: int = 0
    early: bool = False
    sshds: Sequence[SshdNode] = attrs.Factory(list)
    deaths: list[Death] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        self.work = self.dice.choice(self.kinds)
        self.name = f"case-{self.seed}"
        self.status = self.dice.choice((0, 3)) if self.work in ("run", "job") else 0
        self.early = self.dice.random() < 0.25
        self.sshds = self.nodes[:1] if self.work == "job" else self.nodes
        self.deaths = [self.draw() for _ in range(1 + (self.dice.random() < 0.3))]

    def draw(self) -> Death:
        what = self.dice.choice(OF[self.work])
        ways = {"node": ("KILL",), "network": ("CUT",), "client network": ("CUT",), "sshd": ("STOP CONT",)}
        held = ("KILL",) if "+" in what else ("KILL", "KILL", "TERM", "STOP CONT", "STOP KILL")
        how = self.dice.choice(ways.get(what, held))
        pause_s = self.dice.choice((0.3, 1.0, SILENCE_S * 1.5)) * self.dice.uniform(0.5, 1)
        return Death(what, self.dice.randrange(len(self.sshds)), how, pause_s)

    def __str__(self) -> str:
        deaths = ", ".join(map(str, self.deaths))
        return (
            f"{self.work} that ends with {self.status}; {deaths}; {'early' if self.early else 'while it runs'}"
            f" (ASYNCDEPLOY_SEED={self.seed} ASYNCDEPLOY_KILLS=1 plays it again)"
        )

    # --- the work

    def mark(self, sshd: SshdNode, word: str) -> Path:
        """A file by which a leader says "up" and "end", and hears "go"."""
        return sshd.home / self.name / word

    def line(self) -> str:
        folder = f"$HOME/{self.name}"
        waits = f"echo up >{folder}/up; until [ -e {folder}/go ]; do sleep 0.1; done"
        return f"mkdir -p {folder}\n{HELPERS}{waits}; echo {self.status} >{folder}/end; exit {self.status}"

    def plan(self) -> str:
        return json.dumps(
            {
                "work": self.work,
                "name": self.name,
                "line": self.line(),
                "silence_s": SILENCE_S,
                "known_hosts": str(self.nodes[0].known_hosts),
                "nodes": [sshd.node.to_dict() for sshd in self.sshds],
                "deployments": [each.to_dict() for each in self.deployments],
            }
        )

    async def play(self) -> int:
        """Play it; how many deaths there were."""
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.deaths.asker", self.plan()),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
        )
        listening = asyncio.create_task(self.listen(client))
        try:
            started = await self.moment(client)
            for death in self.deaths:
                await self.die(death, client)
                await asyncio.sleep(self.dice.uniform(0, 0.5))
            await self.settle(started)
            await self.judge(client, listening, started=started)
        finally:
            victims.send([client.pid] if client.returncode is None else [], signal.SIGKILL)
            await client.wait()
            await listening
            for sshd in self.nodes:
                self.network.heal(sshd)
        await self.nobody_lives()
        return len(self.hit)

    async def listen(self, client: asyncio.subprocess.Process) -> None:
        assert client.stdout is not None
        async for line in client.stdout:
            self.said.append(json.loads(line))

    def began(self) -> bool:
        return any("began" in each for each in self.said)

    def up(self) -> bool:
        return all(self.mark(sshd, "up").exists() for sshd in self.sshds)

    async def moment(self, client: asyncio.subprocess.Process) -> bool:
        """Wait until it is time; whether all of it runs by then."""
        if self.early:
            await asyncio.sleep(self.dice.uniform(0.3, 1.5))
        else:
            await eventually(
                lambda: (self.began() and self.up()) or client.returncode is not None, f"{self}: it is up", within_s=60
            )
            await asyncio.sleep(self.dice.uniform(0, 1))
        assert client.returncode is None, f"{self}: the client has ended: {self.said}"
        return self.began() and self.up()

    # --- the deaths

    async def die(self, death: Death, client: asyncio.subprocess.Process) -> None:
        """Let it happen, also its end where it has one."""
        sshd = self.sshds[death.node]
        if death.how == "CUT":
            for each in self.sshds if death.what == "client network" else [sshd]:
                (self.network.hide if death.what == "client network" else self.network.cut)(each)
            await asyncio.sleep(death.pause_s)
            for each in self.sshds:
                self.network.heal(each)
            self.hit.append(death)
            return
        if death.what == "node":
            sshd.restart()
            self.hit.append(death)
            return
        found = self.victims(death, sshd, client)
        if found:
            self.hit.append(death)
        first, *then = death.how.split()
        victims.send(found, signal.Signals[f"SIG{first}"])
        if then:
            await asyncio.sleep(death.pause_s)
            victims.send(found, signal.Signals[f"SIG{then[0]}"])
        if not found:
            return
        if death.what in HELD and death.how != "TERM":
            await asyncio.sleep(0.1)
            alive = [pid for what in ("supervisor", "keeper") for pid in victims.find(sshd, what)]
            if not alive and victims.find(sshd, "process"):
                self.orphaned.add(death.node)

    def victims(self, death: Death, sshd: SshdNode, client: asyncio.subprocess.Process) -> list[int]:
        if death.what == "client":
            return [client.pid] if client.returncode is None else []
        if death.what == "sshd":  # its sessions are killed, and no new one begins for a while
            victims.send(sshd.sessions(), signal.SIGKILL)
            return [sshd.pid]
        found = [pid for what in death.what.split("+") for pid in victims.find(sshd, what)]
        return self.dice.sample(found, 1) if death.what == "process" and found else found

    # --- what was promised

    def goes_on(self, death: Death) -> bool:
        """Whether the work must not feel it."""
        if self.work == "run":
            return False
        if death.what in HELD and death.how in ("KILL", "STOP KILL"):
            return not self.orphaned and (death.how == "KILL" or death.pause_s < SILENCE_S / 2 or self.work == "job")
        if death.what in ("keeper", "guard"):
            return True
        return death.what in AROUND

    def must_end(self, death: Death) -> bool:
        """Whether all of it must end though nobody says so."""
        if self.work == "run":
            mine = death.what in ("client", "session", "sshd") and death.how in ("KILL", "TERM")
            return mine and len(self.sshds) == 1
        if death.what == "leader" and death.how in ("KILL", "TERM", "STOP KILL"):
            return True
        if death.what == "supervisor" and death.how == "TERM":
            return True
        return death.what == "node" or (bool(self.orphaned) and self.work != "job")

    async def settle(self, started: bool) -> None:
        """Give what must end the time to, and what must not the time to do so wrongly; then let the rest end."""
        if started and any(map(self.must_end, self.hit)):
            await eventually(self.nobody_waits, f"{self}: all end by themselves", within_s=60)
        else:
            await asyncio.sleep(self.dice.choice((0.2, 0.2, SILENCE_S * 1.2)))
        if started and all(map(self.goes_on, self.hit)):
            ended = [sshd.node.name for sshd in self.sshds if not self.waits(sshd)]
            assert not ended, f"{self}: nobody had a reason to stop those on {ended}"
        for sshd in self.sshds:
            self.mark(sshd, "go").parent.mkdir(exist_ok=True)
            self.mark(sshd, "go").touch()

    def waits(self, sshd: SshdNode) -> bool:
        return bool(victims.find(sshd, "process") or victims.find(sshd, "leader"))

    def nobody_waits(self) -> bool:
        """Whether nothing runs but on nodes that nobody holds any more."""
        return not any(self.waits(sshd) for rank, sshd in enumerate(self.sshds) if rank not in self.orphaned)

    async def judge(
        self, client: asyncio.subprocess.Process, listening: "asyncio.Task[None]", *, started: bool
    ) -> None:
        """Compare what is recorded, and what people read, with what was."""
        killed = any(death.what == "client" and death.how != "STOP CONT" for death in self.hit)
        await self.stop_orphans()
        if not killed:
            await asyncio.wait([listening], timeout=90)
            assert listening.done(), f"{self}: the client is not back: {self.said}"
        stories = [each["told"] for each in self.said if "told" in each]
        unmoved = started and bool(self.hit) and all(map(self.goes_on, self.hit))
        assert killed or stories or (not unmoved and "error" in self.said[-1]), f"{self}: it said {self.said}"
        if self.work != "run":
            async with ad.Pool(host_keys=ad.HostKeys.strict(self.nodes[0].known_hosts)) as pool:
                await self.judge_jobs(pool)
                if self.work != "job" and self.began():
                    stories.append(await self.asked(pool))
        for story in stories:
            self.judge_cause(story)
            self.judge_story(story)
        if unmoved:
            ends = [self.ended(sshd) for sshd in self.sshds]
            assert ends == [self.status] * len(ends), f"{self}: healthy ones were stopped: {ends}"
            for story in stories:
                assert story["ok"] == (self.status == 0), f"{self}: {story}"

    async def asked(self, pool: ad.Pool) -> dict[str, Any]:
        """What somebody is told who asks later."""
        (launch_id,) = [each["began"] for each in self.said if "began" in each]
        launch = await ad.find_launch([sshd.node for sshd in self.sshds], launch_id, pool=pool)
        async with asyncio.timeout(60):
            return told(await ad.wait_launch(launch, pool=pool))

    def ended(self, sshd: SshdNode) -> int | None:
        """With what status a leader ended by itself; None of one that did not."""
        file = self.mark(sshd, "end")
        return int(file.read_text()) if file.exists() and file.read_text().strip() else None

    async def stop_orphans(self) -> None:
        """Of what nobody holds any more somebody must say that it is to end."""
        async with ad.Pool(host_keys=ad.HostKeys.strict(self.nodes[0].known_hosts)) as pool:
            for rank in self.orphaned:
                remote = pool.at(self.sshds[rank].node)
                for job in await ad.list_jobs(remote):
                    if job.name.startswith(self.name):
                        await ad.stop_job(remote, job, grace_s=0.5)

    async def judge_jobs(self, pool: ad.Pool) -> None:
        for rank, sshd in enumerate(self.sshds):
            remote = pool.at(sshd.node)
            for job in await ad.list_jobs(remote):
                if not job.name.startswith(self.name):
                    continue
                self.judge_status(rank, sshd, await ad.wait_job(remote, job, timeout_s=40))

    def judge_status(self, rank: int, sshd: SshdNode, status: ad.JobStatus) -> None:
        what = f"{self}: node {rank} {status.how}, and its leader ended with {self.ended(sshd)}"
        assert status.ended, what
        rebooted = any(death.what == "node" and death.node == rank for death in self.hit)
        # One that was killed while it wrote nothing down yet has no end of its own.
        assert status.state != "lost" or rebooted or rank in self.orphaned or self.early, what
        if status.state == "exited" and self.work == "job":
            assert status.exit_status == self.ended(sshd), what
        if status.ok:
            assert self.ended(sshd) == 0, what

    def judge_story(self, story: dict[str, Any]) -> None:
        what = f"{self}: {story}"
        if story["ok"]:
            assert [self.ended(sshd) for sshd in self.sshds] == [0] * len(self.sshds), what
        for sshd, end in zip(self.sshds, story["ends"], strict=True):
            if end["status"] == 0 and end["signal"] is None:
                assert self.ended(sshd) == 0, what

    def judge_cause(self, story: dict[str, Any]) -> None:
        """Who watched names the one who died, and who asks later the same."""
        if len(self.hit) == 1 and not self.early and self.work in ("ranks", "torchrun") and self.must_end(self.hit[0]):
            # A supervisor that is told to end was told by a person, who is no cause.
            cause = None if self.hit[0].how == "TERM" and self.hit[0].what == "supervisor" else self.hit[0].node
            assert story["cause"] == cause, f"{self}: {story}"

    async def nobody_lives(self) -> None:
        for rank in self.orphaned:  # nobody is left who could know of what says nothing of itself
            hidden = [pid for pid, line in self.sshds[rank].processes().items() if line == "/bin/sleep 86399"]
            victims.send(hidden, signal.SIGKILL)
        if any(death.how == "CUT" for death in self.hit):
            # A worker at rest stays for as long as sshd takes the client for alive, hours by default: now it does not.
            for sshd in self.nodes:
                sshd.end_sessions()
        try:
            for sshd in self.nodes:
                await eventually(lambda sshd=sshd: not sshd.processes())  # type: ignore[misc]
        except AssertionError:
            left = [f"{sshd.node.name}: {line}" for sshd in self.nodes for line in sshd.processes().values()]
            raise AssertionError(f"{self}: these are left: {left}") from None
