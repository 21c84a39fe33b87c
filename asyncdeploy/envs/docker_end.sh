# End the container of a run or job by its name. A daemon that was still making it when its client was killed has it a
# moment later.
# usage: NAME_OF_ENGINE
# shellcheck shell=sh
name=asyncdeploy-${ASYNCDEPLOY_JOB:-$ASYNCDEPLOY_RUN}
for pause in 0 0.2 1; do
    sleep "$pause" 2>/dev/null || sleep 1
    "$1" rm -f "$name" >/dev/null 2>&1
done
