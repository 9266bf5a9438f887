#!/bin/bash
# Installs into a directory of its own and uses only what is there: programs that find each other, a
# library that pkg-config finds, and after uninstalling nothing that is left. Prints TAP.
set -uo pipefail

build=${REDD_BUILD:-build}
if [ "${build##*/}" != build ]; then
	echo 'ok 1 - only what is built by default is installed # skip'
	exit 0
fi
work=$(mktemp -d)
prefix=$work/prefix
export XDG_RUNTIME_DIR=$work/runtime
mkdir -m 700 "$XDG_RUNTIME_DIR"
unset REDD_SOCKET MAKEFLAGS MFLAGS
number=0

finish()
{
	PATH=$prefix/bin:$PATH timeout 20 redd shutdown >/dev/null 2>&1
	rm -rf "$work"
}
trap finish EXIT

# check NAME COMMAND...: one test.
check()
{
	local name=$1
	shift
	number=$((number + 1))
	if "$@" >"$work/output" 2>&1; then
		echo "ok $number - $name"
	else
		sed 's/^/# /' "$work/output"
		echo "not ok $number - $name"
	fi
}

# What is built already is used, but for what the other prefix changes.
install_it()
{
	mkdir "$work/build" &&
		cp -a "$build/obj" "$build/flags" "$build/paths" "$work/build" &&
		make -s BUILD="$work/build" PREFIX="$prefix" install
}

# No broker runs yet: redd starts the installed one, which finds the installed helper.
run_it() { [ "$("$prefix/bin/redd" run -- echo hello)" = hello ]; }

compile_it()
{
	local flags
	flags=$(PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config --cflags --libs redd) &&
		gcc -o "$work/run" examples/run.c $flags &&
		[ "$(LD_LIBRARY_PATH=$prefix/lib "$work/run" echo hello 2>/dev/null)" = hello ]
}

compile_static()
{
	gcc -o "$work/run-static" examples/run.c -I"$prefix/include" "$prefix/lib/libredd.a" \
		-lprotobuf-c -lxxhash &&
		[ "$("$work/run-static" echo hello 2>/dev/null)" = hello ]
}

# Public names and nothing else, in both libraries.
symbols_are_ours()
{
	! nm -D --defined-only "$prefix/lib/libredd.so.0" | grep -vE ' redd_[a-z_]+$' &&
		! nm -g --defined-only "$prefix/lib/libredd.a" | grep -E ' [A-Z] ' |
		grep -vE ' redd_[a-z_]+$'
}

manuals_are_there() { [ -s "$prefix/share/man/man1/redd.1" ] && [ -s "$prefix/share/man/man8/redd-broker.8" ]; }

protocol_is_there() { [ -s "$prefix/share/redd/redd.proto" ] && [ -s "$prefix/share/redd/PROTOCOL.md" ]; }

shutdown_it() { "$prefix/bin/redd" shutdown; }

uninstall_it()
{
	make -s BUILD="$work/build" PREFIX="$prefix" uninstall &&
		[ -z "$(find "$prefix" -type f -o -type l)" ]
}

# Stage somewhere else than it will run from, as packages do.
stage_it()
{
	make -s BUILD="$work/build" PREFIX="$prefix" DESTDIR="$work/stage" install &&
		[ -x "$work/stage$prefix/bin/redd" ] &&
		grep -q "^prefix=$prefix$" "$work/stage$prefix/lib/pkgconfig/redd.pc"
}

check 'make install' install_it
check 'an installed redd starts the installed broker and helper' run_it
check 'pkg-config finds the library' compile_it
check 'the static library can be linked' compile_static
check 'the libraries show only their public names' symbols_are_ours
check 'manuals are installed' manuals_are_there
check 'schema and PROTOCOL.md are installed' protocol_is_there
check 'the broker that was started can be shut down' shutdown_it
check 'make uninstall leaves nothing' uninstall_it
check 'DESTDIR stages without changing the prefix' stage_it
echo "1..$number"
