"""Whatever an ssh_config looks like: no word that ssh follows for a host escapes those who decide to ask it."""

import random
import subprocess
from pathlib import Path

import attrs
import pytest

from asyncdeploy.connect.ssh.config.files import UNNAMED, WrittenWords
from tests.support.tools import need

HOSTS = ["gpu1", "GPU1", "10.0.0.1", "a.lab"]
PATTERNS = "gpu1 gpu? * !gpu1 GPU1 10.0.0.* !10.0.0.1 *.lab a* *-host gpu1,a.lab #gpu1 g#1 !* =gpu1 gp\\u1 ** !a*,gpu1"
QUOTED = ['"gpu1"', "'gpu1'", '"gpu1 a.lab"', "# gpu1"]
MATCHES = ["all", "host gpu1", "originalhost gpu*", "!host gpu1", "user root", "all # x", "final all", "host=gpu1"]
WORDS = {
    "HostKeyAlias": "k",
    "User": "u",
    "Port": "7",
    "ProxyJump": "gate",
    "BindAddress": "192.0.2.1",
    "CheckHostIP": "yes",
}
BETWEEN = [" ", "\t", "=", " = ", "  "]


@attrs.frozen
class Writer:
    """Writes files as people, tools and nobody would."""

    dice: random.Random
    folder: Path

    def file(self, path: Path, depth: int = 0) -> None:
        """Write a file, and those that it includes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(self.line(depth) for _ in range(self.dice.randint(3, 8))) + "\n")

    def line(self, depth: int) -> str:
        """One line."""
        kind, pick, between = self.dice.random(), self.dice.choice, self.dice.choice(BETWEEN)
        if kind < 0.35:
            patterns = self.dice.choices([*PATTERNS.split(), *QUOTED], k=self.dice.randint(1, 3))
            return pick(["Host", "HOST", '"Host"']) + between + pick([" ", "\t"]).join(patterns)
        if kind < 0.45:
            return f"Match {pick(MATCHES)}"
        if kind < 0.55 and depth < 2:
            name = pick(["i1", "i=2", "i#3", "sub/i4"])
            self.file(self.folder / name, depth + 1)
            return f"Include{between}{self.folder / pick([name, name, 'i*', 'i?1', 'i[0-9]', 'sub/*'])}"
        word = pick(list(WORDS))
        value = pick([WORDS[word], f'"{WORDS[word]}"'])
        return f"{pick(['', '  '])}{pick([word, word.upper()])}{between}{value}{pick(['', ' ', ' # x'])}"


def answer(config: Path, host: str) -> set[tuple[str, str]] | None:
    """What `ssh -G` prints of a host, but for its name; None if it cannot read the file."""
    asked = subprocess.run(["ssh", "-F", config, "-G", "--", host], capture_output=True, text=True, check=False)
    lines = {line.partition(" ")[::2] for line in asked.stdout.split("\n") if line}
    return None if asked.returncode else {(word, said) for word, said in lines if word not in ("host", "hostname")}


@pytest.mark.parametrize("seed", range(8))
def test_k1_no_word_that_ssh_follows_escapes(seed: int, tmp_path: Path) -> None:
    need("ssh")
    config, nothing = tmp_path / "config", tmp_path / "nothing"
    nothing.touch()
    usual, followed = answer(nothing, UNNAMED), 0
    assert usual is not None
    for number in range(20):
        Writer(random.Random(f"{seed}-{number}"), tmp_path / "more").file(config)
        read, of_all = WrittenWords.read(config), answer(config, UNNAMED)
        for host in HOSTS:
            said = answer(config, host)
            if said is not None:
                words = {word for word, _ in said - usual}
                assert words <= read.of(host), config.read_text()
                assert read.tell_apart(host) or said == of_all, config.read_text()
                followed += len(words)
    assert followed > 50
