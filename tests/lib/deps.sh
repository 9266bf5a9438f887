#!/bin/sh
# deps.sh PACKAGE...: installs the Debian packages that are missing. Needs neither root nor network
# when none is.
set -eu

missing=
for package in "$@"; do
	status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) || status=none
	case $status in
	installed) ;;
	*) missing="$missing $package" ;;
	esac
done
if [ -z "$missing" ]; then
	exit 0
fi

if ! command -v apt-get >/dev/null; then
	echo "deps: not a Debian system. Install what these packages hold:$missing" >&2
	exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
	as_root=
elif command -v sudo >/dev/null; then
	as_root=sudo
else
	echo "deps: missing packages, and neither root nor sudo is here. As root run:" >&2
	echo "    apt-get install$missing" >&2
	exit 1
fi

echo "deps: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# The package lists may be old, or not there yet; what they know already is tried first.
$as_root apt-get install -qq -y $missing >/dev/null 2>&1 && exit 0
$as_root apt-get update -qq
$as_root apt-get install -qq -y $missing
