"""Locales that a node may have and this machine has not.

sshd = bed.start("old", config={"SetEnv": locales.latin1(bed)})
"""

import subprocess

from tests.support import tools
from tests.support.beds.sshd import SshdBed

LATIN1 = "en_US.ISO-8859-1"


def latin1(bed: SshdBed) -> str:
    """Make an ISO-8859-1 locale; return the variables of a login that has it, as sshd's SetEnv takes them."""
    tools.need("localedef")
    folder = bed.folder / "locales"
    folder.mkdir(exist_ok=True)
    if not (folder / LATIN1).exists():
        words = ["localedef", "--quiet", "-i", "en_US", "-f", "ISO-8859-1", str(folder / LATIN1)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if not (folder / LATIN1).exists():
            tools.missing(f"localedef makes no {LATIN1}: {done.stderr.strip()}")
    return f"LOCPATH={folder} LC_ALL={LATIN1} LANG={LATIN1}"
