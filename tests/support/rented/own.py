"""Somebody's own provider, as `--provider tests.support.rented.own:PROVIDER` names it: the fake one that a test plays.

Where it is stands in the variable ASYNCDEPLOY_TESTS_FAKE: dialect, url and port.
"""

import os

from tests.support.rented.renter import provider_of

_DIALECT, _URL, _PORT = os.environ["ASYNCDEPLOY_TESTS_FAKE"].split()
PROVIDER = provider_of(_DIALECT, _URL, int(_PORT))
