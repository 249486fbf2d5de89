#!/usr/bin/env bash
# Runs every fuzz target of the module for the given time each. integration has none,
# and listing its tests would link them.
set -euo pipefail
time=${1:-60s}
for pkg in $(go list ./... | grep -v /integration); do
  for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
    echo "== $pkg $target"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$pkg"
  done
done
