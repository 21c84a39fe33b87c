"""Say what this node is, as JSON in the form of NodeFacts; "clock" is our time at the start and the end of the call.

Runs on a node inside the worker: Python >= 3.8, standard library only, and no heavy import; what asks tools is loaded
where there is one to ask. Nothing here may fail: what cannot be learned is left out, and the client has a default.
"""

import os
import sys
import time

from asyncdeploy.node_side import files, proc

TOOLS = (
    *("git", "uv", "tar", "tmux", "docker", "podman", "nix", "nvidia-smi"),
    *("bash", "setsid", "flock", "sha256sum", "rsync", "zstd", "ip"),
)
FOLDERS = (  # behind those of PATH, which lacks some of them when no login profile was read
    *("~/.local/bin", "~/.cargo/bin", "/usr/local/bin", "/usr/bin", "/bin", "/opt/conda/bin", "/usr/sbin", "/sbin"),
    *("~/.nix-profile/bin", "/nix/var/nix/profiles/default/bin"),
)
GPU_FIELDS = ("index", "name", "memory.total", "memory.used", "driver_version", "uuid")
MAX_ROWS = 256  # of addresses: the client refuses more
SHARED = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "fuse", "9p", "virtiofs", "afs", "weka")


def main(worker, args):  # noqa: ARG001 - every program is called so
    start = time.time()
    import json

    home = files.home()
    facts = {"home": home, "user": user_name(), "uid": os.getuid()}
    facts.update(python=python_path(), python_version="%d.%d.%d" % sys.version_info[:3])
    uname = os.uname()
    facts.update(system=uname.sysname, arch=uname.machine, hostname=uname.nodename)
    facts["tools"] = tools = find_tools(home)
    ways = {
        "libc": lambda: libc(uname.machine),
        "uv_version": lambda: uv_version(dict(tools).get("uv")),
        "cpus": cpus,
        "memory_bytes": lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "disks": lambda: disks(home),
        "addresses": addresses,
        "ssh_address": ssh_address,
        "identity": identity,
        "home_identity": lambda: home_identity(home),
        "gpus": lambda: gpus(dict(tools).get("nvidia-smi")),
    }
    for name, way in ways.items():
        try:
            facts[name] = way()
        except Exception:  # a container without /proc, a kernel without a file: unknown, not wrong
            continue
    return json.dumps({"facts": facts, "clock": [start, time.time()]}).encode("utf-8", "backslashreplace")


def user_name():
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a uid without an entry, as some containers run
        return os.environ.get("USER") or str(os.getuid())


def python_path():
    path = sys.executable or ""
    return path if path.startswith("/") else ""


def find_tools(home):
    folders = [folder for folder in os.environ.get("PATH", "").split(":") if folder.startswith("/")]
    folders += [home + folder[1:] if folder.startswith("~") else folder for folder in FOLDERS]
    found = []
    for tool in TOOLS:
        for folder in folders:
            path = folder + "/" + tool
            if os.path.isfile(path) and os.access(path, os.X_OK):
                found.append((tool, path))
                break
    return found


def uv_version(tool):
    if not tool:
        return ""
    from asyncdeploy.node_side import tools

    words = tools.ask([tool, "--version"]).split()
    return words[1] if words[:1] == ["uv"] and len(words) > 1 else ""


def libc(machine):
    try:
        if text := os.confstr("CS_GNU_LIBC_VERSION"):
            return text
    except (ValueError, OSError):
        pass  # not glibc
    loader = "/lib/ld-musl-" + {"i686": "i386"}.get(machine, machine) + ".so.1"
    if not os.path.exists(loader):
        return ""
    from asyncdeploy.node_side import tools

    # It names its version where it complains about missing arguments.
    for line in tools.outcome([loader], complaints=True)[1].splitlines():
        if line.startswith("Version "):
            return "musl " + line.split()[1]
    return "musl"


def gpus(tool):
    if not tool:
        return []
    from asyncdeploy.node_side import gpus as asker

    found = []
    for index, name, total, used, driver, uuid in asker.rows(tool, GPU_FIELDS):
        if asker.number(index) is not None:
            row = {"index": int(index), "name": name, "memory_bytes": asker.size(total)}
            found.append(dict(row, used_bytes=asker.size(used), driver=driver, uuid=uuid))
    return sorted(found, key=lambda row: row["index"])


def cpus():
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = files.text("/sys/fs/cgroup/cpu.max").split()
        return min(count, max(1, -(-int(quota) // int(period))))
    except ValueError:  # no cgroup v2, or "max"
        return count


def disks(home):
    rows, seen = [], set()
    for path in (home, "/tmp"):
        try:
            device, room = os.stat(path).st_dev, os.statvfs(path)
        except OSError:
            continue
        if device not in seen:
            seen.add(device)
            row = {"path": path, "free_bytes": room.f_bavail * room.f_frsize}
            row["total_bytes"] = room.f_blocks * room.f_frsize
            row["free_inodes"] = room.f_favail if room.f_files else None
            rows.append(row)
    return rows


def addresses():
    """Return (interface, address) of every address that others could reach, without a tool: those are often missing."""
    import socket

    order = {name: index for index, name in socket.if_nameindex()}
    rows = ipv4_addresses(socket) + ipv6_addresses(socket)
    rows.sort(key=lambda row: order.get(row[0], 1 << 30))
    return rows[:MAX_ROWS]


def ipv4_addresses(socket):
    import array
    import fcntl
    import struct

    size = 40 if struct.calcsize("P") == 8 else 32  # of a struct ifreq: 16 bytes of name, then the address
    room = array.array("B", bytes(size * MAX_ROWS))
    start, length = room.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock.fileno(), 0x8912, struct.pack("iP", length, start))  # SIOCGIFCONF
    used = struct.unpack("iP", answer)[0]
    rows = []
    for at in range(0, used, size):
        name = room[at : at + 16].tobytes().split(b"\0")[0].decode("ascii", "replace").split(":")[0]
        address = socket.inet_ntoa(room[at + 20 : at + 24].tobytes())
        if not address.startswith(("127.", "169.254.", "0.")):
            rows.append((name, address))
    return rows


def ipv6_addresses(socket):
    rows = []
    for line in files.text("/proc/net/if_inet6").splitlines():
        digits, _, _, scope, _, name = line.split()
        if scope == "00":  # global; unique local addresses count as such
            rows.append((name, socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))))
    return rows


def ssh_address():
    return os.environ["SSH_CONNECTION"].split()[2]


def identity():
    """Return what names this boot of this machine or container."""
    name = proc.identity()
    if not all(name.split(":")):  # two nodes that know nothing of themselves are not one
        raise LookupError("/proc cannot be read")
    return name


def home_identity(home):
    """Return what names the home folder: by the server where it is shared, else by this boot of this machine."""
    status = os.stat(home)
    kind, source = mount_of(os.path.realpath(home))
    if kind.startswith(SHARED):
        return "%s:%s:%d" % (kind, source, status.st_ino)
    boot = proc.boot()
    if not boot:
        raise LookupError("/proc cannot be read")
    return "%s:%d:%d" % (boot, status.st_dev, status.st_ino)


def mount_of(path):
    """Return the type and the source of the file system that holds ``path``."""
    best, found = -1, ("", "")
    for line in files.text("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4]
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, found = len(point), (right.split()[0], right.split()[1])
    return found
