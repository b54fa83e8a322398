#!/usr/bin/env bash
# Creates .venv from the pinned requirement files, with Horovod's wheel and Delta's jars. Does nothing
# where .venv already holds what the pinned files say.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
bash "$here/check_machine.sh"

wanted=$(cat "$here"/*.txt "$here"/*.sh setup.py | sha256sum | cut -d ' ' -f 1)
if [ -x .venv/bin/python ] && [ "$(cat .venv/ready 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi

echo "lbsf: creating .venv from conf/environment/dev.txt" >&2
[ -x .venv/bin/python ] || python3.11 -m venv .venv
python="$root/.venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check -r "$here/installer.txt"
uv() { "$root/.venv/bin/uv" --quiet --no-config "$@" --python "$python"; }
uv pip sync --link-mode hardlink "$here/dev.txt"
wheel=$(bash "$here/build_horovod.sh" "$python")
uv pip install --no-deps "$wheel"
uv pip install --no-deps --no-build-isolation --editable .
uv pip check
"$python" -c '
from lbsf.config import load_config
from lbsf.session import get_spark, jar_cache
if not any((jar_cache() / "jars").glob("*.jar")):
    get_spark(load_config("conf/local.yaml").spark).stop()
' 2>.venv/jars.log || { cat .venv/jars.log >&2; exit 1; }
echo "$wanted" >.venv/ready
