#!/usr/bin/env bash
# Builds Horovod's wheel for this Python and torch, once, and prints its path.
# Usage: build_horovod.sh PYTHON    (PYTHON: the environment's interpreter, with torch installed)
set -euo pipefail

python=$1
version=0.28.1
gpu=${HOROVOD_GPU_OPERATIONS:-cpu}
torch=$("$python" -c 'import importlib.metadata as m; print(m.version("torch"))')
cache="${XDG_CACHE_HOME:-$HOME/.cache}/lbsf/horovod-$version-torch-$torch-$gpu-$("$python" -c 'import sysconfig, sys; print(f"cp{sys.version_info.major}{sys.version_info.minor}-" + sysconfig.get_platform())')"

if ! ls "$cache"/horovod-*.whl >/dev/null 2>&1; then
  echo "lbsf: building Horovod $version for torch $torch ($gpu), about 3 minutes; the wheel is kept in $cache" >&2
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  "$python" -m pip download --quiet --no-deps --no-binary :all: --no-build-isolation --dest "$work" "horovod==$version" >&2
  tar -xzf "$work/horovod-$version.tar.gz" -C "$work"
  # Horovod asks for C++14; torch's headers need C++17, and C++20 from 2.14 on.
  standard=$("$python" -c "v = tuple(int(p) for p in '$torch'.split('+')[0].split('.')[:2]); print(20 if v >= (2, 14) else 17)")
  sed -i "s/set(CMAKE_CXX_STANDARD 14)/set(CMAKE_CXX_STANDARD $standard)/" \
    "$work/horovod-$version/CMakeLists.txt" "$work/horovod-$version/horovod/torch/CMakeLists.txt"
  # CUDA sources use the same C++ standard.
  sed -i "s/set(CMAKE_CUDA_STANDARD 11)/set(CMAKE_CUDA_STANDARD $standard)/" \
    "$work/horovod-$version/horovod/common/ops/cuda/CMakeLists.txt"
  # Horovod does not include all headers that it uses; before GCC 13, other headers included them.
  headers=$(printf -- '-include %s ' algorithm array atomic chrono condition_variable cstdint cstring functional \
    iostream limits map memory mutex queue sstream stdexcept string thread unordered_map utility vector)
  # CMake 4 refuses Gloo's cmake_minimum_required unless this policy version is set.
  if ! CXXFLAGS="${CXXFLAGS:-} $headers" CMAKE_POLICY_VERSION_MINIMUM=3.5 HOROVOD_WITH_PYTORCH=1 \
    HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 \
    MAKEFLAGS="-j$(nproc)" "$python" -m pip wheel --no-build-isolation --no-deps --wheel-dir "$work/wheel" "$work/horovod-$version" >"$work/log" 2>&1; then
    tail -n 40 "$work/log" >&2
    echo "lbsf: Horovod's build failed; its last lines stand above" >&2
    exit 1
  fi
  mkdir -p "$cache"
  # Moved into place under its name last, so that a killed build leaves no broken wheel behind.
  for wheel in "$work"/wheel/horovod-*.whl; do
    cp "$wheel" "$cache/.partial" && mv "$cache/.partial" "$cache/$(basename "$wheel")"
  done
fi
ls "$cache"/horovod-*.whl
