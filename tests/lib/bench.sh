#!/bin/bash
# bench.sh BUILD PROGRAM...: runs the measurements one after another, with what is needed to judge
# them: machine, kernel, load. Each line is `name: redd=... raw=... ratio=...`; trust the ratios.
set -uo pipefail

REDD_BUILD=$(realpath "$1")
export REDD_BUILD
unset REDD_SOCKET XDG_RUNTIME_DIR
shift
echo "# $(date -u +%FT%TZ) $(uname -srm), $(nproc) CPUs, load $(cut -d' ' -f1-3 /proc/loadavg)"
failed=0
for program in "$@"; do
	"$program" || failed=1
done
echo "# load at the end $(cut -d' ' -f1-3 /proc/loadavg)"
exit $failed
