#!/bin/sh
# What monit runs: /usr/local/sbin/app start|stop|restart. Exit status 1: the new version did not get ready.
set -eu

pid_file=/run/app/app.pid

start() {
    # PID file, lock, record and control socket. Only root writes here.
    mkdir -p /run/app
    # In the background, in a session of its own, and with an output that is not monit's: monit waits for the end of
    # this program, and the launcher stays. A shell has its background ignore INT and QUIT; env undoes that.
    # --ready-timeout: a new version that hangs is ended, and the old one serves on. Shorter than monit's own timeout.
    # --hold-timeout: longer than monit's cycle (`set daemon 120`), or those who wait in the queue of a daemon that has
    # crashed are refused before monit looks.
    # setpriv behind the launcher: /run/app is root's.
    setsid env --default-signal=INT,QUIT /usr/local/bin/seamless-run \
        --pid-file "$pid_file" \
        --listen http=:80 \
        --ready-timeout 50s \
        --stop-timeout 30s \
        --hold-timeout 5m \
        -- setpriv --reuid=app --regid=app --init-groups /usr/local/bin/daemon \
        </dev/null >>/var/log/app.log 2>&1 &
    launcher=$!
    # Until it is ready, so that monit hears how it went. And because the launcher looks who has started it: that shall
    # not be PID 1, which takes what is left over.
    until grep -qs " state=ready .* launcher=$launcher:" "$pid_file.record"; do
        if ! kill -0 "$launcher" 2>/dev/null; then
            wait "$launcher" || echo "app: not ready: the launcher's exit status is $?" >&2
            exit 1
        fi
        sleep 0.1
    done
}

case ${1-} in
start)
    start
    ;;
restart)
    # The old one detaches, and serves until the new one is ready, however long that takes: a restart that was asked for
    # in words knows no --orphan-timeout. When the lock is let go its launcher leaves, and the next one may come. Where
    # nothing is running, this is a start.
    if /usr/local/bin/seamless-run restart --no-wait "$pid_file"; then
        flock --timeout 10 "$pid_file.lock" true
    fi
    start
    ;;
stop)
    # Returns when every generation has ended. 3: there was nothing to stop.
    /usr/local/bin/seamless-run stop "$pid_file" || [ $? -eq 3 ]
    ;;
*)
    echo "usage: app start|stop|restart" >&2
    exit 2
    ;;
esac
