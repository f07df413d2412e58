# A daemon in sh that has its sockets by their numbers alone.
python3 "$1" first <&3 &
first=$!
python3 "$1" second <&4 &
second=$!
trap 'kill -TERM "$first" "$second"' TERM
"$SEAMLESS_RUN" notify started
until wait; do :; done
