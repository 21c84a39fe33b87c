"""Errors as people see them, whole: what a test's real node gave, with the names of one run taken out."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import asyncdeploy as ad
from asyncdeploy.values.shown.uncaught import short_traceback
from tests.support.places import HOUSE

Told = Callable[..., str]
_CHANGING = (
    (r"SHA256:[A-Za-z0-9+/]{43}", "SHA256:<key>"),
    (r"\bport \d\d+", "port <port>"),
    (r"(?<=127\.0\.0\.1)(\]?):\d\d+", r"\1:<port>"),
    (r"ssh-keyscan -p \d+", "ssh-keyscan -p <port>"),
    (r"/tmp/adbed-[\w-]+", "<bed>"),
    (r"\b(ranks|torchrun)-[a-z2-7]{8}\b", r"\1-<id>"),
    (r"after \d+\.\ds", "after <s>s"),
    (r"\+\d+\.\ds", "+<s>s"),
    (r"by pid \d+ \([^\n]*", "by pid <pid> (<name>)"),
    (r"\b\d+(\.\d)? GB free", "<n> GB free"),
    (r"PATH of the login, [^;\n]+;", "PATH of the login, <PATH>;"),
    (r"(?<= on )[\w.-]+(?=\nhint: give another remote_path; if they are one)", "<host>"),
)


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """`told(error, home=sshd.home)`: the whole text of an error, with words for what every run names otherwise.

    evidence: said in place of the evidence, which is that of a program whose next version may say it in other words.
    """

    def tell(error: BaseException | None, evidence: str = "", **known: object) -> str:
        assert isinstance(error, ad.DeployError | ad.FleetError)
        seen = short_traceback(error)
        several = isinstance(error, ad.FleetError) or not error.node
        assert len(seen.splitlines()) <= (30 if several else 12)
        assert f"{HOUSE}/" not in seen
        text = error.describe()
        for word, value in sorted(known.items(), key=lambda pair: -len(str(pair[1]))):
            text = text.replace(str(value), f"<{word}>")
        text = text.replace(str(tmp_path), "<tmp>")
        if evidence:
            text = re.sub(r"(^  \| .*\n)+", f"  | <{evidence}>\n", text, flags=re.MULTILINE)
        for found, word in _CHANGING:
            text = re.sub(found, word, text)
        return text

    return tell
