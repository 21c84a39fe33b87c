"""What a push would do here, found without changing anything: no folder is made, no lock taken, nothing removed.

Runs on a node: Python >= 3.8, standard library only. The look and the rules are the receiver's own, and so are the
words of a refusal; they stand behind an empty field.
"""

import errno
import os

from asyncdeploy.node_side import job_folder, live_jobs
from asyncdeploy.node_side.files import expand, own_path
from asyncdeploy.node_side.push.pieces import LARGE
from asyncdeploy.node_side.push.place import check_place
from asyncdeploy.node_side.push.plan import Plan
from asyncdeploy.node_side.push.receiver import NAMES, Push, failed
from asyncdeploy.node_side.push.site_folder import FOLDER, Site, exists, hash_file
from asyncdeploy.node_side.push.site_record import FILE, META, Refused

COUNTS = 9  # numbers in an answer
# What node_side/envs/env.sh looks at by these names, in any folder.
NAMED = (b"pyproject.toml", b"uv.toml", b".python-version", b"setup.py", b"setup.cfg", b"requirements", b"pylock")
LOCK = b".lock"


class SeenSite(Site):
    """A site that is only looked at: what is not there stays away."""

    def open(self, allow_foreign):
        """Open what there is of it; Refused if it is not ours to take."""
        check_place(self.path)
        try:
            self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        if exists(META, self.fd):
            self.meta = self.own_folder(META, self.fd)
            if exists(b"staging", self.meta):
                self.staging = self.own_folder(b"staging", self.meta)
        elif os.listdir(self.fd) and not allow_foreign:
            raise Refused(b"conflict", self.path, b"foreign")

    def own_folder(self, name, parent, is_new=False):
        try:
            fd = os.open(name, FOLDER, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise Refused(b"conflict", self.path, b"owner") from None
            raise
        if os.fstat(fd).st_uid != os.geteuid():
            os.close(fd)
            raise Refused(b"conflict", self.path, b"owner")
        return fd

    def read_record(self, name):
        return Site.read_record(self, name) if self.meta >= 0 else None

    def room(self):
        """Return what is free where it stands, or would stand."""
        if self.fd >= 0:
            return Site.room(self)
        place = self.path
        while not os.path.isdir(place):
            place = os.path.dirname(place)
        self.fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # the last thing that is asked of it
        return Site.room(self)

    def kept_bytes(self):
        return Site.kept_bytes(self) if self.staging >= 0 else 0

    def clear_staging(self):
        """Leave it: what a push would do where the disk is full is not done here."""


class Preview(Push):
    """One look, by the receiver's own rules."""

    def __init__(self, worker, site, args):
        Push.__init__(self, worker, site, args[:11])
        self.sources = frozenset(args[11:])

    def run(self):
        site = self.site
        begun = site.meta >= 0 and exists(b"journal", site.meta)
        state = site.read_record(b"state")
        self.check_project(state)
        stands = state is not None and self.stands(state.entries)
        if stands and state.digest == self.digest and not begun:
            return (b"same", site.path)
        new = self.receive_manifest()
        fresh = site.fd < 0 or (state is None and os.listdir(site.fd) in ([], [META.decode()]))
        plan = Plan(self.worker, site, state.entries if state else (), new, fresh, stands)
        return self.told(plan, begun) + self.refusal(plan)

    def told(self, plan, begun):
        """Return what the push would do, in numbers and some names."""
        missing, size, mends = self.missing(plan)
        counts = (len(plan.moves) + len(plan.modes), len(plan.removals), len(plan.restored), len(plan.edited))
        names = [b"removed " + path for path in sorted(plan.removals)[:NAMES]]
        names += [b"overwritten " + path for path in sorted(plan.edited)[:NAMES]]
        told = (*counts, missing, size, mends, begun, touches(plan, self.sources))
        return (b"plan", self.site.path, *(b"%d" % count for count in told), *names)

    def missing(self, plan):
        """Return how many contents would travel, their bytes, and whether of some only what has changed."""
        wanted = {entry.sha: entry for entry in plan.moves if entry.kind == FILE and entry.size}
        staged = self.staged(wanted)
        missing = [entry for sha, entry in wanted.items() if sha not in plan.have and sha not in staged]
        mends = any(entry.size >= LARGE and entry.path in plan.old for entry in missing)
        return len(missing), sum(entry.size for entry in missing), mends

    def staged(self, wanted):
        """Return the contents that a cut push left here whole."""
        found = set()
        for name in map(os.fsencode, os.listdir(self.site.staging) if self.site.staging >= 0 else ()):
            sha, _, number = name.partition(b".")
            if number == b"0" and sha in wanted and hash_file(self.worker, self.site.staging, name) == sha:
                found.add(sha)
        return found

    def refusal(self, plan):
        """Return why a push would be refused, behind an empty field; nothing if it would not be."""
        try:
            self.check_plan(plan)
            if plan.changes():
                self.check_room(plan)
        except Refused as refused:
            return (b"", *refused.fields)
        except OSError as error:
            return (b"", *failed(error, self.site, self))
        return ()

    def running_jobs(self):
        # The names of live jobs as they lie there: where an older asyncdeploy made none, looking would make them.
        known = os.path.isdir(own_path("jobs", live_jobs.LIVE))
        jobs = own_path("jobs")
        ids = None if known else live_jobs.without_end(jobs) if os.path.isdir(jobs) else ()
        return job_folder.running_in(os.fsdecode(self.site.path), ids)


def touches(plan, sources):
    """Whether a push would change, or take away, what an environment may be made from."""
    changed = [entry.path for entry in plan.moves + plan.modes]
    return bool(plan.removals) or any(
        path in sources or path.rpartition(b"/")[2].startswith(NAMED) or path.endswith(LOCK) for path in changed
    )


def main(worker, args):
    """Look what one push would do; the arguments are the receiver's, and the paths that an environment is made from."""
    fields = args.split(b"\0")
    path = os.path.normpath(expand(fields[1]))
    site, look = SeenSite(b"/" + path.lstrip(b"/")), None
    try:
        site.open(fields[6] == b"overwrite")
        look = Preview(worker, site, fields)
        return b"\0".join(look.run())
    except Refused as refused:
        return b"\0".join((b"plan", site.path, *[b"0"] * COUNTS, b"", *refused.fields))
    except OSError as error:
        return b"\0".join((b"plan", site.path, *[b"0"] * COUNTS, b"", *failed(error, site, look)))
    finally:
        site.close()
