"""Detached jobs: a folder a job is the truth, a supervisor a job keeps it.

Runs on a node inside the worker: Python >= 3.8, standard library only. The call's argument is JSON with an "op": start,
status, wait, stop, list or read. The answer is JSON too; what a client must tell apart stands in "error".

~/.asyncdeploy/jobs/<id>/ holds: spec.json (what it is; of secrets only the names), pid (leader, its start time,
supervisor, its start time; the node's identity below), sessions (those that were seen), log, stop (a request), exit
(how it ended). Each is written under another name and renamed; whoever makes the folder starts the job.
"""

import _signal as signal
import json
import os
import select
import time

TERM, KILL = signal.SIGTERM, signal.SIGKILL
LEFTOVER_GRACE_S = 2.0  # for what the leader left behind when it ended by itself
KILL_WAIT_S = 3.0  # a process that KILL has not ended by then hangs in the kernel: it is named
LOOK_S = 5.0  # how often the supervisor notes the sessions of the job, for the day it is killed itself
TICK_S = 0.05
START_S = 30.0
WAIT_SLICE_S = 60.0  # a wait answers at least so often; the client asks again
READ_LIMIT = 512 * 1024
EXIT_BYTES = 4096  # reserved at the start, so that a full disk does not lose the end

processes = None  # set at each call


def main(worker, args):
    global processes
    processes = worker.load("processes")
    request = json.loads(args)
    answer = OPERATIONS[request["op"]](worker, request)
    return json.dumps(answer).encode()


# --- folders -------------------------------------------------------------------


def base_folder():
    """Return the folder of all jobs, made safely: ours, closed to others."""
    home = os.environ.get("HOME") or os.path.expanduser("~")
    for folder in (os.path.join(home, ".asyncdeploy"), os.path.join(home, ".asyncdeploy", "jobs")):
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            info = os.lstat(folder)
            if info.st_uid != os.getuid() or (info.st_mode & 0o170000) != 0o040000:
                raise PermissionError("%s is not a folder of ours" % folder) from None
    return os.path.join(home, ".asyncdeploy", "jobs")


def folder_of(job_id):
    return os.path.join(base_folder(), job_id)


def write_file(folder, name, data):
    """Write a file of the job's folder, whole or not at all."""
    part = os.path.join(folder, ".%s.%s" % (name, os.urandom(4).hex()))
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        processes.write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(part, os.path.join(folder, name))


def read_file(folder, name):
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return None


def read_json(folder, name):
    try:
        return json.loads(read_file(folder, name) or b"null")
    except ValueError:
        return None


def identity():
    """Name this boot of this machine or container: machines share homes, and containers share boot ids."""
    parts = []
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            parts.append(file.read().strip())
    except OSError:
        parts.append("")
    row = processes.process_row(1)
    parts.append(str(row[4] if row else ""))
    try:
        parts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    except OSError:
        parts.append("")
    parts.append(os.uname().nodename)
    return ":".join(parts)


# --- state ---------------------------------------------------------------------


class Pids:
    """What the file "pid" says; 0 where it says nothing."""

    def __init__(self, folder):
        text = (read_file(folder, "pid") or b"").decode("ascii", "replace")
        first, _, rest = text.partition("\n")
        words = [int(word) for word in first.split() if word.isdigit()] + [0] * 4
        self.leader, self.leader_start, self.supervisor, self.supervisor_start = words[:4]
        self.identity = rest.strip()
        self.known = bool(text)


def is_same(pid, start):
    """True if the process that had this pid and start time lives."""
    row = processes.process_row(pid) if pid else None
    return row is not None and row[4] == start and row[1] not in (b"Z", b"X")


def marker_of(job_id):
    return b"ASYNCDEPLOY_JOB=" + job_id.encode()


def living(folder, job_id, pids):
    """Return (pid, name) of every process of the job, its supervisor left out."""
    seen = set()
    for line in (read_file(folder, "sessions") or b"").split():
        if line.isdigit():
            seen.add(int(line))

    def in_session(_pid, row):
        return row[3] in seen and row[4] >= pids.leader_start

    spare = pids.supervisor if is_same(pids.supervisor, pids.supervisor_start) else 0
    roots = [pids.leader] if is_same(pids.leader, pids.leader_start) else []
    found = processes.family(roots, pids.leader, marker_of(job_id), in_session)
    if roots:
        found.append((pids.leader, processes.process_row(pids.leader)[0]))
    return [(pid, name) for pid, name in found if pid != spare]


