"""What a push must do on a node, found by looking at every name; push_by_sh makes the same plan of what sh has seen."""

import os
import stat

from asyncdeploy.node_side.push.site_record import ABSENT, DIR, FILE, LINK, MAX_DEPTH, META, Refused, ancestors

FEW = 3  # as many of a tree's files may always go
MANY = 10  # and as many as this, unless they are more than half of it
GENERATED = (b"pyvenv.cfg", b"CACHEDIR.TAG")  # what an environment or a cache says of its folder
PYCACHE = b"__pycache__"
OTHER_META = META.upper()  # our own folder by another name: there only where a disk tells no case


class Plan:
    """What a push must do: found by looking at every name, changing nothing.

    Attributes: moves (entries to be renamed into place), modes (entries that only need their mode), removals (paths),
    edited (paths whose loss must be agreed to), restored (paths that had been removed on the node), have (sha256 to a
    path here), kept (old entries that stay because they are not checked out at the client).
    """

    def __init__(self, worker, site, old, new, fresh, stands=False):
        """Make the plan.

        Args: old and new (entries), fresh (the site is empty), stands (all of old was just seen to be as it was put
        there, so that only names that the new tree has otherwise need a look).
        """
        self.worker, self.site = worker, site
        self.old = {entry.path: entry for entry in old}
        absent = {entry.path for entry in new if entry.kind == ABSENT}
        if absent:
            new = [entry for entry in new if entry.kind != ABSENT]
        self.entries = new
        self.new = {entry.path: entry for entry in new}
        self.moves, self.modes, self.removals, self.edited, self.restored = [], [], [], [], []
        self.have, self.kept = {}, []
        self.gone = set()  # folders that are not there, or are something else: nothing of ours stands below
        self.blockers = []
        self.made = None  # what we once made, once that is asked
        self.folders = 0  # how many must be made
        self.check_case()
        if fresh:
            self.moves, self.folders = list(new), len(ancestors(self.new))
            return
        left = [entry for entry in old if entry.path not in self.new]
        met = [entry for entry in new if not self.keep(entry)] if stands else new
        self.check_parents(ancestors(entry.path for entry in met), () if stands else ancestors(self.old))
        if left:
            spared = self.generated(left)
            left = [
                entry for entry in left if not (absent and self.keep_absent(entry, absent)) and entry.path not in spared
            ]
        for entry in left:
            self.leave(entry)
        self.leaving = frozenset(self.removals)
        for entry in met:
            self.meet(entry)

    def check_case(self):
        """Refused where the disk takes two names for one, as exFAT does with "a" and "A": one of them would be lost."""
        if self.site.look(OTHER_META) is None:
            return
        spelled = {}
        paths = {*self.new, *self.old}
        for path in sorted(paths | ancestors(paths)):
            other = spelled.setdefault(os.fsdecode(path).casefold(), path)
            if other != path:
                raise Refused(b"lacks", self.site.path, b"case", other + b" and " + path)

    def keep_absent(self, entry, absent):
        """Whether a name is not checked out at the client: it stays, and stays ours unless it was changed here."""
        if entry.path not in absent and absent.isdisjoint(ancestors([entry.path])):
            return False
        found = self.find(entry)
        if found is not None and (entry.holds(found) or self.site.is_by_step(found)):
            self.kept.append(entry)
        return True

    def generated(self, left):
        """Return the paths of environments and caches that earlier pushes brought: no longer ours to decide on."""
        old, new = generated_folders(self.old), generated_folders(self.new)
        folders = old.difference(new)
        return {entry.path for entry in left if not folders.isdisjoint(ancestors([entry.path]))} if folders else ()

    def wiped(self):
        """Return the names that would go with their content, if those are most of what was brought before."""
        contents = {entry.sha for entry in self.entries if entry.kind == FILE}
        lost = [path for path in self.removals if self.old[path].kind != DIR and self.old[path].sha not in contents]
        before = sum(entry.kind != DIR for entry in self.old.values())
        if not any(entry.kind != DIR for entry in self.entries) and not self.kept:
            return lost
        return lost if len(lost) > max(before // 2, MANY - 1) or FEW <= len(lost) == before else []

    def changes(self):
        return bool(self.moves or self.modes or self.removals)

    def keep(self, entry):
        """Whether a wanted name is just what stands there."""
        old = self.old.get(entry.path)
        if old is None or old.content() != entry.content() or old.mode != entry.mode:
            return False
        entry.size, entry.mtime, entry.ctime, entry.ino = old.size, old.mtime, old.ctime, old.ino
        if old.kind == FILE:
            self.have[old.sha] = old.path
        return True

    def check_parents(self, wanted, ours):
        for path in sorted(wanted.union(ours)):
            if path.rpartition(b"/")[0] in self.gone:
                self.gone.add(path)
                self.folders += path in wanted
                continue
            found = self.site.look(path)
            if found is None or not stat.S_ISDIR(found.st_mode):
                self.gone.add(path)
                self.folders += path in wanted
                if found is not None and path in wanted and path not in self.old:
                    self.edited.append(path)
                    self.blockers.append(path)

    def find(self, entry):
        return None if entry.path.rpartition(b"/")[0] in self.gone else self.site.look(entry.path)

    def leave(self, entry):
        """Decide on a name that is no longer wanted."""
        found = self.find(entry)
        if found is None:
            return
        if not entry.holds(found):
            content = self.site.content_of(self.worker, entry.path, found)
            if content is None or content[0] == DIR:
                return  # somebody put something else there: not ours to remove
            if content != entry.content() and not self.site.is_by_step(found):
                self.edited.append(entry.path)
        elif entry.kind == FILE:
            self.have[entry.sha] = entry.path
        self.removals.append(entry.path)

    def meet(self, entry):
        """Decide on a name that is wanted."""
        old, found = self.old.get(entry.path), self.find(entry)
        if found is None:
            if old is not None:
                self.restored.append(entry.path)
            self.moves.append(entry)
            return
        by_step = False
        if old is not None and old.holds(found):
            content, mode = old.content(), old.mode
            if old.kind == FILE:
                self.have[old.sha] = old.path
        elif self.site.is_by_step(found) and old is not None and self.keep(entry):
            return  # a lock that uv brought up to date, say: it stays until another one is pushed
        else:
            by_step = self.site.is_by_step(found)
            content, mode = self.site.content_of(self.worker, entry.path, found), stat.S_IMODE(found.st_mode)
        if content != entry.content():
            lost = content is not None and found.st_size == 0  # a crash of the node can leave that of a file
            self.replace(entry, content, by_step or (old is not None and (lost or content == old.content())))
            return
        if entry.kind != DIR:
            entry.note(found)
        if entry.kind != LINK and mode != entry.mode and not (entry.kind == DIR and old is None):
            self.modes.append(entry)

    def replace(self, entry, content, ours):
        """Decide on a wanted name at which something else stands."""
        if content is not None and content[0] == DIR:
            if not self.only_ours(entry.path, 0):
                raise Refused(b"conflict", self.site.path, b"blocked", entry.path)
        elif not ours:
            self.edited.append(entry.path)
        if entry.kind == DIR:
            self.blockers.append(entry.path)
        self.moves.append(entry)

    def only_ours(self, folder, depth):
        """Whether a folder holds nothing but names that this push removes, and folders that we once made."""
        made = self.made = self.made or ancestors(self.old).union(self.old)
        if depth > MAX_DEPTH:
            return False
        for name in self.site.names_in(folder):
            path = folder + b"/" + name
            found = self.site.look(path)
            if found is not None and stat.S_ISDIR(found.st_mode):
                if path not in made or not self.only_ours(path, depth + 1):
                    return False
            elif path not in self.leaving:
                return False
        return True


def generated_folders(paths):
    found = {path.rpartition(b"/")[0] for path in paths if path.endswith(GENERATED)}
    found.update(
        path.partition(b"/" + PYCACHE + b"/")[0] + b"/" + PYCACHE for path in paths if b"/" + PYCACHE + b"/" in path
    )
    found.update(PYCACHE for path in paths if path.startswith(PYCACHE + b"/"))
    found.discard(b"")
    return found
