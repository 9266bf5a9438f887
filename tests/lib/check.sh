#!/bin/bash
# check.sh: everything that must hold before a change is good. Called by `make check` in the top
# directory. Goes on after a failure, so that one run tells all; what failed is told again at the
# end, and the last line is the sum.
#
# Steps: format, layers, build with gcc and with clang without a warning, all suites plain, under
# address and undefined behaviour sanitizers, and under valgrind, and a little fuzzing.
set -uo pipefail

export COUNTS FAILURES JOBS
COUNTS=$(mktemp)
FAILURES=$(mktemp)
trap 'rm -f "$COUNTS" "$FAILURES"' EXIT
MAKE=${MAKE:-make}
jobs=$(nproc)
JOBS=${JOBS:-$((jobs + 1))} # suites at a time: some of them wait
unset MAKEFLAGS MFLAGS MAKELEVEL
summary=()

# step NAME COMMAND...: one test that passes when the command does.
step()
{
	local name=$1 begin=$SECONDS
	shift
	echo
	echo "==== $name"
	if "$@"; then
		echo '1 0' >>"$COUNTS"
		summary+=("ok      $name ($((SECONDS - begin)) s)")
	else
		echo '0 1' >>"$COUNTS"
		summary+=("FAILED  $name ($((SECONDS - begin)) s)")
	fi
}

# suites NAME FLAVOUR TARGET: they write their own counts, unless they could not be built.
suites()
{
	local begin=$SECONDS before
	before=$(wc -l <"$COUNTS")
	echo
	echo "==== $1"
	if "$MAKE" FLAVOUR="$2" "$3"; then
		summary+=("ok      $1 ($((SECONDS - begin)) s)")
	else
		summary+=("FAILED  $1 ($((SECONDS - begin)) s)")
		[ "$(wc -l <"$COUNTS")" -gt "$before" ] || echo '0 1' >>"$COUNTS"
	fi
}

build()
{
	"$MAKE" -j"$jobs" FLAVOUR="$1" all "${2:-tests}"
}

step 'format' "$MAKE" format-check
step 'layers' "$MAKE" layers
step 'build with gcc, no warning' build gcc
step 'build with clang, no warning' build clang test-objects
step 'build with sanitizers' build asan
step 'build for valgrind' build valgrind
step 'fuzzers, for five seconds each' "$MAKE" -j"$jobs" fuzz FUZZ_SECONDS=5
suites 'unit suites' gcc unit
suites 'integration suites' gcc integration
suites 'unit suites with sanitizers' asan unit
suites 'integration suites with sanitizers' asan integration
suites 'unit suites under valgrind' valgrind unit
suites 'integration suites under valgrind' valgrind integration

echo
echo '==== What ran'
printf '%s\n' "${summary[@]}"
cat "$FAILURES"
awk '{ p += $1; f += $2 } END { printf "%d passed, %d failed\n", p, f; exit f > 0 }' "$COUNTS"
