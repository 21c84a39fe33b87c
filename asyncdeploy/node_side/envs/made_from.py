"""Write down what a project's environment is made from: all files that uv itself would look at, and their digest.

Runs on a node by the environment's own interpreter: Python >= 3.8, standard library only; the client asks for a
wheelhouse's sources here too. Arguments: the note's file, the site, the project's folder, the digest of what was pushed
("" if nobody knows), requirement files.

What uv would look at: requirement and constraint files and what they include; of the project, of the members of its
workspace and of what it depends on by path, pyproject.toml, setup.py, setup.cfg and what their cache-keys name. Where
we cannot tell (a package that is built, not linked: all of its code; an older Python reads no TOML; cache-keys of git
or of variables) whatever was pushed counts: uv is asked, which is quick.
"""

import hashlib
import os
import sys

MOST_FILES = 20000  # that one pattern may match: above it whatever was pushed counts
LARGE = 64 << 20  # a wheel of torch is told by its size and time
HEAD = "asyncdeploy-made-from 1"
SKIPPED = (".git", ".venv", ".asyncdeploy", "__pycache__", "node_modules", "build", "dist")


class Sources:
    """What was found so far."""

    def __init__(self, tree):
        self.tree = tree
        self.files = {}  # path -> digest of its content
        self.packages = {}  # name of a local package ("*": unknown) -> digest of what it is made from
        self.built = set()  # names of those whose code is copied
        self.seen = set()
        self.doubt = False  # whatever was pushed counts

    def digest(self):
        return sha(["%s %s" % each for each in sorted(self.files.items())] + [self.tree if self.doubt else ""])

    def add(self, path):
        """Note a file; return its digest, "" where there is none."""
        path = os.path.normpath(path)
        if path not in self.files:
            try:
                size, time = os.stat(path).st_size, os.stat(path).st_mtime_ns
                self.files[path] = "%d %d" % (size, time) if size > LARGE else file_sha(path)
            except OSError:
                self.files[path] = ""
        return self.files[path]

    def add_folder(self, folder):
        """Note all names in a folder: somebody looks for wheels there."""
        folder = os.path.join(os.path.normpath(folder), "")
        self.files[folder] = sha(sorted(os.listdir(folder)) if os.path.isdir(folder) else ())
        return self.files[folder]

    def add_project(self, folder, name="", built=False):
        """Note a folder with a package in it; built: its code is copied into the environment."""
        folder = os.path.normpath(folder)
        if (folder, built) in self.seen or not os.path.isdir(folder):
            return
        self.seen.add((folder, built))
        parts = [self.add(os.path.join(folder, each)) for each in ("pyproject.toml", "setup.py", "setup.cfg")]
        parts.append(str(os.path.isdir(os.path.join(folder, "src"))))  # uv looks for it
        table = self.toml(os.path.join(folder, "pyproject.toml"))
        uv = as_table(as_table(table.get("tool")).get("uv"))
        for key in as_list(uv.get("cache-keys")):
            parts += self.add_key(folder, key)
        dynamic = as_table(as_table(as_table(table.get("tool")).get("setuptools")).get("dynamic"))
        for value in dynamic.values():
            files = as_table(value).get("file", ())
            parts += [self.add(os.path.join(folder, each)) for each in ([files] if isinstance(files, str) else files)]
        if built and self.tree:
            self.doubt = True
            parts.append(self.tree)
        elif built:
            parts += self.add_matches(folder, "**")
        name = name or str(as_table(table.get("project")).get("name", "")) or "*"
        self.add_package(name, parts, built)
        self.add_needs(folder, table, uv)

    def add_needs(self, folder, table, uv):
        """Note what a project has of its own beside it: members of its workspace, and what it depends on by path."""
        workspace = as_table(uv.get("workspace"))
        outside = {path for each in as_list(workspace.get("exclude")) for path in glob(folder, each)}
        members = {path for each in as_list(workspace.get("members")) for path in glob(folder, each)}
        for member in sorted(members - outside):
            if os.path.isfile(os.path.join(member, "pyproject.toml")):
                self.add_project(member)
        for name, source in as_table(uv.get("sources")).items():
            for each in source if isinstance(source, list) else [source]:
                path = as_table(each).get("path")
                if path:
                    self.add_local(os.path.join(folder, path), name, editable=bool(each.get("editable")))
        project, groups = as_table(table.get("project")), as_table(table.get("dependency-groups"))
        more = (*as_table(project.get("optional-dependencies")).values(), *groups.values())
        for needs in (project.get("dependencies"), uv.get("dev-dependencies"), *more):
            for need in as_list(needs):  # in a group a table stands for another one
                self.add_requirement(str(need), (folder,))

    def add_local(self, path, name="", editable=False):
        if os.path.isdir(path):
            self.add_project(path, name, built=not editable)
        else:
            self.add_package(name or "*", [self.add(path)], True)

    def add_package(self, name, parts, built):
        self.packages[name] = sha([self.packages.get(name, ""), *parts])
        if built:
            self.built.add(name)

    def add_key(self, folder, key):
        """Note what one of a project's cache-keys names."""
        if isinstance(key, str):
            key = {"file": key}
        if isinstance(key, dict) and isinstance(key.get("file"), str):
            return self.add_matches(folder, key["file"])
        if isinstance(key, dict) and isinstance(key.get("dir"), str):
            return [self.add_folder(os.path.join(folder, key["dir"]))]
        self.doubt = True
        return [self.tree]

    def add_matches(self, folder, pattern):
        found = [path for path in glob(folder, pattern) if os.path.isfile(path)]
        if len(found) > MOST_FILES:
            self.doubt = True
            return [self.tree]
        return ["%s %s" % (path, self.add(path)) for path in found]

    def toml(self, path):
        if not os.path.isfile(path):
            return {}
        try:
            import tomllib

            with open(path, "rb") as file:
                return tomllib.load(file)
        except ImportError:  # before Python 3.11
            self.doubt = True
        except (OSError, ValueError):
            pass  # uv will say what is wrong with it
        return {}

    def add_requirements(self, path, base):
        """Note a requirement file and what it includes; paths in it are of the base or of its own folder."""
        path = os.path.normpath(path)
        if path in self.seen:
            return
        self.seen.add(path)
        self.add(path)
        folder, name = os.path.split(path)
        if name in ("pyproject.toml", "setup.py", "setup.cfg"):
            self.add_project(folder)
            return
        try:
            with open(path, errors="replace") as file:
                text = file.read().replace("\\\n", " ").replace("\t", " ")
        except OSError:
            return
        for line in text.splitlines():
            line = os.path.expandvars(line.partition(" #")[0].strip())
            if line and not line.startswith("#"):
                self.add_line(line, (folder, base))

    def add_line(self, line, bases):
        option, rest = split_option(line)
        path = rest.strip("\"'").replace("\\ ", " ")
        path = first_of(bases, local_path(path) or path)
        if option in ("-r", "--requirement", "-c", "--constraint", "-b", "--build-constraint"):
            self.add_requirements(path, bases[1])
        elif option in ("-f", "--find-links"):
            self.add_folder(path)
        elif option in ("", "-e", "--editable"):
            self.add_requirement(rest, bases, editable=bool(option))

    def add_requirement(self, text, bases, editable=False):
        """Note a requirement, if it lies on this disk: "./a", "a @ file:///b", "/c/d.whl"."""
        name, at, url = text.partition("@")
        place = (url if at else text).partition(";")[0].strip()
        is_path = place.startswith((".", "/")) or place.endswith((".whl", ".tar.gz", ".zip"))
        path = local_path(place) or (place if is_path and "://" not in place else "")
        if path:
            whole = first_of(bases, path)
            bare = whole if os.path.exists(whole) else whole.partition("[")[0]
            self.add_local(bare, name.partition("[")[0].strip() if at else "", editable)

    def add_pylock(self, path):
        self.add(path)
        for package in as_list(self.toml(path).get("packages")):
            package, folder = as_table(package), os.path.dirname(path)
            for kind in ("directory", "archive", "sdist"):
                place = as_table(package.get(kind))
                if isinstance(place.get("path"), str):
                    whole = os.path.join(folder, place["path"])
                    self.add_local(whole, str(package.get("name", "")), bool(place.get("editable")))


