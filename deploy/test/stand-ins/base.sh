#!/bin/sh
# Makes a Debian root file system as a tar archive: base.sh FILE [PACKAGE,PACKAGE...]
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
debootstrap --variant=minbase ${2:+--include="$2"} bookworm "$dir" >&2
# As in the slim image: no caches, no documentation.
rm -rf "$dir"/var/cache/apt/* "$dir"/var/lib/apt/lists/* "$dir"/usr/share/doc/* "$dir"/usr/share/man/* "$dir"/usr/share/locale/*
tar -C "$dir" -c . >"$1.new"
mv "$1.new" "$1"
