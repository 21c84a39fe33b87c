"""Indexes with the credentials that uv would send: from variables, from uv's settings, from what `uv auth` keeps."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import attrs

from asyncdeploy.envs.this_machine import beside_us
from asyncdeploy.tasks.programs import run_blocking

AUTH_S = 30.0
"""`uv auth token` reads a file or asks a keyring."""


@attrs.frozen
class Index:
    """An index as uv knows it.

    Attributes:
        url: as it is written; a user's name and password may stand in it.
        name: "" if it has none.
    """

    url: str = attrs.field(repr=False)
    name: str = ""

    def user(self, environ: Mapping[str, str]) -> tuple[str, str]:
        """Return the user's name and password for it, "" for what nobody says."""
        parts = urlsplit(self.url)
        name = re.sub(r"[^A-Z0-9]", "_", self.name.upper())
        variables = (f"UV_INDEX_{name}_USERNAME", f"UV_INDEX_{name}_PASSWORD") if name else ("", "")
        found = [environ.get(variable, "") for variable in variables]
        return found[0] or parts.username or "", found[1] or parts.password or ""


def known_indexes(folder: Path, environ: Mapping[str, str]) -> list[Index]:
    """Return the indexes that uv's variables and settings name, for a project; those that decide first.

    Args:
        folder: the project.
        environ: variables.
    """
    found = []
    for variable in ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX_URL"):
        for word in environ.get(variable, "").split():
            name, _, url = word.partition("=") if re.match(r"[A-Za-z0-9._-]+=", word) else ("", "", word)
            found.append(Index(url, name))
    found += [Index(url) for url in re.split(r"[\s,]+", environ.get("UV_FIND_LINKS", "")) if url]
    for table in _settings(folder, environ):
        found += [
            Index(each["url"], str(each.get("name", "")))
            for each in table.get("index", ())
            if isinstance(each, dict) and isinstance(each.get("url"), str)
        ]
        for key in ("index-url", "extra-index-url", "find-links"):
            urls = table.get(key, ())
            found += [Index(str(url)) for url in ([urls] if isinstance(urls, str) else urls)]
    return found


def _settings(folder: Path, environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield uv's tables: of the project and those around it, then of the user."""
    for above in (folder, *folder.parents):
        yield _read(above / "uv.toml")
        yield _read(above / "pyproject.toml").get("tool", {}).get("uv", {})
    if not environ.get("UV_NO_CONFIG"):
        home = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        yield _read(home / "uv" / "uv.toml")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}  # not there, or not for us to complain about: uv does


def bare(url: str) -> str:
    """Return a URL without a user, as it stands in a lock."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")


def with_user(url: str, known: list[Index], environ: Mapping[str, str]) -> str:
    """Return the URL of an index, or of a file of one, with the name and password that uv would send: a secret.

    Args:
        url: without them.
        known: what uv's variables and settings name.
        environ: variables.
    """
    if not url.startswith(("http://", "https://")):
        return url
    # A file of an index seldom lies below it: it is enough that they are of one host, as it is for uv.
    same = [each for each in known if bare(each.url) == bare(url)]
    same += [each for each in known if _host(each.url) == _host(url)]
    user, password = next((found for each in same if any(found := each.user(environ))), ("", ""))
    if not password:
        kept = _kept_password(url, user, environ)
        user, password = (user or "__token__", kept) if kept else (user, password)
    if not user and not password:
        return url
    parts = urlsplit(url)
    netloc = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{netloc}"))


def _host(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2]


def _kept_password(url: str, user: str, environ: Mapping[str, str]) -> str:
    """Return what `uv auth login` has kept for an index, "" if nothing."""
    words = [beside_us("uv"), "auth", "token", *(["--username", user] if user else []), url]
    try:
        done = run_blocking(words, within_s=AUTH_S, env=environ)
    except TimeoutError:
        return ""
    return "" if done.status else done.stdout.decode("utf-8", "replace").strip()
