"""Pages that programs write: docs/make_*.py, as modules."""

import importlib.util
from types import ModuleType

from tests.support.places import ROOT


def generator(name: str) -> ModuleType:
    """Load docs/<name>.py, which is no package's."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
