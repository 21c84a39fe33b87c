#!/usr/bin/env python3
"""Peers and asyncdeploy over links with delay: what a person waits for whose boxes stand on another continent.

    ./testbed.sh exec python rtt.py RTT_MS [--hosts 4] [--beside CHECKOUT] [--repeat 3]

Each case is run in a new process, asyncdeploy's import included; "inside" is what our process says of the work alone.
With --beside an older checkout of asyncdeploy runs in the same turns. Medians are printed, in seconds and round trips.
"""

import argparse
import asyncio
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import delay
import workspace

HERE = pathlib.Path(__file__).resolve().parent
FIRST_PORT = 2300
RESULTS = 200
OURS = """\
import asyncio, sys, time
from pathlib import Path
import asyncdeploy as ad

known, key, hosts, what, *folders = sys.argv[1:]
NODES = [ad.Node("127.0.0.1", user="root", port=PORT + i, key_path=key, name=f"h{i}") for i in range(int(hosts))]


async def work(pool):
    if what == "exec":
        (await ad.run_all(NODES, "true", pool=pool)).unwrap()
    elif what == "push":
        (await ad.push_all(NODES, ad.Workspace(Path(folders[0]), remote_path="/root/ours"), pool=pool)).unwrap()
    elif what == "collect":
        asked = lambda node: ad.sync_results(pool.at(node), "/root/res", Path(folders[0]) / node.name)
        (await ad.map_nodes(NODES, asked)).unwrap()
    else:
        tiny = ad.Workspace(Path(folders[0]), remote_path="/root/tiny")
        return await ad.fan_out(NODES, tiny, ad.Ranks("true", nproc_per_node=1), ad.SystemEnv(), pool=pool)


async def main():
    async with ad.Pool(host_keys=ad.HostKeys.strict(Path(known))) as pool:
        for _ in range(2 if what.endswith("again") else 1):
            began = time.monotonic()
            launch = await work(pool)
            inside = time.monotonic() - began
            if launch is not None:
                (await ad.wait_launch(launch, pool=pool)).unwrap()
        print(inside)

asyncio.run(main())
""".replace("PORT", str(FIRST_PORT))


