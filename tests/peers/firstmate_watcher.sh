#!/usr/bin/env bash
# A watcher of firstmate's shell scripts, as far as other watchers and readers can tell: the lock with what it tells of
# its owner, the beacon, the self-eviction, the lines of one that comes second. It runs in bash 3.2, and stands as
# bin/fm-watch.sh in a home, with owner_link.sh beside it.
#
#   fm-watch.sh             watches, until the file FW_WAKE of the state directory exists: prints its line as the reason
#   fm-watch.sh healthy     prints "healthy pid=<N>" if the four facts and the beacon prove a watcher of this home
#   fm-watch.sh old         watches as releases did that ask nobody: its pid goes into the lock that is there
#
# FM_POLL (seconds), FM_GUARD_GRACE, FM_HOME, FM_ROOT_OVERRIDE and FM_STATE_OVERRIDE are those of the scripts.
# With FW_DEAF it does not hear TERM.

FW_SCRIPTS=$(cd "$(dirname "$0")" && pwd)
FW_ROOT=${FM_ROOT_OVERRIDE:-$(cd "$FW_SCRIPTS/.." && pwd)}
FW_HOME=${FM_HOME:-$FW_ROOT}
FW_STATE=${FM_STATE_OVERRIDE:-$FW_HOME/state}
FW_LOCK=$FW_STATE/.watch.lock
FW_BEACON=$FW_STATE/.last-watcher-beat
FW_PATH=$FW_ROOT/bin/fm-watch.sh
FW_POLL=${FM_POLL:-15}
FW_GRACE=${FM_GUARD_GRACE:-300}

# shellcheck source=tests/peers/owner_link.sh
. "$FW_SCRIPTS/owner_link.sh" ''

fw_identity() { ps -p "$1" -o lstart= -o command= 2>/dev/null | sed 's/^ *//'; }

fw_tell() {
    printf '%s\n' "$FW_HOME" > "$FW_LOCK/fm-home"
    printf '%s\n' "$FW_PATH" > "$FW_LOCK/watcher-path"
    fw_identity "$OL_PID" > "$FW_LOCK/pid-identity"
}

fw_healthy() {
    local pid
    pid=$(ol_pid_of "$FW_LOCK")
    ol_is_number "$pid" && kill -0 "$pid" 2>/dev/null || return 1
    [ "$(cat "$FW_LOCK/fm-home" 2>/dev/null)" = "$FW_HOME" ] || return 1
    [ "$(cat "$FW_LOCK/watcher-path" 2>/dev/null)" = "$FW_PATH" ] || return 1
    [ -s "$FW_LOCK/pid-identity" ] && [ "$(cat "$FW_LOCK/pid-identity")" = "$(fw_identity "$pid")" ] || return 1
    [ -e "$FW_BEACON" ] && [ "$(ol_age "$FW_BEACON")" -lt "$FW_GRACE" ] || return 1
    echo "healthy pid=$pid"
}

# The words of one that comes second.
fw_lost() {
    local pid age
    pid=$(ol_pid_of "$FW_LOCK")
    if ol_is_number "$pid" && kill -0 "$pid" 2>/dev/null; then
        if [ -e "$FW_BEACON" ]; then
            age=$(ol_age "$FW_BEACON")
            if [ "$age" -ge "$FW_GRACE" ]; then
                echo "watcher: lock held by live pid $pid but heartbeat is stale for ${age}s (>${FW_GRACE}s); inspect or stop that watcher before re-arming." >&2
                exit 1
            fi
        elif [ "$(ol_age "$FW_LOCK")" -ge "$FW_GRACE" ]; then
            echo "watcher: lock held by live pid $pid but no heartbeat exists; inspect or stop that watcher before re-arming." >&2
            exit 1
        fi
    fi
    if ol_is_number "$pid"; then echo "watcher: already running pid $pid"; else echo "watcher: already running"; fi
    exit 0
}

fw_watch() {
    while :; do
        [ "$(ol_pid_of "$FW_LOCK")" = "$OL_PID" ] || exit 0
        touch "$FW_BEACON"
        if [ -e "$FW_STATE/FW_WAKE" ]; then
            cat "$FW_STATE/FW_WAKE"
            exit 0
        fi
        sleep "$FW_POLL"
    done
}

[ -z "${FW_DEAF:-}" ] || trap '' TERM
mkdir -p "$FW_STATE"
case ${1:-} in
    '')
        ol_try "$FW_LOCK" || fw_lost
        trap 'ol_release "$FW_LOCK" "$OL_HELD"' EXIT
        fw_tell
        fw_watch
        ;;
    healthy)
        fw_healthy
        ;;
    old)
        mkdir -p "$FW_LOCK" 2>/dev/null
        echo "$OL_PID" > "$FW_LOCK/pid"
        fw_watch
        ;;
    *)
        echo "usage: fm-watch.sh [healthy|old]" >&2
        exit 2
        ;;
esac