def status_of(job_id):
    """Return a job's state as its folder and the process table tell it."""
    folder = folder_of(job_id)
    spec = read_json(folder, "spec.json")
    if spec is None and not os.path.isdir(folder):
        return {"error": "unknown"}
    status = {"id": job_id, "spec": spec or {}, "state": "starting"}
    end = read_json(folder, "exit")
    pids = Pids(folder)
    started = (spec or {}).get("started_at")
    if started:
        status["started_at"] = started
    if end is not None:
        status.update(end, state="signalled" if end.get("signal") else "exited")
    elif pids.known and pids.identity != identity():
        same_machine = pids.identity.rpartition(":")[2] == os.uname().nodename
        status["state"] = "lost" if same_machine else "elsewhere"
    elif pids.known:
        if is_same(pids.supervisor, pids.supervisor_start):
            status["state"] = "running"
        elif read_json(folder, "exit") is not None:  # it ended between two looks
            return status_of(job_id)
        else:
            status["state"] = "orphaned" if living(folder, job_id, pids) else "lost"
    elif not starter_lives(folder):
        status["state"] = "lost"
    return status


def starter_lives(folder):
    """True while somebody holds the folder's lock to start the job."""
    import fcntl

    try:
        fd = os.open(os.path.join(folder, "lock"), os.O_RDWR)
    except OSError:
        return os.path.isdir(folder) and time.time() - os.stat(folder).st_mtime < START_S
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


# --- operations -----------------------------------------------------------------


