"""How people and Slurm write nodes: texts, ranges, hostfiles, lists; and what providers say of machines."""

import asyncio
import contextlib
import os
import re
import subprocess
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from asyncdeploy.nodes.node import Node
from asyncdeploy.nodes.parse import MAX_NODES, fold_names, parse_nodes, read_hostfile
from asyncdeploy.sources.rent.errors import ProviderError
from asyncdeploy.sources.rent.ledger import Entry, Ledger
from asyncdeploy.sources.rent.providers.api import Api
from asyncdeploy.sources.rent.providers.lambda_cloud import LambdaCloud
from asyncdeploy.sources.rent.providers.prime import PrimeIntellect
from asyncdeploy.sources.rent.providers.runpod import RunPod
from asyncdeploy.sources.rent.providers.vast import Vast
from asyncdeploy.sources.rent.want import Want
from asyncdeploy.sources.sky import sky_nodes
from asyncdeploy.sources.slurm.job import slurm_nodes, slurm_until
from tests.fuzz.dough import Dough
from tests.fuzz.target import MOST_BYTES, target
from tests.fuzz.targets.answers import JSON_WORDS, assert_shown
from tests.support.tools import find

NODE_WORDS = (
    *(
        b"root@",
        b"gpu",
        b"[01-08]",
        b"[a-c]",
        b"[1,3]",
        b":22",
        b"::1",
        b"[::1]:22",
        b"ssh ",
        b"-p 22 ",
        b"-J a,b ",
        b",",
    ),
    *(
        b" ",
        b"ssh://",
        b"%25",
        b"10.0.0.1",
        b"-o Port=2 ",
        b"-i ~/k ",
        b"\n",
        b"\\\n",
        b"'",
        b"[1-10000]",
        b"-",
        b"\xc2\xb2",
    ),
    *(b"[99999999999999999-999999999999999999]", b"[", b"]", b"@", b"%", b"0x7f", b"\xe2\x80\x8b"),
)


@contextlib.contextmanager
def quiet() -> Any:
    """Notes about what has no effect are no errors here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@target(*NODE_WORDS)
def node_texts(data: bytes) -> None:
    """A text is nodes that write themselves again, or a ValueError that shows no more than its beginning."""
    with quiet():
        text = data.decode("utf-8", "replace")
        for read in (parse_nodes, Node.parse):
            try:
                found = read(text)
            except ValueError as error:
                assert (
                    "expected" in str(error) or "two nodes" in str(error) or "same" in str(error) or ":" in str(error)
                )
                assert len(str(error)) < 3000
                continue
            nodes = (found,) if isinstance(found, Node) else found
            assert len(nodes) <= MAX_NODES
            for node in nodes[:20]:
                assert Node.from_dict(node.to_dict()) == node
        names = re.findall(r"[A-Za-z0-9_.-]{1,20}", text)[:50]
        folded = fold_names(names)
        with contextlib.suppress(ValueError):
            assert [node.host for node in parse_nodes(folded)] == names


@target(
    b"gpu1 slots=8\n",
    b"gpu[01-08]",
    b" slots=",
    b"max_slots=9",
    b"#",
    b"=",
    b"\n",
    b"\r\n",
    b"\xef\xbb\xbf",
    b"\xff",
    b"9" * 10,
    most_bytes=2 * MOST_BYTES,
)
def hostfiles(data: bytes) -> None:
    """A hostfile is nodes, or a ValueError that names file and line."""
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder, "hosts")
        path.write_bytes(data)
        try:
            found = read_hostfile(path)
        except ValueError as error:
            assert str(error).startswith(str(path))
            return
        assert 1 <= len(found) <= MAX_NODES


@target(b"\xff", b"gpu", b"[1-3]", b"2(x3)", b",", b"1", b"(x", b")", b"9" * 13, b"\xc2\xb2", b"999999(x999999)")
def slurm_variables(data: bytes) -> None:
    """Slurm's variables are the nodes of a job, or a ValueError that names the variable."""
    names = ("SLURM_JOB_NODELIST", "SLURM_TASKS_PER_NODE", "SLURM_GPUS_ON_NODE", "SLURM_JOB_END_TIME", "SLURM_JOB_ID")
    pieces = [piece.decode("utf-8", "replace") for piece in Dough(data).pieces()]
    said = dict(zip(names, pieces, strict=False))
    with quiet():
        for connect in ("ssh", "srun"):
            with contextlib.suppress(ValueError):
                nodes = slurm_nodes(said, connect=connect)  # type: ignore[arg-type]
                assert 1 <= len(nodes) <= MAX_NODES
        with contextlib.suppress(ValueError):
            slurm_until(said)


