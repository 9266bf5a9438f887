#!/bin/bash
# layers.sh: fails on an include that goes up or sideways.
#
#	proto/base <- proto <- helper | client | broker
#
# Each rule is "files: what they may include of the project". What is not allowed is refused.
set -euo pipefail

# The only files that may see the generated protobuf types: codec, scan and request handlers.
GENERATED='^(proto/(codec|scan|schema)[a-z_]*\.[ch]|broker/(req|dispatch|reply)(_[a-z]+)*\.[ch]|broker/spawn_(read|descriptors|command|plan)\.[ch]|client/[a-z_]+\.[ch])$'
failed=0

fail()
{
	echo "layers: $1" >&2
	failed=1
}

# may FILE: a pattern of the headers that this file may include.
may()
{
	case $1 in
	proto/base/*) echo '^proto/(base/|limits\.h)' ;;
	proto/*) echo '^proto/' ;;
	helper/*) echo '^(helper/|proto/base/|proto/(limits|fdpass)\.h)' ;;
	broker/*) echo '^(broker/|proto/|helper/link\.h$)' ;;
	client/cli/*) echo '^(client/cli/|client/redd\.h$)' ;;
	client/*) echo '^(client/[a-z_]+\.h$|proto/)' ;;
	examples/*) echo '^$' ;;
	esac
}

while IFS=: read -r file header; do
	if ! [[ $header =~ $(may "$file") ]]; then
		fail "$file includes $header"
	fi
	if [[ $header == proto/redd.pb-c.h ]] && ! [[ $file =~ $GENERATED ]]; then
		fail "$file includes the generated types (allowed: see GENERATED in $0)"
	fi
done < <(grep -HoE '^#include "[^"]+"' $(find proto broker helper client examples -name '*.[ch]') |
	sed -E 's/#include "([^"]+)"/\1/')

while IFS=: read -r file _; do
	[[ $file =~ $GENERATED ]] || fail "$file uses generated types"
done < <(grep -HoE 'Redd__V1__|REDD__V1__' -m1 $(find proto broker helper client -name '*.[ch]') || true)

if grep -nE '#include <(uv|protobuf-c/)' helper/*.[ch] proto/base/*.[ch]; then
	fail 'helper and proto/base link neither libuv nor protobuf'
fi
if grep -nE '#include <uv' proto/*.[ch] client/*.[ch] client/cli/*.[ch]; then
	fail 'only the broker uses libuv'
fi

twice=$(find proto broker helper client -name '*.c' ! -name main.c -printf '%f\n' | sort | uniq -d)
if [ -n "$twice" ]; then
	fail "base names of files are to be unique: $twice"
fi

[ "$failed" -eq 0 ] && echo 'layers: in order'
exit "$failed"
