"""Import modules by name in an environment that was just made; say of each that fails why, and what was probably meant.

Runs on a node by the environment's own interpreter: Python >= 3.8, standard library only. Arguments: module names.
"""

import difflib
import importlib
import re
import sys


def plain(name):
    """Return a distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed():
    """Return module name -> names of the distributions that bring it."""
    try:
        from importlib.metadata import packages_distributions
    except ImportError:  # before Python 3.10
        return {}
    return packages_distributions()


def wishes():
    """Return (what to write, distribution name) for all that the project could have asked for."""
    try:
        import tomllib

        with open("pyproject.toml", "rb") as file:
            project = tomllib.load(file)
    except (ImportError, OSError, ValueError):
        return []
    extras = project.get("project", {}).get("optional-dependencies", {})
    groups = project.get("dependency-groups", {})
    found = [("UvEnv(%r)" % extra, need) for extra, needs in extras.items() for need in needs]
    found += [("UvEnv(groups=(%r,))" % name, need) for name, needs in groups.items() for need in needs]
    named = [(text, re.match(r"[A-Za-z0-9._-]+", need)) for text, need in found if isinstance(need, str)]
    return [(text, match.group()) for text, match in named if match]


def meant(name):
    """Return what was probably meant, "" if nothing comes to mind."""
    top = name.partition(".")[0]
    modules = installed()
    for module, distributions in modules.items():
        if module != top and plain(top) in map(plain, distributions):
            return "%s is the package; its module is %s" % (top, module)
    for text, distribution in wishes():
        if plain(distribution) == plain(top) and not modules.get(top):
            return "%s would bring it" % text
    near = difflib.get_close_matches(top, [*modules, *getattr(sys, "stdlib_module_names", ())], 1)
    return "did you mean %s?" % near[0] if near and near[0] != top else ""


def main(names):
    failed = False
    sys.path.insert(0, "")  # where it is started: modules of the project's own may be asked for
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException as error:  # a module may well end the interpreter
            failed = True
            hint = meant(name) if isinstance(error, ImportError) else ""
            print("cannot import %s: %s: %s%s" % (name, type(error).__name__, error, hint and " (" + hint + ")"))
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
