#!/usr/bin/env bash
# Creates .venv from the pinned requirement files, with Horovod's wheel and Delta's jars. Does nothing
# where .venv already holds what the pinned files say.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
python=$PWD/.venv/bin/python
bash "$here/check_machine.sh"

wanted=$(cat "$here"/*.txt "$here"/*.sh setup.py | sha256sum | cut -d ' ' -f 1)
if [ -x "$python" ] && [ "$(cat .venv/ready 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi

echo "lbsf: creating .venv from conf/environment/dev.txt (the first time it fetches about 3 GB)" >&2
# pip answers only where an earlier creation of .venv came to its end.
"$python" -m pip --version >/dev/null 2>&1 || python3.11 -m venv --clear .venv
"$python" -m pip install --quiet --disable-pip-version-check -r "$here/installer.txt"

export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
uv() { # uv's progress bars for a person, nothing for a log
  local quiet=--quiet
  [ ! -t 2 ] || quiet=
  .venv/bin/uv $quiet --no-config "$@" --python "$python"
}
uv pip sync --link-mode hardlink "$here/dev.txt"
wheel=$(bash "$here/build_horovod.sh" "$python")
uv pip install --no-deps "$wheel"
uv pip install --no-deps --no-build-isolation --editable .
uv pip check
bash "$here/fetch_jars.sh" "$python"
echo "$wanted" >.venv/ready
