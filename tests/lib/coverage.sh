#!/bin/bash
# coverage.sh BUILD: runs every suite of a build with FLAVOUR=coverage and prints how much of each
# source file's lines and branches was reached.
set -uo pipefail

build=$1
find "$build" -name '*.gcda' -delete
tests/lib/suites.sh coverage "$build" $(find "$build"/tests/{unit,integration} -type f -executable)
for data in $(find "$build/obj"/{proto,broker,helper,client} -name '*.gcda'); do
	gcov --no-output --branch-probabilities "$data" 2>/dev/null
done | awk -v FS="[':%]" '
	/^File / { file = $2 }
	/^Lines executed/ && file ~ /^(proto|broker|helper|client)\/.*\.c$/ { lines[file] = $2 }
	/^Taken at least once/ && file in lines { branches[file] = $2 }
	END { for (f in lines) printf "%6.1f%% lines %6.1f%% branches  %s\n", lines[f], branches[f], f }
' | sort -n
