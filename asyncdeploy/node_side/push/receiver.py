"""The receiver: takes a workspace, puts it in place whole, and remembers what it put there.

Runs on a node: Python >= 3.8, standard library only. All words are fields joined by NUL, which no path holds: exact
for every name and cheaper to read than JSON. What the client must classify is returned as such a record; its first
field says what it is.

Below ``<site>/.asyncdeploy/`` (0700) lie: ``lock`` (flock, its text names the holder), ``state`` (the tree as it was
put there), ``staging/`` (contents under their sha256, and what is ready to be renamed into place) and ``journal`` (a
swap that has begun). A swap is decided by the journal's rename: before it the old tree stands, after it the new one
will, whoever dies meanwhile. Every path is walked from the site's own descriptor without following a link.
"""

import errno
import os
import zlib

from asyncdeploy.node_side.files import expand, own_path
from asyncdeploy.node_side.push import places
from asyncdeploy.node_side.push.pieces import LARGE
from asyncdeploy.node_side.push.plan import Plan
from asyncdeploy.node_side.push.site_folder import Site, exists
from asyncdeploy.node_side.push.site_record import (
    DIR,
    FILE,
    IN_PLACE,
    MANIFEST_FIELDS,
    MANIFEST_HEAD,
    MAX_RECORD,
    META,
    Record,
    Refused,
    check_paths,
    read_entries,
)
from asyncdeploy.node_side.push.staging import Intake
from asyncdeploy.node_side.push.swap import Deaf, Swap, finish_journal

NAMES = 10  # names in one answer: enough to see what is meant


class Push:
    """One push, from the first look to the swap."""

    def __init__(self, worker, site, args):
        self.worker, self.site = worker, site
        _, _, self.digest, self.project, self.label, self.holder, self.conflict, self.jobs = args[:8]
        self.emptied, self.was = args[9:11]
        self.manifest = args[11] if len(args) > 11 else b""
        self.needed = 0

    def run(self):
        finish_journal(self.worker, self.site)
        state = self.site.read_record(b"state")
        self.check_project(state)
        stands = state is not None and self.stands(state.entries)
        if stands and state.digest == self.digest:
            return b"same", self.site.path
        self.site.lock.name_holder(self.holder)
        new = self.receive_manifest()
        fresh = state is None and os.listdir(self.site.fd) == [META.decode()]
        plan = Plan(self.worker, self.site, state.entries if state else (), new, fresh, stands)
        self.check_plan(plan)
        return self.fill(plan)

    def check_project(self, state):
        """Refused if another project stands there."""
        overwrite = self.conflict == b"overwrite"
        if state is not None and state.project not in (self.project, self.was) and not overwrite:
            raise Refused(b"conflict", self.site.path, b"project", state.label or state.project)

    def check_plan(self, plan):
        """Refused if the plan would lose what somebody may miss, or change what a job runs in."""
        if plan.edited and self.conflict != b"overwrite":
            names = sorted(plan.edited)
            raise Refused(b"conflict", self.site.path, b"edited", b"%d" % len(names), *names[:NAMES])
        wiped = plan.wiped() if self.emptied != b"remove" else []
        if wiped:
            counts = b"%d" % len(wiped), b"%d" % len(plan.old)
            raise Refused(b"conflict", self.site.path, b"emptied", *counts, *sorted(wiped)[:NAMES])
        if plan.changes() and self.jobs != b"overwrite":
            running = self.running_jobs()
            if running:
                raise Refused(b"jobs", self.site.path, *map(os.fsencode, running[:NAMES]))

    def running_jobs(self):
        return running_jobs(self.site.path)

    def stands(self, entries):
        fd = self.site.fd
        lstat = os.lstat
        try:
            return all(
                entry.holds(found := lstat(entry.path, dir_fd=fd)) or self.site.is_by_step(found) for entry in entries
            )
        except (FileNotFoundError, NotADirectoryError):
            return False

    def receive_manifest(self):
        """Return the entries of the manifest that was named: of at most MAX_RECORD bytes, 20 times that in memory."""
        import hashlib

        inflate, parts, size = zlib.decompressobj(), [], 0
        for payload in self.manifest_parts():
            parts.append(inflate.decompress(payload, MAX_RECORD))
            size += len(parts[-1])
            if size > MAX_RECORD:
                raise ValueError("a manifest was expected")
        fields = b"".join(parts).split(b"\0")
        if fields[0] != MANIFEST_HEAD or not inflate.eof:
            raise ValueError("a manifest of another version")
        named = hashlib.sha256(b"\0".join(f for i in (5, 0, 1, 4, 6) for f in fields[1 + i :: MANIFEST_FIELDS]))
        if named.hexdigest().encode() != self.digest:
            raise ValueError("the manifest is not the one that was named")
        entries = read_entries(fields[1:], MANIFEST_FIELDS)
        check_paths(entries)
        return entries

    def manifest_parts(self):
        """Yield the manifest as it travels: a small one came with the call, another is asked for."""
        if self.manifest:
            yield self.manifest
            return
        self.worker.send(b"M")
        while True:
            kind, payload = self.worker.receive()
            if kind == b"E":
                return
            if kind != b"M":
                raise ValueError("a manifest was expected")
            yield payload

    def fill(self, plan):
        """Stage what is missing, then swap; the client may go once all is verified."""
        new = plan.entries
        intake = Intake(self.worker, self.site, plan)
        order = {}
        for entry in new:
            if entry.kind == FILE:
                order.setdefault(entry.sha, len(order))
        self.check_room(plan)
        missing = intake.stage_here(plan.have)
        wanted = sorted(missing, key=order.__getitem__)
        if wanted:
            numbers = [order[sha].to_bytes(4, "big") for sha in wanted]
            for start in range(0, len(numbers), 200000):
                self.worker.send(b"N", b"".join(numbers[start : start + 200000]))
            mends = intake.mends(wanted, order, plan.old)
            self.worker.send(b"G")
            for sha in wanted:
                if sha in mends:
                    mends[sha].receive_runs()
            self.needed += sum(mend.needed_bytes() for mend in mends.values())
            if self.needed > self.site.room()[0]:
                raise OSError(errno.ENOSPC, "no space")
            try:
                intake.stage_sent(wanted, mends)
            finally:
                intake.feed.close()
        for entry in plan.modes:
            entry.staged = IN_PLACE
        for entry in plan.moves:
            if entry.kind == DIR:
                entry.staged = b"folder"
        record = Record(self.project, self.digest, new + plan.kept, plan.removals + plan.blockers, self.label)
        self.swap(record, plan.changes())
        moved = b"%d" % (len(plan.moves) + len(plan.modes))
        names = [b"restored " + path for path in plan.restored[:NAMES]]
        names += [b"overwritten " + path for path in sorted(plan.edited)[:NAMES]]
        counts = (moved, b"%d" % len(plan.removals), b"%d" % len(plan.restored), b"%d" % len(plan.edited))
        return (b"done", self.site.path, *counts, *names)

    def check_room(self, plan):
        """Refused before anything travels if it cannot fit; what is kept in staging is counted as if it were not."""
        # Large contents are counted when their pieces are known: they may be holes, or here already.
        self.needed = sum(entry.size for entry in plan.moves if entry.kind == FILE and entry.size < LARGE)
        free, inodes = self.site.room()
        free += self.site.kept_bytes()
        self.needed += 400 * (len(plan.new) + len(plan.removals))  # journal and state, at about 200 bytes an entry
        if self.needed + 4096 * plan.folders > free:
            raise OSError(errno.ENOSPC, "no space")
        if inodes is not None and len(plan.moves) + plan.folders + 4 > inodes:
            raise OSError(errno.ENOSPC, "no inodes")

    def swap(self, record, changes):
        if not changes:
            self.site.write_record(b"state", record, False)
            self.site.clear(record)
            return
        import _signal as signal  # signal itself costs 4 ms

        kept = [(number, signal.signal(number, signal.SIG_IGN)) for number in (signal.SIGHUP, signal.SIGTERM)]
        try:
            self.site.write_record(b"journal", record, True)
            Swap(Deaf(self.worker), self.site, record, False).run()
        finally:
            for number, handler in kept:
                signal.signal(number, handler)


