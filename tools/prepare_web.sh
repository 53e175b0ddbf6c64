#!/bin/sh
# Install what web/ loads from npm, in the versions of its lock file; where it stands, only look.
# No package's own scripts are run.
set -eu
cd "$(dirname "$0")/../web"

stop() { printf '%s\n' "$@" >&2; exit 2; }

if [ -e node_modules/.package-lock.json ] &&
    [ node_modules/.package-lock.json -nt package-lock.json ]; then
    exit 0
fi
command -v npm >/dev/null 2>&1 ||
    stop "npm is not found; it comes with Node.js 18 or newer (Debian and Ubuntu:" \
         "apt-get install npm). It fetches ONNX Runtime Web for the page."
echo "Installing ONNX Runtime Web into web/node_modules: about 30 MB, once."
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error ||
    stop "npm did not finish; the lines above say why. It needs its registry within reach."
touch node_modules/.package-lock.json