def find(site, workdir, files, tree=""):
    """Return the Sources of a project's environment."""
    found = Sources(tree)
    if files:
        for file in files:
            found.add_requirements(os.path.join(workdir, file), workdir)
    elif os.path.isfile(os.path.join(workdir, "pyproject.toml")):
        folder = workdir
        while True:  # up to a uv workspace around it
            if os.path.isfile(os.path.join(folder, "pyproject.toml")):
                found.add_project(folder)
            if folder == site or len(folder) <= len(site):
                break
            folder = os.path.dirname(folder)
    elif os.path.isfile(os.path.join(workdir, "pylock.toml")):
        found.add_pylock(os.path.join(workdir, "pylock.toml"))
    else:
        found.add_requirements(os.path.join(workdir, "requirements.txt"), workdir)
    return found


def first_of(folders, path):
    """Return a path that is meant of one of the folders: the first that is there, else of the first folder."""
    places = [os.path.join(folder, path) for folder in folders]
    return next((place for place in places if os.path.exists(place)), places[0])


def as_table(value):
    return value if isinstance(value, dict) else {}


def as_list(value):
    return value if isinstance(value, list) else []  # whatever else it is, uv will say what is wrong with it


def sha(parts):
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def file_sha(path):
    with open(path, "rb") as file:  # no large one
        return hashlib.sha256(file.read()).hexdigest()


