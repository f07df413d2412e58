# nginx -e stderr -c FILE, as a daemon that says when it has started, and that drains on TERM.
mkfifo "$1.said.$$"
nginx -e stderr -c "$1" 2>"$1.said.$$" &
nginx=$!
trap 'kill -QUIT "$nginx"' TERM
# Its own workers: whoever connects may reach a predecessor's.
while read -r line; do
    echo "$line"
    case $line in *'start worker process '*) "$SEAMLESS_RUN" notify started ;; esac
done <"$1.said.$$" &
until wait; do :; done
