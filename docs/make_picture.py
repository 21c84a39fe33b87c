"""Make picture.svg, which the README opens with: `python docs/make_picture.py`. Needs tmux, ssh and torch.

What it shows is a real run: four SSH nodes inside this process, a project, and a launch typed in a terminal.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from asyncdeploy.testing import LocalCluster

PICTURE = Path(__file__).parent / "picture.svg"
COLUMNS, ROWS = 100, 40
LINE = "asyncdeploy launch train.py -n gpu[1-4] -- --lr 0.1"
THEN = "asyncdeploy collect last"
PROMPT = "$ "
PATIENCE_S = 60
LOOK_S = 0.1

TRAIN = """\
import os, pathlib, sys
import torch.distributed as dist
import torch

dist.init_process_group("gloo")
rank, lr = dist.get_rank(), float(sys.argv[2])
weight = torch.zeros(1)
for step in range(1, 4):
    slope = 2 * (weight - (rank + 1))
    dist.all_reduce(slope)
    weight -= lr * slope / dist.get_world_size()
    if rank == 0:
        print(f"step {step}: weight {weight.item():.3f}", flush=True)
folder = pathlib.Path("results")
folder.mkdir(exist_ok=True)
torch.save(weight, folder / "weight.pt")
dist.destroy_process_group()
"""
SETTINGS = '[env]\ntype = "system"\n[launch]\nenv = { PYTHONWARNINGS = "ignore" }\n'

# rich's own form names a web font. This one takes what the reader's system has; letters are set to the grid anyhow.
FORM = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
font-size: {char_height}px; line-height: {line_height}px;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def write_home(folder: Path, cluster: LocalCluster) -> dict[str, str]:
    """Write the home and the project of somebody whose nodes are called gpu1 to gpu4; return the variables."""
    project, config = folder / "project", folder / "etc" / "ssh" / "ssh_config"
    project.mkdir()
    config.parent.mkdir(parents=True)
    (project / "train.py").write_text(TRAIN)
    (project / "asyncdeploy.toml").write_text(SETTINGS)
    hosts = (
        f"Host gpu{number}\n  HostName {node.host}\n  Port {node.port}\n  User {node.user}\n"
        f"  IdentityFile {node.key_path}\n"
        for number, node in enumerate(cluster.nodes, 1)
    )
    config.write_text("".join(hosts) + f"Host *\n  UserKnownHostsFile {cluster.known_hosts}\n")
    ssh = folder / "bin" / "ssh"  # ssh reads the config of the home that /etc/passwd names, not of HOME
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
    ssh.chmod(0o755)
    (folder / "rc").write_text(f"PS1='{PROMPT}'\n")  # a root's bash takes none from its variables
    python = Path(sys.executable).parent
    return {
        "HOME": str(folder),
        "PATH": f"{folder / 'bin'}:{python}:{os.environ['PATH']}",
        "PYTHONPATH": str(PICTURE.parent.parent),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
    }


class Terminal:
    """A shell in a window of tmux."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "tmux"

    async def tmux(self, *words: str, **more: object) -> str:
        """Run a command of tmux, and return what it prints."""
        process = await asyncio.create_subprocess_exec(
            "tmux", "-S", str(self._socket), "-f", "/dev/null", *words, stdout=asyncio.subprocess.PIPE, **more
        )
        out, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"tmux {words[0]}: exit status {process.returncode}")
        return out.decode()

    async def type(self, line: str) -> None:
        """Type a line behind the prompt, and wait for the next one."""
        await self._prompts(True)
        await self.tmux("send-keys", "-l", line)
        await self.tmux("send-keys", "Enter")
        await self._prompts(False)
        await self._prompts(True)

    async def _prompts(self, wanted: bool) -> None:
        """Wait until an empty prompt is the last line, or no longer is."""
        async with asyncio.timeout(PATIENCE_S):
            while ((await self.screen()).rpartition("\n")[2] == PROMPT.strip()) != wanted:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)

    async def screen(self) -> str:
        """Return what is to be seen, with its colours."""
        return "\n" + (await self.tmux("capture-pane", "-e", "-p", "-S", "-200")).rstrip()


async def run() -> str:
    """Return what a person sees of a launch, with colours."""
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    folder = Path(tempfile.mkdtemp(prefix="picture-"))
    try:
        async with LocalCluster(4, path=path) as cluster:
            environ, terminal = write_home(folder, cluster), Terminal(folder)
            size = ("-x", str(COLUMNS), "-y", str(ROWS))
            words = ("new-session", "-d", *size, f"exec bash --rcfile {folder / 'rc'}")
            await terminal.tmux(*words, env=environ, cwd=folder / "project")
            try:
                await terminal.type(LINE)
                await terminal.type(THEN)
                return (await terminal.screen()).removesuffix(f"\n{PROMPT.strip()}").strip("\n")
            finally:
                await terminal.tmux("kill-server")
    finally:
        shutil.rmtree(folder)


def picture(screen: str) -> str:
    """Return what was seen as an SVG that needs nothing from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen))
    drawn = console.export_svg(title="asyncdeploy", theme=MONOKAI, code_format=FORM, unique_id="picture")
    return re.sub(r"[ \t]+$", "", drawn, flags=re.MULTILINE)


if __name__ == "__main__":
    seen = asyncio.run(run())
    sys.stdout.write(seen + "\n")
    PICTURE.write_text(picture(seen))
