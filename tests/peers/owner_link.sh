#!/usr/bin/env bash
# A shell peer of the owner-link lock: the published protocol, step by step, with its own order of looks and removals,
# so that tests see what ours meets in the field. It runs in bash 3.2.
#
#   owner_link.sh try LOCK          one attempt: prints "taken" or "busy"; holds until stdin ends, then releases
#   owner_link.sh wait LOCK         as above, but tries every tenth of a second until it has the lock
#   owner_link.sh contend LOCK LOG STOP CLOCK...
#                                   takes and gives back until the file STOP exists; appends "take <time>" and
#                                   "leave <time>" to LOG, by the clock that the command CLOCK prints
#
# A test stops it at a step: OL_PAUSE="step..." makes $OL_POINTS/<step>.reached and waits for $OL_POINTS/<step>.go.
# OL_KILL=step makes it kill itself there. Steps of the mutex have the prefix "steal-", those of its mutex
# "steal-steal-".

OL_PID=${BASHPID:-$$}
OL_FLOOR=2
OL_HELD=

ol_step() {
    local lock=$1 step=$2
    case $lock in
        *.steal.steal) step=steal-steal-$step ;;
        *.steal) step=steal-$step ;;
    esac
    [ "${OL_KILL:-}" != "$step" ] || kill -9 "$OL_PID"
    case " ${OL_PAUSE:-} " in
        *" $step "*)
            : > "$OL_POINTS/$step.reached"
            until [ -e "$OL_POINTS/$step.go" ]; do sleep 0.01; done
            ;;
    esac
}

ol_exists() { [ -e "$1" ] || [ -L "$1" ]; }

ol_target() { readlink "$1" 2>/dev/null; }

ol_pid_of() { cat "$1/pid" 2>/dev/null; }

ol_is_number() {
    case $1 in
        '' | *[!0-9]*) return 1 ;;
    esac
}

ol_age() {
    local changed
    changed=$(stat -c %Y "$1" 2>/dev/null || stat -f %m "$1" 2>/dev/null) || changed=$(date +%s)
    echo $(($(date +%s) - changed))
}

ol_patience() {
    local patience=${FM_LOCK_STALE_AFTER:-$OL_FLOOR}
    [ "$patience" -ge "$OL_FLOOR" ] || patience=$OL_FLOOR
    echo "$patience"
}

# Whether the holder that wrote this pid counts as dead.
ol_is_stale() {
    local lock=$1 pid=$2
    if ol_is_number "$pid"; then
        ! kill -0 "$pid" 2>/dev/null
    else
        [ "$(ol_age "$lock")" -ge "$(ol_patience)" ]
    fi
}

ol_sign() {
    { echo "$OL_PID" > "$1/pid"; } 2>/dev/null && [ "$(ol_pid_of "$1")" = "$OL_PID" ]
}

ol_remove_owner() {
    rm -f "$1/pid" "$1/fm-home" "$1/watcher-path" "$1/pid-identity"
    rmdir "$1" 2>/dev/null
}

# The last looks of a claim. A third argument says that the caller has the mutex itself.
ol_claim() {
    local lock=$1 owner=$2 exempt=${3:-}
    ol_sign "$owner" || return 1
    ol_step "$lock" signed
    [ "$(ol_target "$lock")" = "$owner" ] || return 1
    ol_step "$lock" looked
    if [ -z "$exempt" ] && ol_exists "$lock.steal"; then
        [ "$(ol_target "$lock")" != "$owner" ] || rm -f "$lock"
        return 1
    fi
}

ol_create() {
    local lock=$1 owner=$2 exempt=${3:-}
    ln -s "$owner" "$lock" 2>/dev/null || return 1
    if [ "$(ol_target "$lock")" != "$owner" ]; then
        # It landed inside the directory that the winner's link points at.
        [ ! -L "$lock/${owner##*/}" ] || rm -f "$lock/${owner##*/}"
        return 1
    fi
    ol_step "$lock" linked
    ol_claim "$lock" "$owner" "$exempt"
}

ol_delete() {
    local lock=$1 judged=$2
    ol_step "$lock" removing
    if [ -n "$judged" ]; then
        rm -f "$lock"
        ol_step "$lock" removed
        ol_remove_owner "$judged"
    else
        ol_remove_owner "$lock"
        ol_step "$lock" removed
    fi
}

# Under the mutex: looks again, removes, and makes its own.
ol_reclaim() {
    local lock=$1 owner=$2 pid=$3 judged=$4 steal_owner=$5 again
    for again in 1 2; do
        [ "$(ol_pid_of "$lock")" = "$pid" ] && ol_is_stale "$lock" "$pid" || return 1
    done
    [ "$(ol_target "$lock.steal")" = "$steal_owner" ] || return 1
    [ "$(ol_target "$lock")" = "$judged" ] || return 1
    ol_delete "$lock" "$judged"
    ol_create "$lock" "$owner" exempt
}

# One attempt. On success OL_HELD names the owner directory.
ol_try() {
    local lock=$1 owner pid judged steal_owner outcome=1
    owner=$(mktemp -d "$lock.owner.XXXXXX") || return 1
    if ! ol_sign "$owner"; then
        ol_remove_owner "$owner"
        return 1
    fi
    ol_step "$lock" prepared
    if ! ol_exists "$lock"; then
        ol_create "$lock" "$owner" && outcome=0
    else
        pid=$(ol_pid_of "$lock")
        judged=$(ol_target "$lock")
        if ol_is_stale "$lock" "$pid"; then
            ol_step "$lock" judged
            if ol_try "$lock.steal"; then
                steal_owner=$OL_HELD
                ol_reclaim "$lock" "$owner" "$pid" "$judged" "$steal_owner" && outcome=0
                ol_step "$lock" reclaimed
                ol_release "$lock.steal" "$steal_owner"
            fi
        fi
    fi
    if [ $outcome -eq 0 ]; then
        OL_HELD=$owner
    else
        ol_remove_owner "$owner"
    fi
    return $outcome
}

ol_release() {
    local lock=$1 owner=$2
    [ "$(ol_pid_of "$owner")" = "$OL_PID" ] || return 0
    [ "$(ol_target "$lock")" = "$owner" ] || return 0
    rm -f "$lock"
    ol_step "$lock" released
    ol_remove_owner "$owner"
}

ol_hold_until_stdin_ends() {
    echo taken
    cat > /dev/null
    ol_release "$1" "$OL_HELD"
}

ol_contend() {
    local lock=$1 log=$2 stop=$3
    shift 3
    until [ -e "$stop" ]; do
        if ol_try "$lock"; then
            echo "take $("$@")" >> "$log"
            echo "leave $("$@")" >> "$log"
            ol_release "$lock" "$OL_HELD"
        else
            sleep 0.05
        fi
    done
}

case ${1:-} in
    try)
        if ol_try "$2"; then ol_hold_until_stdin_ends "$2"; else echo busy; fi
        ;;
    wait)
        until ol_try "$2"; do sleep 0.1; done
        ol_hold_until_stdin_ends "$2"
        ;;
    contend)
        shift
        ol_contend "$@"
        ;;
    '') ;;
    *)
        echo "usage: owner_link.sh try|wait LOCK | contend LOCK LOG STOP CLOCK..." >&2
        exit 2
        ;;
esac
