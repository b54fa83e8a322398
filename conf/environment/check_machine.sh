#!/usr/bin/env bash
# Names what is missing on this machine, one clear line each, before anything is installed.
set -euo pipefail

code=0
complain() {
  echo "lbsf: $1" >&2
  code=2
}
need() { # need COMMAND WHAT-TO-INSTALL
  command -v "$1" >/dev/null 2>&1 || complain "$1 is missing: install $2"
}

# What Spark itself starts: JAVA_HOME's java before the PATH's.
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
need "$java" "a Java 17 JDK (Debian: apt-get install openjdk-17-jdk-headless)"
need gcc "a C compiler (Debian: apt-get install build-essential)"
need g++ "a C++ compiler (Debian: apt-get install build-essential)"
need cmake "CMake (Debian: apt-get install cmake)"
need make "make (Debian: apt-get install build-essential)"

if command -v "$java" >/dev/null 2>&1; then
  # Spark 3.5 runs on Java 8, 11 and 17; 17 is what this product is tested on.
  major=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
  if [ "$major" != 17 ]; then
    complain "$java is version ${major:-unknown}, not 17: install openjdk-17-jdk-headless and put it first on PATH"
  fi
fi

# Run, not looked up: a version manager's python3.11 can be on PATH and still not run.
if absent=$(python3.11 -c '
import importlib.util, os, sysconfig
if importlib.util.find_spec("ensurepip") is None:
    print("python3.11-venv")
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    print("python3.11-dev")
' 2>/dev/null); then
  [ -z "$absent" ] || complain "Python 3.11 is incomplete: install $(echo $absent) (Debian: apt-get install)"
else
  complain "python3.11 is missing: install Python 3.11 (Debian: apt-get install python3.11 python3.11-venv python3.11-dev)"
fi
exit "$code"
