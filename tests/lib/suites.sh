#!/bin/bash
# suites.sh FLAVOUR BUILD SUITE...: runs test suites, JOBS (2) at a time, each with a limit of
# SUITE_SECONDS, and says how many tests passed and failed.
#
# A suite is a criterion program, a Python unittest (test_*.py) or a shell script that prints TAP
# (test_*.sh). Each one's output comes in one piece when it is done. FLAVOUR says how it runs: asan
# and valgrind collect what the tools have to say, in the suite and in every redd program that it
# starts; each finding is a failure, whatever the test thought. COUNTS, a file, gets a line
# "passed failed" for every suite; FAILURES, another, what is needed to know a failure by, for who
# sees no more than the end of a long run.
set -uo pipefail

PYTHON=${PYTHON:-/usr/bin/python3}
JOBS=${JOBS:-2}
SKIP='/bin/*,/usr/*,/sbin/*,*/tests/progs/*,*/examples/*'

environment()
{
	export REDD_BUILD=$build PYTHONDONTWRITEBYTECODE=1
	# Nobody's real broker, whatever the user has.
	unset REDD_SOCKET XDG_RUNTIME_DIR
	case $flavour in
	asan)
		export REDD_PLAIN_CLONE=1 REDD_TEST_SLOW=${REDD_TEST_SLOW:-4}
		export ASAN_OPTIONS="log_path=$logs/found/$name:detect_stack_use_after_return=1"
		export UBSAN_OPTIONS="log_path=$logs/found/$name:print_stacktrace=1"
		;;
	valgrind)
		export REDD_VALGRIND=1 REDD_TEST_SLOW=${REDD_TEST_SLOW:-25}
		;;
	esac
}