def start(worker, request):
    """Start a job once, however often it is asked for; return its status."""
    import fcntl

    spec, job_id = request["spec"], request["spec"]["id"]
    env = receive_env(worker)
    stdin = processes.take_input(worker)
    lock = None
    try:
        folder = folder_of(job_id)
        try:
            os.mkdir(folder, 0o700)
            fresh = True
        except FileExistsError:
            fresh = False
        lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not fresh and Pids(folder).known:
            return status_of(job_id)
        names = os.open(os.path.join(base_folder(), ".names"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(names, fcntl.LOCK_EX)  # two starters of one name must see each other
            twin = running_twin(spec)
            if twin:
                remove_folder(folder)
                return {"error": "exists", "id": twin}
            reason = launch_supervisor(folder, spec, env, stdin)
        finally:
            os.close(names)
        if reason:
            remove_folder(folder)
            return {"error": "failed", "reason": reason}
        return status_of(job_id)
    finally:
        os.close(stdin)
        if lock is not None:
            os.close(lock)


def receive_env(worker):
    """Return the variables, which come in a frame of their own and never touch a file."""
    kind, payload = worker.receive()
    if kind != b"V":
        raise ValueError("the variables were expected")
    return [item for item in payload.split(b"\0") if item]


def running_twin(spec):
    """Return the id of a running job of the same name on the same site, or None."""
    for other in os.listdir(base_folder()):
        if other == spec["id"] or other.startswith("."):
            continue
        theirs = read_json(folder_of(other), "spec.json") or {}
        same = theirs.get("name") == spec["name"] and theirs.get("site") == spec["site"]
        if same and status_of(other).get("state") in ("starting", "running", "orphaned"):
            return other
    return None


def remove_folder(folder):
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def launch_supervisor(folder, spec, env, stdin):
    """Fork a supervisor that outlives us; return why the job could not be started, or None."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                os.close(out)
                Supervisor(folder, spec, env).supervise(stdin, into)
        finally:
            os._exit(0)
    os.close(into)
    os.waitpid(child, 0)
    said = b""
    try:
        deadline = time.monotonic() + START_S
        poll = select.poll()
        poll.register(out, select.POLLIN)
        while time.monotonic() < deadline:
            if poll.poll(1000):
                data = os.read(out, 4096)
                if not data:
                    break
                said += data
    finally:
        os.close(out)
    if said == b"ok":
        return None
    return said.decode("utf-8", "replace") or "its supervisor died before it started anything"


def status(_worker, request):
    return status_of(request["id"])


def wait(worker, request):
    """Wait until the job ended, for a while; return its status."""
    deadline = time.monotonic() + min(float(request["timeout_s"]), WAIT_SLICE_S)
    step = 0.02
    while True:
        now = status_of(request["id"])
        if now.get("state") not in ("starting", "running", "orphaned") or time.monotonic() >= deadline:
            return now
        worker.poll()
        time.sleep(step)
        step = min(step * 1.5, 0.25)


def stop(worker, request):
    """End a job and everything of it; return its status, with what survived."""
    job_id, grace = request["id"], float(request["grace_s"])
    folder = folder_of(job_id)
    before = status_of(job_id)
    if before.get("state") == "orphaned":
        return end_orphans(worker, folder, job_id, grace)
    if before.get("state") not in ("starting", "running"):
        return before
    write_file(folder, "stop", json.dumps({"grace_s": grace}).encode())
    deadline = time.monotonic() + grace + KILL_WAIT_S + 12  # on_end has 10 s
    asked = False
    while time.monotonic() < deadline:
        pids = Pids(folder)
        if not asked and is_same(pids.supervisor, pids.supervisor_start):
            os.kill(pids.supervisor, TERM)
            asked = True
        now = status_of(job_id)
        if now.get("state") == "orphaned":
            return end_orphans(worker, folder, job_id, grace)
        if now.get("state") not in ("starting", "running"):
            return now
        worker.poll()
        time.sleep(TICK_S)
    return status_of(job_id)


def end_orphans(worker, folder, job_id, grace):
    """End a job whose supervisor is gone; nobody knows its exit status any more."""
    pids = Pids(folder)
    processes.signal_each(living(folder, job_id, pids), TERM)
    deadline = time.monotonic() + grace
    while living(folder, job_id, pids) and time.monotonic() < deadline:
        worker.poll()
        time.sleep(TICK_S)
    deadline = time.monotonic() + KILL_WAIT_S
    while True:
        left = living(folder, job_id, pids)
        if not left or time.monotonic() > deadline:
            break
        processes.signal_each(left, KILL)
        time.sleep(TICK_S)
    now = status_of(job_id)
    now["survivors"] = ["%d %s" % (pid, name.decode("utf-8", "replace")) for pid, name in left]
    return now


def list_all(_worker, _request):
    found = []
    for job_id in sorted(os.listdir(base_folder())):
        if not job_id.startswith("."):
            now = status_of(job_id)
            if now.get("spec"):
                found.append(now)
    return {"jobs": found[-1000:]}


def read(worker, request):
    """Return a piece of the log from a byte offset, waiting up to wait_s for one; and whether the job ended."""
    folder, offset = folder_of(request["id"]), int(request["offset"])
    limit = min(int(request.get("limit", READ_LIMIT)), READ_LIMIT)
    deadline = time.monotonic() + min(float(request.get("wait_s", 0)), WAIT_SLICE_S)
    step = 0.02
    while True:
        state = status_of(request["id"]).get("state", "lost")  # before the log, so that its end is the end
        try:
            with open(os.path.join(folder, "log"), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(offset if offset >= 0 else max(0, size + offset))
                place = file.tell()
                data = file.read(limit)
        except OSError:
            size = place = 0
            data = b""
        if data or state not in ("starting", "running", "orphaned") or time.monotonic() >= deadline:
            break
        worker.poll()
        time.sleep(step)
        step = min(step * 1.5, 0.25)
    for start_at in range(0, len(data), 1 << 18):
        worker.send(b"D", data[start_at : start_at + (1 << 18)])
    return {"offset": place, "size": size, "state": state}


OPERATIONS = {"start": start, "status": status, "wait": wait, "stop": stop, "list": list_all, "read": read}


# --- the supervisor ---------------------------------------------------------------


class Supervisor:
    """Lives as long as its job, in a session of its own, and writes down how it ended."""

    def __init__(self, folder, spec, env):
        self.folder = folder
        self.spec = spec
        self.environ = dict(os.environb)
        for item in env:
            name, _, value = item.partition(b"=")
            self.environ[name] = value
        marker = spec["id"].encode()
        self.environ.update({b"ASYNCDEPLOY_JOB": marker, b"ASYNCDEPLOY_RUN": marker, b"SPT_NOENV": b"1"})
        self.status = None
        self.children_left = True
        self.stopping = False
        self.grace = LEFTOVER_GRACE_S
        self.termed_at = self.killed_at = None
        self.sessions = set()

    def supervise(self, stdin, into):
        """Start the job, say so, and stay until it ended. Never returns to its caller's code with an error."""
        try:
            self.detach({stdin, into})
            reason = self.begin(stdin)
        except Exception as error:
            reason = "%s: %s" % (type(error).__name__, error)
        os.write(into, reason.encode("utf-8", "replace") if reason else b"ok")
        os.close(into)
        os.close(stdin)
        if not reason:
            self.stay()

    def detach(self, keep):
        """Let go of all that is the worker's: its line, or sshd would wait for us, and its locks."""
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in keep:
                try:
                    os.close(int(name))
                except OSError:
                    continue  # the one that listed the folder
        signal.set_wakeup_fd(-1)
        self.wake = os.pipe()
        for fd in self.wake:
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(TERM, self.on_term)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(self.wake[1])
        prctl = processes.find_prctl()
        self.reaper = processes.reap_orphans(prctl, True)
        if prctl is not None:
            prctl(15, b"adeploy-job", 0, 0, 0)  # PR_SET_NAME, for people who look at ps

    def on_term(self, *_):
        if not self.stopping:
            self.stopping = True
            request = read_json(self.folder, "stop") or {}
            self.grace = float(request.get("grace_s", 5.0))
            self.termed_at = None

    def begin(self, stdin):
        """Start the leader and write down who it is; return why not, or None."""
        cwd = os.fsencode(self.spec["cwd"] or "~")
        home = self.environ.get(b"HOME", b"/")
        if cwd == b"~" or cwd.startswith(b"~/"):
            cwd = home + cwd[1:]
        write_file(self.folder, ".exit-room", b" " * EXIT_BYTES)
        log = os.open(os.path.join(self.folder, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.chdir(cwd)
            line = self.spec["line"].encode("utf-8", "surrogateescape")
            self.spec["started_at"] = time.time()
            self.leader = processes.start_shell(line, self.environ, stdin, log, log)
        except OSError as error:
            return "%s: %s" % (os.strerror(error.errno), os.fsdecode(cwd))
        finally:
            os.close(log)
            os.chdir("/")
        try:
            write_file(self.folder, "spec.json", json.dumps(self.spec).encode())
            rows = [(pid, processes.process_row(pid)) for pid in (self.leader, os.getpid())]
            words = ["%d %d" % (pid, row[4] if row else 0) for pid, row in rows]
            write_file(self.folder, "pid", ("%s\n%s\n" % (" ".join(words), identity())).encode())
        except OSError as error:  # a job that nobody could find again must not run
            os.kill(self.leader, KILL)
            os.waitpid(self.leader, 0)
            return "its folder cannot be written: " + os.strerror(error.errno)
        return None

    def stay(self):
        looked_at = 0.0
        while not self.finished():
            poll = select.poll()
            poll.register(self.wake[0], select.POLLIN)
            quiet = self.status is None and not self.stopping
            if poll.poll((LOOK_S if quiet else TICK_S) * 1000):
                os.read(self.wake[0], 4096)
            self.reap()
            self.escalate()
            if quiet and time.monotonic() - looked_at >= LOOK_S:
                self.note_sessions()
                looked_at = time.monotonic()
        self.finish()

    def finished(self):
        if self.status is not None and not self.children_left:
            return True
        return bool(self.killed_at and time.monotonic() - self.killed_at > KILL_WAIT_S)

    def reap(self):
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.leader:
                    self.status = status
                    self.ended_at = time.time()
        except ChildProcessError:
            self.children_left = bool(not self.reaper and self.living())

    def escalate(self):
        """TERM first, after the grace KILL, to everything of the job, until nothing is left."""
        ended = self.status is not None
        if not (self.stopping or ended) or (ended and not self.children_left):
            return
        now = time.monotonic()
        if self.termed_at is None:
            self.termed_at = now
            processes.signal_each(self.living(), TERM)
        elif now - self.termed_at >= self.grace:
            if self.killed_at is None:
                self.killed_at = now
            processes.signal_each(self.living(), KILL)

    def living(self):
        return processes.family([os.getpid()], self.leader, marker_of(self.spec["id"]))

    def note_sessions(self):
        """Write down the job's sessions, by which a later stop finds it should we be killed."""
        table = processes.process_table()
        now = {table[pid][3] for pid, _ in self.living() if pid in table} - self.sessions
        if now:
            self.sessions |= now
            try:
                write_file(self.folder, "sessions", " ".join(str(sid) for sid in sorted(self.sessions)).encode())
            except OSError:
                return  # a full disk; the marker still finds them

    def finish(self):
        if self.stopping and self.spec.get("on_end"):
            self.run_on_end()
        left = self.living() if self.stopping or self.children_left else []
        end = {"status": None, "signal": None, "ended_at": getattr(self, "ended_at", time.time())}
        end["survivors"] = ["%d %s" % (pid, name.decode("utf-8", "replace")) for pid, name in left][:50]
        if self.status is None:
            end["signal"] = KILL  # it hangs in the kernel with KILL pending; it is among the survivors
        elif os.WIFEXITED(self.status):
            end["status"] = os.WEXITSTATUS(self.status)
        else:
            end["signal"] = os.WTERMSIG(self.status)
        end["stopped"] = self.stopping
        room = os.path.join(self.folder, ".exit-room")
        fd = os.open(room, os.O_WRONLY)
        processes.write_all(fd, json.dumps(end).encode()[:EXIT_BYTES].ljust(EXIT_BYTES))
        os.fsync(fd)
        os.close(fd)
        os.rename(room, os.path.join(self.folder, "exit"))

    def run_on_end(self):
        null = os.open(os.devnull, os.O_RDWR)
        try:
            line = self.spec["on_end"].encode("utf-8", "surrogateescape")
            pid = processes.start_shell(line, self.environ, null, null, null)
        except OSError:
            return
        finally:
            os.close(null)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    return
            except ChildProcessError:
                return
            time.sleep(TICK_S)
        os.kill(pid, KILL)
        os.waitpid(pid, 0)
