# Say what this node is, as key=value lines: for nodes without python3. What cannot be learned is left out.
# shellcheck shell=sh
say() { [ -z "$2" ] || printf '%s=%s\n' "$1" "$2"; }

home=${HOME:-}
case $home in /*) ;; *) home=/ ;; esac
say start "$(date +%s)"
say home "$home"
say user "$(id -un 2>/dev/null || id -u)"
say uid "$(id -u)"
say hostname "$(uname -n)"
say system "$(uname -s)"
say arch "$(uname -m)"

libc=$(getconf GNU_LIBC_VERSION 2>/dev/null)
if [ -z "$libc" ]; then
    for loader in /lib/ld-musl-*.so.1; do
        [ -e "$loader" ] || continue
        libc="musl $("$loader" 2>&1 | sed -n 's/^Version //p')"
    done
fi
say libc "${libc% }"

PATH=$PATH:$home/.local/bin:$home/.cargo/bin:/usr/local/bin:/usr/bin:/bin:/opt/conda/bin:/usr/sbin:/sbin
for tool in git uv tar tmux docker podman nix nvidia-smi bash setsid flock sha256sum rsync zstd ip; do
    path=$(command -v "$tool" 2>/dev/null)
    case $path in /*) say "tool.$tool" "$path" ;; esac
done
say uv_version "$(uv --version 2>/dev/null | sed -n '1s/^uv \([^ ]*\).*/\1/p')"

say cpus "$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null)"
say memory_kib "$(sed -n 's/^MemTotal: *\([0-9]*\) kB$/\1/p' /proc/meminfo 2>/dev/null)"
for path in "$home" /tmp; do
    say "disk.$path" "$(df -Pk "$path" 2>/dev/null | awk 'NR == 2 { print $4, $2, $1 }')"
done
if command -v ip >/dev/null 2>&1; then
    ip -o addr show scope global 2>/dev/null | awk '$3 ~ /^inet6?$/ { split($4, a, "/"); print "address=" $2, a[1] }' | head -n 256
fi
if command -v nvidia-smi >/dev/null 2>&1; then
    query=index,name,memory.total,memory.used,driver_version,uuid
    limit=''
    command -v timeout >/dev/null 2>&1 && limit='timeout 5' # it hangs where a driver does
    # shellcheck disable=SC2086 # two words, or none
    $limit nvidia-smi --query-gpu=$query --format=csv,noheader,nounits 2>/dev/null | sed -n 's/^\([0-9].*\)$/gpu=\1/p' | head -n 256
fi

# shellcheck disable=SC2086 # the words are wanted
set -- ${SSH_CONNECTION:-}
say ssh_address "${3:-}"
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
pid1=$(sed 's/^.*) //' /proc/1/stat 2>/dev/null | cut -d' ' -f20)
space=$(readlink /proc/self/ns/pid 2>/dev/null | tr -dc 0-9)
[ -z "$boot" ] || say identity "$boot:$pid1:$space"
say end "$(date +%s)"