class Bed:
    """The hosts' addresses, and a folder with all that the programs are told."""

    def __init__(self, hosts):
        said = subprocess.run([HERE / "testbed.sh", "env"], check=True, text=True, stdout=subprocess.PIPE).stdout
        self.state = pathlib.Path(dict(line.split("=", 1) for line in said.splitlines())["BENCH_STATE"])
        self.addresses = (self.state / "ips").read_text().split()[:hosts]
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="rtt-"))
        self.project = workspace.make("w1", self.state / "workspaces")
        self.tiny = self.folder / "tiny"
        self.tiny.mkdir()
        (self.tiny / "a.py").write_text("print(1)\n")
        self.write_files()

    def write_files(self):
        key = " ".join((self.state / "etc/ssh_host_ed25519_key.pub").read_text().split()[:2])
        names = [f"h{number}" for number in range(len(self.addresses))]
        ports = range(FIRST_PORT, FIRST_PORT + len(names))
        (self.folder / "known").write_text(
            "".join(f"[127.0.0.1]:{port} {key}\n{name} {key}\n" for name, port in zip(names, ports, strict=True))
        )
        (self.folder / "hosts").write_text("".join(f"{name}\n" for name in names))
        hosts = (f"Host {name}\n Port {port}\n HostKeyAlias {name}\n" for name, port in zip(names, ports, strict=True))
        (self.folder / "config").write_text(
            "".join(hosts) + f"Host *\n HostName 127.0.0.1\n User root\n IdentityFile {self.state}/id\n"
            f" IdentitiesOnly yes\n UserKnownHostsFile {self.folder}/known\n GlobalKnownHostsFile none\n"
            " StrictHostKeyChecking yes\n BatchMode yes\n LogLevel ERROR\n KexAlgorithms curve25519-sha256\n"
            " HostKeyAlgorithms ssh-ed25519\n"
        )

    def each(self, line):
        """A shell line for all hosts at once, {} is its name."""
        count = len(self.addresses)
        return ["bash", "-c", f"xargs -a {self.folder}/hosts -P {count} -I{{}} bash -c '{line}'"]

    def ours(self, what, *folders):
        known, key = self.folder / "known", self.state / "id"
        return [sys.executable, "-c", OURS, *map(str, (known, key, len(self.addresses), what, *folders))]

    def cases(self):
        """(name, what is cleared before each run, {who: command})."""
        ssh = f"ssh -F {self.folder}/config"
        tar = f'tar -C {self.project} -cf - . | {ssh} {{}} "mkdir -p /root/ws; tar -C /root/ws -xf -"'
        rsync = f'rsync -a -e "{ssh}" --delete {self.project}/ {{}}:/root/ws/'
        got, theirs = self.folder / "got", self.folder / "rgot"
        back = f'mkdir -p {theirs}/{{}}; rsync -a -e "{ssh}" {{}}:/root/res/ {theirs}/{{}}/'
        push = self.ours("push", self.project)
        return [
            ("one command", "", {"ssh": self.each(f"{ssh} -n {{}} true"), "ours": self.ours("exec")}),
            ("push, cold", "ws ours", {"tar": self.each(tar), "rsync": self.each(rsync), "ours": push}),
            ("push, unchanged", "", {"rsync": self.each(rsync), "ours": push}),
            ("collect", "", {"rsync": self.each(back), "ours": self.ours("collect", got)}),
            ("fan_out, cold", "tiny", {"ours": self.ours("launch", self.tiny)}),
            ("fan_out, again", "", {"ours": self.ours("launch again", self.tiny)}),
        ]

    def clear(self, what):
        for number in range(1, len(self.addresses) + 1):
            root = self.state / f"h{number}" / "root"
            for folder in what.split():
                shutil.rmtree(root / folder, ignore_errors=True)
            for result in range(RESULTS):
                path = root / "res" / f"d{result % 5}" / f"{result}.txt"
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(f"{result} " * 2000)
        for folder in ("got", "rgot"):  # what came home
            shutil.rmtree(self.folder / folder, ignore_errors=True)


async def measure(argv, environ):
    """(seconds of the whole process, seconds inside or None)."""
    began = time.monotonic()
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environ
    )
    said, error = await process.communicate()
    took = time.monotonic() - began
    if process.returncode:
        sys.exit(f"{argv[:3]}: {error.decode()[-500:]}")
    return took, float(said) if argv[0] == sys.executable else None


async def main(asked):
    bed = Bed(asked.hosts)
    for number, address in enumerate(bed.addresses):
        await delay.serve(("127.0.0.1", FIRST_PORT + number), (address, 22), asked.rtt_ms / 2000)
    environ = dict(os.environ)
    for name, what, runs in bed.cases():
        rows = {}
        if asked.beside:
            runs = {**runs, "ours before": runs["ours"]}
        for argv in runs.values() if not what else ():
            await measure(argv, environ)  # what is not cleared is there before the first turn
        for _ in range(asked.repeat):
            for who, argv in runs.items():
                bed.clear(what)
                path = {"PYTHONPATH": asked.beside} if who == "ours before" else {}
                rows.setdefault(who, []).append(await measure(argv, environ | path))
        print(f"| {name} | " + " | ".join(told(who, times, asked.rtt_ms) for who, times in rows.items()), flush=True)
    shutil.rmtree(bed.folder)


def told(who, times, rtt_ms):
    whole = statistics.median(took for took, _ in times)
    text = f"{who} {whole:.2f} s, {whole / rtt_ms * 1000:.1f} RTT"
    inside = [inside for _, inside in times if inside is not None]
    return text + (f" (inside {statistics.median(inside) / rtt_ms * 1000:.1f})" if inside else "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("rtt_ms", type=float)
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--beside")
    parser.add_argument("--repeat", type=int, default=3)
    asyncio.run(main(parser.parse_args()))