@target(b"gpu", b"node-", b"01", b"2", b"10", b"a", b"\n", b"-", b"rack1-gpu", b"099", b"100", slow=True)
def slurm_lists(data: bytes) -> None:
    """A list as Slurm itself writes it is the names that Slurm itself reads from it, in its order."""
    names = list(dict.fromkeys(re.findall(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", data.decode("latin-1"))))[:40]
    if not names or find("scontrol") is None:
        return
    written = _said("hostlist", ",".join(names))
    expected = _said("hostnames", written).split("\n")
    assert [node.host for node in slurm_nodes({"SLURM_JOB_NODELIST": written})] == expected


def _said(what: str, names: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "slurm.conf")  # without one it says nothing, of lists either
        file.write_text("ClusterName=x\nSlurmctldHost=localhost\n")
        line = [find("scontrol") or "", "show", what, names]
        env = {**os.environ, "SLURM_CONF": str(file)}
        return subprocess.run(line, env=env, capture_output=True, text=True, check=True).stdout.strip()


@target(
    b"Host ",
    b"train",
    b"-worker",
    b"1",
    b"2",
    b"\n",
    b"\t",
    b"=",
    b"9" * 30,
    b"\xff",
    b"host train\n",
    b"9" * 5000,
    most_bytes=2 * MOST_BYTES,
)
def sky_files(data: bytes) -> None:
    """A file of SkyPilot is a cluster's nodes, or a ValueError."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "train").write_bytes(data)
        with contextlib.suppress(ValueError):
            assert sky_nodes("train", folder=folder)[0].host == "train"


class Said(Api):
    """An Api to which everything was answered alike, as `_judge` takes it."""

    def __init__(self, status: int, after: str | None, data: bytes) -> None:
        self.name, self._variable, self._key = "liar", "LIAR_KEY", SimpleNamespace(value="the key")  # type: ignore[assignment]
        self._answer = status, after, data

    async def _repeat(self, method: str, path: str, *_: Any, **__: Any) -> Any:
        return self._judge(f"{method} {path}", *self._answer)


@target(
    *JSON_WORDS,
    *(
        b'"data": [',
        b'"instances": [',
        b'"pods": [',
        b'"offers": [',
        b'"items": [',
        b'"gpus": [',
        b'"id": "x"',
        b'"id": 7',
    ),
    *(
        b'"22/tcp": [{"HostPort": "',
        b'"ports": {',
        b'"actual_status": "running"',
        b'"public_ipaddr": "1.2.3.4"',
        b'"status": ',
    ),
    *(
        b'"ssh": {"direct": {"host": "h", "port": 22}}',
        b'"sshConnection": "root@1.2.3.4 -p 22"',
        b'"dph_total": 1',
        b'"name": ',
    ),
    *(
        b'"price": {"secure": 1}',
        b'"dph_base": 0.1',
        b'"gpu_name": "H100"',
        b'"error": ',
        b'"new_contract": 1',
        b'"RUNNING"',
    ),
    *(
        b"\xc8",
        b"\x01",
        b'"success": false',
        b"\xc2\xb2",
        b'"ACTIVE"',
        b'"installationStatus": "FINISHED"',
        b'"cost": 1e999',
    ),
)
def providers(data: bytes) -> None:
    """Whatever a provider answers is offers and machines whose values can be used, or a ProviderError."""
    dough = Dough(data)
    status, after = dough.of((200, 200, 200, 404, 429, 500)), dough.of((None, "1", "\u00b2", "9" * 500, "soon"))
    rest = dough.rest()
    want = Want("H100", usd_per_hour=100.0, together=False)
    for kind in (RunPod, Vast, LambdaCloud, PrimeIntellect):
        provider = kind(api_key="x")
        object.__setattr__(provider, "_api", Said(status, after, rest))
        try:
            for offer in asyncio.run(provider.offers(want)):
                assert offer.usd_per_hour >= 0
                str(offer)
        except ProviderError as error:
            assert_shown(error)
        try:
            for instance in asyncio.run(provider.instances()):
                assert type(instance.port) is int
                Entry(instance.name, kind.name, 0.0).see(instance)
        except ProviderError as error:
            assert_shown(error)


@target(
    *JSON_WORDS,
    b'{"what": "ask"',
    b'"name": "ad-me-abcdefgh-1-1700000000"',
    b'"at": ',
    b'"what": "made"',
    b'"what": "gone"',
    b"\n",
    b"}",
)
def rental_ledgers(data: bytes) -> None:
    """The ledger of a rental, torn or written in by somebody: what it says clearly counts."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        ledger = Ledger(Path("x.ledger"), file.fileno())
        ledger.is_over(0.0)
