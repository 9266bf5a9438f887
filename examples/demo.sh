#!/bin/bash
# demo.sh [BUILD]: the main job on real input, told step by step: a broker, several clients that watch
# one process, input, exit status, a kill, and nothing left at the end. Every claim is checked; the
# script fails with the first one that does not hold.
set -euo pipefail

cd "$(dirname "$0")/.."
build=$(realpath "${1:-build}")
work=$(mktemp -d)
export REDD_SOCKET=$work/redd.sock
export PATH=$build:$PATH
broker=

if [ -t 1 ]; then
	bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' plain=$'\e[0m'
else
	bold= dim= green= plain=
fi

tell() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
note() { printf '%s  %s%s\n' "$dim" "$*" "$plain"; }
right() { printf '%s  ok: %s%s\n' "$green" "$*" "$plain"; }
wrong()
{
	printf '  NOT RIGHT: %s\n' "$*" >&2
	exit 1
}

# show COMMAND...: prints the command as it would be typed, then runs it.
show()
{
	printf '  $ %s\n' "$*"
	"$@" | sed 's/^/    /'
	return "${PIPESTATUS[0]}"
}

finish()
{
	local status=$?
	[ -z "$broker" ] || kill "$broker" 2>/dev/null || true
	[ -z "$broker" ] || wait "$broker" || true
	[ "$status" -eq 0 ] || sed 's/^/  broker: /' "$work/broker.log" >&2 || true
	rm -rf "$work"
	exit "$status"
}
trap finish EXIT

tell '1. A broker, on a socket of its own'
note "redd-broker --socket $REDD_SOCKET"
redd-broker --socket "$REDD_SOCKET" 2>"$work/broker.log" &
broker=$!
# The first client that gets an answer ends the wait.
until redd ping >/dev/null 2>&1; do
	kill -0 "$broker" 2>/dev/null || wrong 'the broker did not start'
done
show redd ping
right "the service runs as process $broker"

tell '2. A program runs through redd as if it were not there'
printf '  $ redd run -- sh -c "wc -l; exit 3" <LICENSE\n'
status=0
lines=$(redd run -- sh -c 'wc -l; exit 3' <LICENSE) || status=$?
echo "    $lines"
[ "$lines" -eq "$(wc -l <LICENSE)" ] && [ "$status" -eq 3 ] || wrong "status $status, $lines lines"
right 'same output, and its own status 3'

tell '3. One process, several clients'
counter='{ n += NF; print NR ": " NF " words"; fflush() } END { print n " words in all"; exit 7 }'
note "redd run -di --name words -- awk '$counter'"
port=$(redd run -di --name words -- awk "$counter")
right "port $port; nobody watches yet"
note 'two clients follow it from now on:   redd logs -f words'
redd logs -f words >"$work/first" &
first=$!
redd logs -f words >"$work/second" &
second=$!
show redd ps

tell '4. A fourth client feeds it, a fifth ends its input'
note "redd write words <LICENSE   ($(wc -c <LICENSE) bytes)"
redd write words <LICENSE
show redd close words
status=0
redd wait words || status=$?
right "redd wait words leaves with the program's status: $status"
[ "$status" -eq 7 ] || wrong "status $status instead of 7"
wait "$first" "$second"
note 'a sixth comes when all is over:      redd logs words'
redd logs words >"$work/late"
awk "$counter" <LICENSE >"$work/direct" || true
for reader in first second late; do
	cmp "$work/$reader" "$work/direct" || wrong "the $reader client saw something else"
	printf '    %-7s %6d bytes, the last line: %s\n' "$reader" "$(wc -c <"$work/$reader")" \
		"$(tail -1 "$work/$reader")"
done
right 'all three saw exactly what awk prints without redd'

tell '5. A process that is killed'
port=$(redd run -d --name sleeper -- sleep 1000)
show redd kill -s KILL sleeper
status=0
redd wait sleeper || status=$?
[ "$status" -eq 137 ] || wrong "status $status instead of 128 + 9"
right 'told as what it was: killed by signal 9 (status 137), not as an exit'

tell '6. A program that is not there'
status=0
printf '  $ redd run -- no-such-program\n'
redd run -- no-such-program 2>&1 | sed 's/^/    /' || status=$?
[ "$status" -eq 127 ] || wrong "status $status instead of 127"
right 'an error that says why, and status 127 as a shell gives it'

tell '7. What the broker knows'
show redd ps --all
show redd forget words
show redd forget sleeper

tell '8. The end'
processes=$(cat "/proc/$broker/task/$broker/children")
show redd shutdown
status=0
wait "$broker" || status=$?
broker=
[ "$status" -eq 0 ] || wrong "the service left with $status"
[ ! -e "$REDD_SOCKET" ] || wrong 'the socket is still there'
for process in $processes; do
	[ ! -e "/proc/$process" ] || wrong "process $process is still there"
done
right 'the service ended with 0; no process, socket or lock is left'
