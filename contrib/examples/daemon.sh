#!/bin/sh
# A daemon in POSIX sh that takes part in seamless restarts: it works through the files in a directory.
#
#     seamless-run --pid-file /run/spool/spool.pid -- daemon.sh DIRECTORY COMMAND [ARG]...
#
# For each DIRECTORY/NAME.job it runs COMMAND ARG... FILE, and then removes the file, or renames it to NAME.job.failed.
# A job that is under way is finished whatever comes; the successor takes the others meanwhile. (After a KILL or a
# crash NAME.job.PID stays behind.)
#
# It runs without seamless-run too: then nobody is told anything, and TERM ends it in the same way.

set -u

# Says something to the keeper, which is our parent, and waits until that has taken effect. An error is for the log
# (seamless-run has put it there), never a reason to stop working.
#
# Without the program at hand, `kill -s CHLD "$PPID"` says "prepared" just as well (the shell's own kill: the signal
# must come from this process), and writing $$ to $SEAMLESS_PID_FILE says "started".
say() {
    if [ -n "${SEAMLESS-}" ]; then
        "${SEAMLESS_RUN:-seamless-run}" notify "$@" || echo "daemon.sh: notify $1: status $?" >&2
    fi
}

# Before everything that takes time: a signal that comes before its trap is set kills the shell, and no restart could be
# seamless then.
drain=
interrupted=
trap 'interrupted=1; say prepared' USR2 # a successor will come: go on working
trap 'interrupted=1; drain=1' TERM      # it is there, or this is a stop: finish the job in hand, and leave
trap 'interrupted=1; drain=1' INT       # without seamless-run: somebody's Ctrl-C

if [ $# -lt 2 ]; then
    echo "usage: daemon.sh DIRECTORY COMMAND [ARG]..." >&2
    exit 2
fi
directory=$1
shift
if [ ! -d "$directory" ]; then
    echo "daemon.sh: $directory: no such directory" >&2
    exit 1
fi

# Waits for a child, and gives its status.
#
# A trap runs only between two commands: while a child runs in the foreground the shell is deaf, and "prepared" would
# come when the job is done. So every child that takes long runs in the background, and the shell waits: `wait` is cut
# short by a trapped signal, with a status above 128, and has to be called again.
await() {
    while :; do
        interrupted=
        status=0
        wait "$1" || status=$?
        if [ -z "$interrupted" ] || [ "$status" -le 128 ]; then
            return "$status"
        fi
    done
}

# Both generations work for a while: each job must be for one of them only. Of two who rename the same file one fails.
claim() {
    mv -- "$1" "$1.$$" 2>/dev/null
}

work() {
    for file in "$directory"/*.job; do
        # A pattern without a match stays as it is.
        [ -e "$file" ] || continue
        claim "$file" || continue
        job=$file.$$
        # In the background INT and QUIT are ignored and stdin is /dev/null: that is the shell's doing. The variables
        # go because a child that finds them could speak for this daemon.
        (
            unset SEAMLESS SEAMLESS_PID_FILE SEAMLESS_GENERATION NOTIFY_SOCKET
            exec "$@" "$job"
        ) &
        if await $!; then
            rm -f -- "$job"
        else
            echo "daemon.sh: $job: status $?" >&2
            mv -- "$job" "$file.failed"
        fi
        [ -z "$drain" ] || return 0
    done
}

# Ready: all that can fail has been done. The predecessor is told to drain by this, not before.
say started

while [ -z "$drain" ]; do
    work "$@"
    [ -z "$drain" ] || break
    # Any signal cuts this short; a TERM between the line above and `wait` is seen a second later. What is left of the
    # sleep ends by itself: its PID may be another process's before a `kill` comes. It must not hold the log open.
    sleep 1 >/dev/null 2>&1 &
    wait $!
done
say stopping
exit 0
