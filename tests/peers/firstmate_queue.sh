#!/usr/bin/env bash
# A shell peer of the wake queue: an appender and a drain, written from the contract, so that tests see what ours meets in
# the field. It runs in bash 3.2.
#
#   firstmate_queue.sh append STATE KIND KEY PAYLOAD    appends one row under the queue's lock
#   firstmate_queue.sh drain STATE                      prints the rows, each topic once, and consumes them
#   firstmate_queue.sh hold STATE                       takes the lock, prints "taken", gives it back when stdin ends
#
# FQ_KILL=moved makes a drain kill itself after it has moved the queue aside.

# An explicit argument, or the sourced file would take ours for its own.
. "${BASH_SOURCE[0]%/*}/owner_link.sh" ''

fq_flat() { printf '%s' "$1" | tr '\t\r\n' '   '; }

fq_lock() { until ol_try "$FQ_LOCK"; do sleep 0.1; done; }

fq_unlock() { ol_release "$FQ_LOCK" "$OL_HELD"; }

fq_append() {
    local kind=$1 key payload seq status=0
    case $kind in
        signal | stale | check | heartbeat) ;;
        *)
            echo "fm_wake_append: invalid wake kind: $kind" >&2
            return 2
            ;;
    esac
    key=$(fq_flat "$2")
    payload=$(fq_flat "$3")
    fq_lock
    seq=$(cat "$FQ_QUEUE.seq" 2>/dev/null)
    ol_is_number "$seq" || seq=0
    seq=$((seq + 1))
    echo "$seq" > "$FQ_QUEUE.seq" \
        && printf '%s\t%s\t%s\t%s\t%s\n' "$(date +%s)" "$seq" "$kind" "$key" "$payload" >> "$FQ_QUEUE" || status=1
    fq_unlock
    return $status
}

fq_print() {
    awk -F '\t' '
        NF < 5 { next }
        {
            topic = $3 SUBSEP ($3 == "heartbeat" ? "" : $4)
            if (!(topic in place)) { place[topic] = ++count }
            row[place[topic]] = $0
        }
        END { for (at = 1; at <= count; at++) print row[at] }
    ' "$1"
}

fq_drain() {
    local moved=$FQ_QUEUE.drain.$OL_PID
    fq_lock
    if [ ! -s "$FQ_QUEUE" ]; then
        : > "$FQ_QUEUE"
    else
        mv "$FQ_QUEUE" "$moved"
        : > "$FQ_QUEUE"
        [ "${FQ_KILL:-}" != moved ] || kill -9 "$OL_PID"
        fq_print "$moved"
        rm -f "$moved"
    fi
    fq_unlock
}

FQ_QUEUE=$2/.wake-queue
FQ_LOCK=$FQ_QUEUE.lock
case ${1:-} in
    append) fq_append "$3" "$4" "$5" ;;
    drain) fq_drain ;;
    hold)
        fq_lock
        ol_hold_until_stdin_ends "$FQ_LOCK"
        ;;
    *)
        echo "usage: firstmate_queue.sh append STATE KIND KEY PAYLOAD | drain STATE | hold STATE" >&2
        exit 2
        ;;
esac