command_of()
{
	case $suite in
	*.py) command=("$PYTHON" "$suite") ;;
	*.sh) command=(bash "$suite") ;;
	*) command=("$suite" --color=never -j1) ;;
	esac
	# Units run under valgrind themselves; of the others, the redd programs do (tests/lib/service.c).
	if [[ $flavour == valgrind && $suite == */unit/* ]]; then
		command=(env "LD_LIBRARY_PATH=$build/light" valgrind -q --vgdb=no --read-inline-info=no --trace-children=yes "--trace-children-skip=$SKIP"
			--leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite
			--sim-hints=lax-ioctls --num-callers=30 "--log-file=$logs/found/$name.%p" "${command[@]}")
	fi
}

# Sets passed and failed from what the suite printed.
count()
{
	local line
	passed=0 failed=0
	case $suite in
	*.py)
		line=$(grep -oE '^Ran [0-9]+ test' "$log" | tail -1 | grep -oE '[0-9]+') || line=0
		failed=$(grep -E '^FAILED \(' "$log" | tail -1 |
			grep -oE '(failures|errors)=[0-9]+' | awk -F= '{ n += $2 } END { print n + 0 }')
		passed=$((line - failed))
		;;
	*.sh)
		passed=$(grep -cE '^ok ' "$log")
		failed=$(grep -cE '^not ok ' "$log")
		;;
	*)
		line=$(grep -E '^\[====\] Synthesis:' "$log" | tail -1)
		# Those that crashed are among the failing ones.
		if [[ $line =~ Passing:\ ([0-9]+)\ \|\ Failing:\ ([0-9]+) ]]; then
			passed=${BASH_REMATCH[1]} failed=${BASH_REMATCH[2]}
		fi
		;;
	esac
	if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ] || [ $((passed + failed)) -eq 0 ]; then
		failed=$((failed + 1))
	fi
}

# What of the suite's output tells a failure: names, assertions, the first of what a tool found.
tell_failures()
{
	echo "== $name ($flavour): $failed failed, status $status, $((SECONDS - begin)) s"
	grep -aE -A4 '^\[(FAIL|ERR )\]|^\[----\]|^not ok |^(FAIL|ERROR): |: error: |Sanitizer: |^==[0-9]+== |^service: ' "$log" | head -40
	local found
	for found in "$logs/found/$name".*; do
		[ -f "$found" ] && grep -v '^--' "$found" | head -30
	done
}

# One run of it: sets status, passed, failed and n_found, the findings of a tool among the failures.
run_once()
{
	local limit=$((${SUITE_SECONDS:-240} * (flavour_slow + 1))) found
	begin=$SECONDS
	rm -f "$logs/found/$name".*
	# A suite that is stopped leaves files behind; they go with this directory. Open as /tmp is,
	# for tests that go on as another user.
	TMPDIR=$(mktemp -d /tmp/redd-suite-XXXXXX)
	chmod 1777 "$TMPDIR"
	export TMPDIR
	timeout -k 10 "$limit" "${command[@]}" >"$log" 2>&1 </dev/null
	status=$?
	rm -rf "$TMPDIR"
	count
	n_found=0
	for found in "$logs/found/$name".*; do
		# Lines of valgrind about itself begin with "--".
		grep -qv '^--' "$found" 2>/dev/null && n_found=$((n_found + 1))
	done
	# A process whose environment is its own, and a service's valgrind (tests/lib/service.c),
	# report to the suite's output. So does who has waited for long for a service to be as
	# before: what is left then is a leak, and not slow.
	grep -qE 'ERROR: (Address|Leak)Sanitizer|: runtime error: |^==[0-9]+== |^service: not as before' "$log" &&
		n_found=$((n_found + 1))
	failed=$((failed + n_found))
}

show()
{
	local found
	echo "== $name ($flavour, $((SECONDS - begin)) s)"
	cat "$log"
	[ "$status" -eq 124 ] && echo "$name: stopped, it took too long"
	for found in "$logs/found/$name".*; do
		grep -qv '^--' "$found" 2>/dev/null || continue
		echo "== $name: $(basename "$found")"
		cat "$found"
	done
	[ "$n_found" -gt 0 ] && echo "$name: $n_found findings of a tool, see above"
}

# Under valgrind, which is here for what it finds, a suite without a finding may have failed because
# of the 20 to 50 times that all is slower; its assertions hold without a second try in the other
# flavours. It gets one, and is named in the end all the same.
may_try_again()
{
	[ "$flavour" = valgrind ] && [ "$failed" -gt 0 ] && [ "$n_found" -eq 0 ]
}

run_one()
{
	name=$(basename "$suite")
	log=$logs/$name.log
	environment
	command_of
	run_once
	exec 9>>"$logs/lock"
	flock 9
	show
	if [ "$failed" -gt 0 ]; then
		tell_failures >>"${FAILURES:-/dev/null}"
	fi
	if may_try_again; then
		flock -u 9
		run_once
		flock 9
		show
		echo "== $name ($flavour): run again, $failed failed" | tee -a "${FAILURES:-/dev/null}"
	fi
	echo "$passed $failed" >>"$counts"
}

if [ "$1" = --one ]; then
	shift
	flavour=$1 build=$2 logs=$3 counts=$4 suite=$5
	flavour_slow=0
	[ "$flavour" = valgrind ] && flavour_slow=4
	[ "$flavour" = asan ] && flavour_slow=1
	run_one
	exit 0
fi

flavour=$1
build=$(realpath "$2")
shift 2
logs=$build/test-logs
mkdir -p "$logs/found"
mine=$(mktemp "$logs/counts.XXXXXX")
printf '%s\n' "$@" | xargs -r -P "$JOBS" -I{} bash "$0" --one "$flavour" "$build" "$logs" "$mine" {}
[ -n "${COUNTS:-}" ] && cat "$mine" >>"$COUNTS"
awk -v how="$flavour" '{ p += $1; f += $2 } END {
	printf "%s: %d of %d tests passed in %d suites\n", how, p, p + f, NR
	exit f > 0 || NR == 0
}' "$mine"
status=$?
rm -f "$mine"
exit "$status"
