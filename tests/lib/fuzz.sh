#!/bin/bash
# fuzz.sh SECONDS FUZZER...: each libFuzzer program for so long, on a corpus that grows in the build
# directory and starts from tests/fuzz/corpus/NAME where there is one. A finding stays as
# build/fuzz/NAME-crash-*, and ends with status 1.
set -uo pipefail

seconds=$1
shift
failed=0
[ $# -eq 0 ] && echo 'fuzz: there are no fuzzers in tests/fuzz'
for fuzzer in "$@"; do
	name=$(basename "$fuzzer")
	corpus=$(dirname "$fuzzer")/corpus-$name
	seeds=tests/fuzz/corpus/$name
	mkdir -p "$corpus"
	echo "== $name, $seconds s"
	log=$(dirname "$fuzzer")/$name.log
	if "$fuzzer" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 \
		-artifact_prefix="$(dirname "$fuzzer")/$name-" "$corpus" \
		$([ -d "$seeds" ] && echo "$seeds") >"$log" 2>&1; then
		tail -1 "$log"
	else
		tail -60 "$log"
		failed=1
	fi
done
exit $failed
