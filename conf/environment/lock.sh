#!/usr/bin/env bash
# Renews the pinned requirement files from setup.py's extras: main.txt (the product), dev.txt (with tests and benchmarks).
set -euo pipefail
cd "$(dirname "$0")/../.."
compile() { # compile FILE EXTRA...
  local file=$1 extras=() extra
  shift
  for extra in "$@"; do extras+=(--extra "$extra"); done
  .venv/bin/uv pip compile --quiet --upgrade --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
    --python-version 3.11 setup.py "${extras[@]}" -o "conf/environment/$file"
}
compile main.txt spark train horovod-build
compile dev.txt spark train horovod-build experiment dev bench
