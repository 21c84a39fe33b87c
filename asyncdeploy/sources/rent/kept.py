"""A rental beside its ledger, for other programs of this machine: read_rentals. It goes when all is given back."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path

from asyncdeploy.sources.rent.ledger import rentals_folder
from asyncdeploy.sources.rent.rental import Rental

MAX_BYTES = 1 << 20
"""Of one: MAX_NODES nodes need some hundred bytes each."""


def keep(rental: Rental, folder: Path) -> None:
    """Write a rental down, for us alone.

    Raises:
        OSError: it cannot be written.
    """
    known = "".join(f"{line}\n" for line in rental.known_hosts)
    for ending, text in ((".known_hosts", known), (".rental", json.dumps(rental.to_dict()))):
        fd, partial = tempfile.mkstemp(prefix=f".{rental.id}-", dir=folder)  # readers see all of it or nothing
        try:
            with os.fdopen(fd, "w") as file:
                file.write(text)
            Path(partial).replace(folder / f"{rental.id}{ending}")
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise


def read_rentals() -> tuple[Rental, ...]:
    """Return the rentals that were made on this machine and are not given back yet, as they were when they began.

    Blocking, some files of a few hundred bytes. No provider is asked: ``find_rentals`` does, and knows those of other
    machines too, but not their keys.

    Returns:
        Rentals in the order of their ids; what cannot be read is left out.
    """
    found: list[Rental] = []
    for path in sorted(rentals_folder().glob("*.rental")):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError), path.open("rb") as file:
            rental = Rental.from_dict(json.loads(file.read(MAX_BYTES)))
            if rental.id == path.stem and path.with_suffix(".ledger").exists() and rental.host_keys.pins:
                found.append(rental)
    return tuple(found)
