# Run a line in a container that ends with it, by docker or podman.
# usage: NAME_OF_ENGINE IMAGE SITE WORKDIR NAMES LINE [OPTION]...      NAMES: of variables that go inside; LINE: nothing where
# it stands in the variable ASYNCDEPLOY_DOCKER_LINE
# shellcheck shell=sh
engine=$1 image=$2 site=$3 workdir=$4 names=$5 line=$6
shift 6
home=$site/.asyncdeploy/home # who has no name in the image needs a home all the same
(umask 077 && mkdir -p "$home" "$HOME/.asyncdeploy") || exit 125 # ours alone, whatever the login's umask says
[ -n "${USER-}" ] || USER=$(id -un 2>/dev/null) || USER=$(id -u)
[ -n "${LOGNAME-}" ] || LOGNAME=$USER
ASYNCDEPLOY_HOME=$HOME # where a launch's files are: HOME is another one inside
called=asyncdeploy-${ASYNCDEPLOY_JOB:-$ASYNCDEPLOY_RUN}
ASYNCDEPLOY_CONTAINER="$engine $called" # by which a driver gets in beside an engine (node_side/engines/driver.py)
export USER LOGNAME ASYNCDEPLOY_HOME ASYNCDEPLOY_CONTAINER

# -e NAME takes the value from our own environment: none is in an argument list. What the node says of its network (a
# proxy, the fabric that NCCL is to use) holds inside too.
names="$names $(env | sed -n -e 's/^\(NCCL_[A-Z0-9_]*\)=.*/\1/p' -e 's/^\([A-Za-z]*_[Pp][Rr][Oo][Xx][Yy]\)=.*/\1/p' | tr '\n' ' ')"
ours='ASYNCDEPLOY_HOME ASYNCDEPLOY_RUN ASYNCDEPLOY_JOB ASYNCDEPLOY_TREE ASYNCDEPLOY_ONLY_LOOK SPT_NOENV PYTHONUNBUFFERED'
for name in $names USER LOGNAME ASYNCDEPLOY_CONTAINER $ours; do
    set -- "$@" -e "$name"
done
case "$(id -u) ${engine##*/} ${DOCKER_HOST-}" in
0\ *) ;;                                                     # results are root's, who logged in
*\ podman\ *) set -- "$@" --userns=keep-id ;;
*\ docker\ unix:///run/user/*) ;;                            # rootless: root inside is us
*) set -- "$@" --user "$(id -u):$(id -g)" ;;
esac

# In arguments everybody could read it, and a `pkill -f` in it would find the shell that runs it.
# shellcheck disable=SC2016
[ -n "$line" ] || line='eval "unset ASYNCDEPLOY_DOCKER_LINE
$ASYNCDEPLOY_DOCKER_LINE"'

# The first process stays until all that were told to end have ended: the kernel kills what is left when it goes.
# shellcheck disable=SC2016
inner='told=; trap "told=yes" TERM; sh -c "$1"; status=$?
while [ -n "$told" ] && kill -s 0 -- -1 2>/dev/null; do sleep 0.1 2>/dev/null || sleep 1; done
exit "$status"'

init=--init # docker brings one; podman's is a package of its own
case ${engine##*/} in
podman) [ -x /usr/libexec/podman/catatonit ] || command -v catatonit >/dev/null || init= ;;
esac

exec "$engine" run --rm ${init:+"$init"} -i --name "$called" \
    --label "asyncdeploy.site=$site" --network host --ipc host --entrypoint /bin/sh \
    -e "HOME=$home" -e TINI_KILL_PROCESS_GROUP=1 \
    -v "$site:$site" -v "$HOME/.asyncdeploy:$HOME/.asyncdeploy" -w "$workdir" \
    "$@" "$image" -c "$inner" asyncdeploy "$line"