def glob(folder, pattern):
    """Return what a pattern of a project file matches, sorted; what uv and builds leave there is not looked into."""
    import glob as globbing
    import itertools

    top, pattern = globbing.escape(folder), str(pattern)
    skipped = set(SKIPPED) - set(pattern.split("/"))  # "build/made.json" is meant
    found = (path for one in alternatives(pattern) for path in globbing.iglob(os.path.join(top, one), recursive=True))
    paths = (path for path in found if not skipped & set(path[len(folder) :].split("/")) and ".egg-info" not in path)
    return sorted(set(itertools.islice(paths, MOST_FILES + 1)))


def alternatives(pattern):
    """Return the patterns that "**/*.{c,h}" stands for: uv knows braces, Python does not."""
    before, brace, rest = pattern.rpartition("{")  # the innermost
    words, close, after = rest.partition("}")
    if not brace or not close:
        return [pattern]
    return [each for word in words.split(",") for each in alternatives(before + word + after)]


def split_option(line):
    """Return a line's option and its value: "-r a", "-ra", "--requirement=a"; "" where it is a requirement."""
    if not line.startswith("-"):
        return "", line
    option, _, rest = line.replace("=", " ", 1).partition(" ") if line.startswith("--") else (line[:2], "", line[2:])
    return option, rest.strip()


def local_path(url):
    """Return the path of a file's URL, None if it is none."""
    if not url.startswith("file:"):
        return None
    from urllib.parse import unquote

    return unquote(url[5:].partition("#")[0].replace("//localhost/", "/").replace("///", "/"))


def write_note(path, found):
    """Write what was found down as made_note.py reads it."""
    fields = [HEAD, found.tree, found.digest(), str(len(found.packages))]
    for name, digest in found.packages.items():
        fields += [name, digest, "built" if name in found.built else "linked"]
    fields += [field for each in found.files for field in (each, stat_of(each))]
    new = "%s.%d" % (path, os.getpid())  # renamed: in a copied environment the name is a link to the other one's
    with open(new, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write("\0".join(fields))
    os.replace(new, path)


def stat_of(path):
    try:
        found = os.stat(path)
        return "%d %d %d %d" % (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    except OSError:
        return "-"


if __name__ == "__main__":
    _note, _site, _workdir, _tree, *_files = sys.argv[1:]
    write_note(_note, find(_site, _workdir, _files, _tree))
