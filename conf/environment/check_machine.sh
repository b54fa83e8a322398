#!/usr/bin/env bash
# Names what is missing on this machine, one clear line each, before anything is installed.
set -euo pipefail

missing=0
need() { # need COMMAND WHAT-TO-INSTALL
  if ! command -v "$1" >/dev/null 2>&1; then
    echo "lbsf: $1 is missing: install $2" >&2
    missing=1
  fi
}

need python3.11 "Python 3.11 (Debian: apt-get install python3.11 python3.11-venv)"
need java "a Java 17 JDK (Debian: apt-get install openjdk-17-jdk-headless)"
need gcc "a C compiler (Debian: apt-get install build-essential)"
need g++ "a C++ compiler (Debian: apt-get install build-essential)"
need cmake "CMake (Debian: apt-get install cmake)"
need make "make (Debian: apt-get install build-essential)"

if command -v java >/dev/null 2>&1; then
  # Spark 3.5 runs on Java 8, 11 and 17; 17 is what this product is tested on.
  major=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
  if [ "${major:-0}" != 17 ]; then
    echo "lbsf: java is version ${major:-unknown}, Spark 3.5 needs 17: install openjdk-17-jdk-headless and put it first on PATH" >&2
    missing=1
  fi
fi
if command -v python3.11 >/dev/null 2>&1 && ! python3.11 -c 'import ensurepip' >/dev/null 2>&1; then
  echo "lbsf: Python 3.11 has no venv module: apt-get install python3.11-venv" >&2
  missing=1
fi
if [ "$missing" = 0 ] && ! python3.11 -c 'import os, sysconfig; raise SystemExit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))'; then
  echo "lbsf: Python's headers are missing: apt-get install python3.11-dev" >&2
  missing=1
fi
exit "$((missing * 2))"
