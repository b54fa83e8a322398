#!/usr/bin/env bash
# Fetches Delta's jars into the user's cache, once, through Spark's own resolution.
# Usage: fetch_jars.sh PYTHON    (PYTHON: the environment's interpreter)
set -euo pipefail

python=$1
cache=$("$python" -c 'from lbsf.session import jar_cache; print(jar_cache())')
[ ! -d "$cache/jars" ] || exit 0

echo "lbsf: fetching Delta's jars; they are kept in $cache" >&2
mkdir -p "$(dirname "$cache")"
work=$(mktemp -d "$(dirname "$cache")/.jars-XXXXXX")
trap 'rm -rf "$work"' EXIT
if ! XDG_CACHE_HOME=$work "$python" -c '
from lbsf.config import load_config
from lbsf.session import get_spark
get_spark(load_config("conf/local.yaml", ["spark.driver_memory=1g"]).spark).stop()
' >"$work/log" 2>&1; then
  tail -n 40 "$work/log" >&2
  echo "lbsf: Delta's jars cannot be fetched; the last lines stand above" >&2
  exit 1
fi
# Moved into place whole, so that a killed fetch leaves no half set of jars behind.
mkdir -p "$cache"
mv -T "$work/lbsf/$(basename "$cache")/jars" "$cache/jars"