def running_jobs(site):
    """Return the ids of the jobs that run in the site."""
    if not os.path.isdir(own_path("jobs")):
        return []  # on most nodes, which then need not load what reads jobs
    from asyncdeploy.node_side import job_folder

    return job_folder.running_in(os.fsdecode(site))


def failed(error, site, push):
    """Return the answer for a call of the node's system that went wrong."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free, inodes = site.room() if site.fd >= 0 else (0, None)
        begun = site.meta >= 0 and exists(b"journal", site.meta)
        if site.staging >= 0 and not begun:
            site.clear_staging()
        needed = push.needed if push else 0
        return b"full", site.path, b"%d" % free, b"%d" % needed, b"%d" % (-1 if inodes is None else inodes)
    name = errno.errorcode.get(error.errno, "")
    path = error.filename if isinstance(error.filename, bytes) else site.path
    text = (error.strerror or str(error)).encode("utf-8", "replace")
    return b"error", site.path, name.encode(), text, path


def main(worker, args):
    """Serve one push.

    Args: what, site path, digest, project id and label, holder, on_conflict, under_jobs, wait_s, on_emptied, what the
    project was called before it said its own name, and the manifest if it is small.
    """
    fields = args.split(b"\0", 11)
    path = os.path.normpath(expand(fields[1]))
    site, push = Site(b"/" + path.lstrip(b"/")), None  # POSIX lets two slashes stand
    umask = os.umask(0o022)
    try:
        if fields[0] == b"finish":
            if not exists(os.path.join(site.path, META, b"journal"), None):
                return b"same\0" + site.path
            site.open(False)
            site.take_lock(worker, float(fields[8]))
            finish_journal(worker, site)
            return b"same\0" + site.path
        site.open(fields[6] == b"overwrite")
        site.take_lock(worker, float(fields[8]), fields[5])
        os.umask(0)  # modes are given with each file
        push = Push(worker, site, fields)
        done = push.run()
        places.note(site.path)
        return b"\0".join(done)
    except Refused as refused:
        return b"\0".join(refused.fields)
    except OSError as error:
        return b"\0".join(failed(error, site, push))
    finally:
        os.umask(umask)
        site.close()
