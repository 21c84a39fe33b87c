"""`offers`, `rent`, `rentals`, `give-back`, `reap`: what it costs is said first and last, and what is left, loudest."""

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import attrs
import pytest

from tests.support import tools
from tests.support.people.command_line import CommandLine, Said
from tests.support.rented.fake import FakeProvider

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the rented machines' sshd lets root in")

WANT = ("A", "--gpus", "2", "--num-nodes", "2", "--apart", "--usd-per-hour", "3.1", "--for", "2h")
OWN = {"ASYNCDEPLOY_PROVIDER": "tests.support.rented.own:PROVIDER", "ASYNCDEPLOY_OWNER": "me"}
SHORT = ("--give-up", "1s")
"""In place of ten minutes; what is refused for so long is named."""


@attrs.frozen
class Renter:
    """A person at a shell, with an account at a provider."""

    ad: CommandLine
    fake: FakeProvider

    async def start(self, *words: str, stdout: int = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
        """Begin a call; the provider is played by this process's loop, so nothing may block."""
        place = f"{self.fake.dialect} {self.fake.url} {self.fake.machines.port}"
        return await asyncio.create_subprocess_exec(
            *self.ad.words(*words),
            cwd=self.ad.folder,
            env=self.ad.environ(ASYNCDEPLOY_TESTS_FAKE=place, **OWN),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *words: str) -> Said:
        return await ended(await self.start(*words))

    def living(self) -> list[str]:
        return [one.name for one in self.fake.machines.living()]


async def ended(child: asyncio.subprocess.Process) -> Said:
    async with asyncio.timeout(60):
        out, err = await child.communicate()
    assert child.returncode is not None
    return Said(child.returncode, (out or b"").decode(), err.decode())


async def line_of(stream: asyncio.StreamReader | None, word: str) -> str:
    """The next line that holds a word."""
    assert stream is not None
    async with asyncio.timeout(60):
        while line := (await stream.readline()).decode():
            if word in line:
                return line
    raise AssertionError(f"no line with {word!r} came")


@pytest.fixture
async def renter(alone: CommandLine) -> AsyncIterator[Renter]:
    tools.need("sshd")
    async with FakeProvider("vast") as fake:
        yield Renter(alone, fake)
        assert fake.crimes == []


async def test_offers_say_what_all_machines_cost_together(renter: Renter) -> None:
    said = await renter("offers", *WANT)
    assert said.code == 0, said.err
    head, row, *_ = said.out.splitlines()
    assert head.split() == ["PROVIDER", "GPUS", "WHERE", "EACH/H", "TOGETHER/H", "UNTIL", "THE", "END"]
    assert row.split() == ["vast", "2", "x", "A", "-", "$1.50", "$3.00", "$6.00"]
    document = json.loads((await renter("offers", "A", "--gpus", "2", "--num-nodes", "3", "--apart", "--json")).out)
    assert (document["v"], document["verb"], document["ok"]) == (1, "offers", True)
    assert [each["usd_per_hour_together"] for each in document["offers"]] == [4.5] * 3
    assert (await renter("offers", "B")).out == "nobody offers that now\n"
    two = ("offers", "A", "--gpus", "2", "--num-nodes", "2", "--usd-per-hour")
    assert (await renter(*two, "2.99", "--apart")).out == "nobody offers that now\n", "$1.50 each is $3.00 together"
    assert "$3.00" in (await renter(*two, "3", "--apart")).out
    alone = await renter(*two, "9")
    assert alone.out == "nobody offers that now\n", "machines of vast share no network"
    assert "--apart asks all" in alone.err
    assert "vast: does not say which" in (await renter("rent", *two[1:], "9", "--for", "1h")).err
    assert renter.fake.creates == []


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_what_is_rented_is_given_back_when_somebody_ends_it(renter: Renter, ending: signal.Signals) -> None:
    child = await renter.start("rent", *WANT, *SHORT)
    before = await line_of(child.stderr, "at most")
    assert "2 x 2 A: at most $3.10 an hour together, $6.20 for 2h" in before
    assert "2 nodes, $3.00 an hour together, $6.00 until" in await line_of(child.stderr, "rental ")
    way = (await line_of(child.stdout, "-n ")).split()
    assert len(renter.living()) == 2
    used = await renter("run", *way, "--bare", "--", "echo hi")
    assert (used.code, used.out) == (0, "hi\nhi\n"), used.err
    child.send_signal(ending)
    said = await ended(child)
    assert said.code == 0, said.err
    assert "is given back: 2 machines, about $0.0" in said.err.splitlines()[-1]
    assert renter.living() == []


async def test_detached_it_stays_until_it_is_given_back_from_another_home(renter: Renter) -> None:
    said = await renter("rent", *WANT, *SHORT, "--detach", "--json")
    assert said.code == 0, said.err
    rented, result = said.documents
    assert (rented["event"], result["event"], result["verb"], result["ok"]) == ("Rented", "Result", "rent", True)
    id_ = result["rental"]["id"]
    assert (await renter("reap", *SHORT)).out == ""
    listed = await renter("rentals")
    assert re.search(rf"rental {id_}: 2 machines, \$3\.00 an hour together, \$(6\.00|5\.\d\d) until", listed.out)
    assert all(name in listed.out for name in renter.living())
    document = json.loads((await renter("rentals", "--json")).out)
    assert (document["usd_per_hour"], [each["id"] for each in document["rentals"]]) == (3.0, [id_])
    names = renter.living()
    elsewhere = attrs.evolve(renter, ad=attrs.evolve(renter.ad, home=renter.ad.folder))
    given = await elsewhere("give-back", id_, *SHORT)
    assert given.code == 0, given.err
    assert f"rental {id_}: 2 machines, $3.00 an hour together: giving it back" in given.err
    assert sorted(given.out.splitlines()) == sorted(f"{name} is gone" for name in names)
    assert "2 machines given back" in given.err
    assert renter.living() == []
    assert (await renter("rentals")).out == "nothing is rented\n"


async def test_verbs_know_a_rental_by_its_word_and_trust_its_keys_alone(renter: Renter) -> None:
    id_ = (await renter("rent", *WANT, *SHORT, "--detach", "--json")).documents[-1]["rental"]["id"]
    (renter.ad.folder / "train.py").write_text("import os; print('rank', os.environ['RANK'])\n")
    begun = await renter("start", "@rental", "--env", "system", "--name", "job", "--", "echo started")
    assert begun.code == 0, begun.err
    assert (await renter("wait", "last")).code == 0
    assert "started" in (await renter("logs", "last")).out
    line = (await renter("ssh", "last/1", "--print")).out
    words = [*shlex.split(line)[:-1], "echo by ssh itself"]
    words[1:1] = ["-o", "BatchMode=yes"]
    words.remove("-t")
    done = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    assert (await done.communicate())[0] == b"by ssh itself\n"
    assert not (renter.ad.home / ".ssh" / "known_hosts").exists()

    wrong = await renter("run", "@somebody", "--", "true")
    assert wrong.code == 2
    assert f"@{id_}" in wrong.err
    machines = renter.fake.machines
    [_, second] = machines.living()
    second.stop()
    machines.boot(second, (machines.folder / second.id / "authorized_keys").read_text(), "")
    said = await renter("run", f"@{id_}", "--accept-new", "--bare", "--", "echo hi")  # the same address, another's key
    assert said.code != 0
    assert "the host key is not the pinned one" in said.err
    assert said.out == "hi\n"
    assert (await renter("give-back", id_, *SHORT)).code == 0
    assert (await renter("run", f"@{id_}", "--", "true")).code == 2
    assert [path.name for path in (renter.ad.home / ".local/state/asyncdeploy/rentals").iterdir()] == []


async def test_an_id_that_is_none_is_no_success(renter: Renter) -> None:
    said = await renter("give-back", "abcdefgh")
    assert said.code == 1
    assert "no rental abcdefgh at vast: nothing was ended" in said.err


def assert_loud(said: Said, names: list[str]) -> None:
    """The last thing that is said names each machine, the price and where to look."""
    assert said.code != 0
    last = said.err[said.err.index("NOT GIVEN BACK") :]
    assert len(names) == 2
    assert all(name in last for name in names)
    assert "$3.00 an hour" in last
    assert "cloud.vast.ai/instances" in last
    assert "asyncdeploy reap tries again" in last.splitlines()[-1]
    assert "is given back" not in said.err


async def test_what_cannot_be_given_back_is_said_last(renter: Renter) -> None:
    child = await renter.start("rent", *WANT, *SHORT)
    await line_of(child.stdout, "-n ")
    renter.fake.faults["end refused"] = 10**6
    child.send_signal(signal.SIGINT)
    said = await ended(child)
    assert said.code == 1
    assert_loud(said, renter.living())
    [rental] = json.loads((await renter("rentals", "--json")).out)["rentals"]
    for words in (("give-back", rental["id"]), ("reap",)):
        assert_loud(await renter(*words, *SHORT), renter.living())
    [document] = (await renter("reap", *SHORT, "--json")).documents
    assert (document["ok"], document["error"]["type"]) == (False, "NotGivenBack")
    assert document["error"]["usd_per_hour"] == 3.0
    renter.fake.faults.clear()
    assert (await renter("reap", *SHORT)).code == 0
    assert renter.living() == []


async def test_ctrl_c_before_they_are_there_takes_back_or_names(renter: Renter) -> None:
    renter.fake.faults["no key"] = 10**6
    child = await renter.start("rent", *WANT, *SHORT)
    while len(renter.living()) < 2:
        await asyncio.sleep(0.02)
    child.send_signal(signal.SIGINT)
    assert (await ended(child)).code == 130
    assert renter.living() == []
    child = await renter.start("rent", *WANT, *SHORT)
    while len(renter.living()) < 2:
        await asyncio.sleep(0.02)
    renter.fake.faults["end refused"] = 10**6
    child.send_signal(signal.SIGINT)
    said = await ended(child)
    assert said.code == 130
    assert_loud(said, renter.living())


@pytest.mark.parametrize("is_refused", [False, True])
async def test_an_error_of_our_own_gives_back_and_hides_nothing(renter: Renter, is_refused: bool) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    renter.fake.faults["end refused"] = 10**6 if is_refused else 0
    child = await renter.start("rent", *WANT, *SHORT, stdout=writes)  # the line for `-n` finds no reader
    os.close(writes)
    said = await ended(child)
    if is_refused:
        assert_loud(said, renter.living())
        assert "BrokenPipeError" in said.err
    else:
        assert said.code == 141
        assert renter.living() == []


@pytest.mark.parametrize(
    "words,text",
    [
        (("rent", "A"), "--usd-per-hour 3.50 --for 8h"),
        (("rent", "A", "--usd-per-hour", "0", "--for", "1h"), "a price above 0 was expected"),
        (("rent", "A", "--usd-per-hour", "1", "--for", "31d"), "30 days"),
        (("rent", "A", "--usd-per-hour", "1", "--for", "soon"), "--for: a time such as"),
        (("offers", "A", "--num-nodes", "0"), "from 1 to 64"),
        (("rentals", "--owner", "Me!"), "small letters and digits"),
        (("reap", "--provider", "runpot"), "did you mean 'runpod'"),
        (("reap", "--provider", "runpod"), "RUNPOD_API_KEY"),
        (("reap", "--provider", "nowhere:PROVIDER"), "No module named 'nowhere'"),
    ],
)
async def test_what_makes_no_sense_asks_nobody(renter: Renter, words: tuple[str, ...], text: str) -> None:
    said = await renter(*words)
    assert said.code == 2, said.err
    assert text in said.err
    assert renter.fake.creates == []


def test_settings_that_cannot_be_read_keep_nobody_from_ending_what_costs(alone: CommandLine) -> None:
    (alone.folder / "asyncdeploy.toml").write_text("nodes = [\n")
    assert "no provider: set RUNPOD_API_KEY" in alone("reap").err


def test_without_the_extra_one_line_says_what_to_install(alone: CommandLine) -> None:
    program = (
        "import importlib.util, sys\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'aiohttp' else found(name, *rest)\n"
        "sys.modules['aiohttp'] = None\n"
        "from asyncdeploy.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "rentals"], env=alone.environ(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "error: `asyncdeploy rentals` needs aiohttp: pip install 'asyncdeploy[rent]'\n"
