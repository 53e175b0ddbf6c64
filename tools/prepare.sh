#!/bin/sh
# Make the virtual environment that `make` runs things in; where it stands already, only look.
#
#   tools/prepare.sh VENV PYTHON requirements.txt [asked]      (or -demo.txt, or -dev.txt)
#
# Marks in the environment, written last, say where it was made and from which requirements. So an
# interrupted installation is taken up again, a changed requirements file installs what is new,
# and an environment that was moved is made anew. "asked": the user named PYTHON.
#
# CONSTRAINTS=constraints.txt installs the exact versions of a tested environment. It is not the
# default: the ranges bring security fixes, and fit other Pythons and machines than the tested one.
set -eu
venv=$1 python=$2 requirements=$3 asked=${4-} constraints=${CONSTRAINTS-}
cd "$(dirname "$0")/.."

stop() { printf '%s\n' "$@" >&2; exit 2; }
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo '?'; }
recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }
another() {  # a Python that would do, for the hint
    for name in python3.12 python3.13 python3.11 python3.14 python3.10; do
        if recent "$name"; then echo "$name"; return; fi
    done
    echo python3.12
}

if [ "$constraints" ] && [ ! -f "$constraints" ]; then
    stop "CONSTRAINTS=$constraints is not a file; constraints.txt has the versions that were tested."
fi

new=
if [ ! -e "$venv" ] || [ -z "$(ls -A "$venv")" ]; then
    new="there is none yet"
elif [ ! -f "$venv/pyvenv.cfg" ]; then
    stop "$venv is not a virtual environment, so nothing is installed there." \
         "Name another folder: VENV=folder."
elif ! recent "$venv/bin/python"; then
    new="its Python is gone or older than 3.10"
elif [ -f "$venv/.made-at" ] && [ "$(cat "$venv/.made-at")" != "$(cd "$venv" && pwd -P)" ]; then
    new="it was made in another place, $(cat "$venv/.made-at")"
elif [ "$asked" ] && [ "$(version "$python")" != "$(version "$venv/bin/python")" ]; then
    new="the one there holds Python $(version "$venv/bin/python")"
fi

if [ "$new" ]; then
    command -v "$python" >/dev/null 2>&1 ||
        stop "PYTHON=$python is not found; 3.10 or newer is needed, for example PYTHON=$(another)."
    recent "$python" ||
        stop "PYTHON=$python is Python $(version "$python"); 3.10 or newer is needed," \
             "for example PYTHON=$(another)."
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        stop "$python cannot make virtual environments: its module venv or ensurepip is missing." \
             "On Debian and Ubuntu: apt-get install python3-venv."
    if [ -f "$venv/pyvenv.cfg" ] && [ ! -f "$venv/.made-at" ]; then
        stop "$venv does not fit ($new), and it was not made by make, so it is left alone." \
             "Remove it, or name another folder: VENV=folder."
    fi
    echo "Making the environment $venv with Python $(version "$python"): $new."
    "$python" -m venv --clear "$venv" ||
        stop "The environment could not be made in $venv; the lines above say why."
    (cd "$venv" && pwd -P) > "$venv/.made-at"
fi

# What is installed for one purpose holds what a lighter one needs: dev > all > demo.
size="up to 7 GB and 3 to 15 minutes" disk="10 GB" compile="" checked=requirements.txt
case $requirements in
    requirements-demo.txt)
        holds="" checked=$requirements size="up to 500 MB and about a minute" disk="1 GB"
        compile=--no-compile ;; # to be seen soon: Python compiles what it imports, and no more
    requirements.txt) holds=requirements-demo.txt ;;
    *) holds="requirements-demo.txt requirements.txt" ;;
esac
sum() { cat requirements.txt "$1" ${constraints:+"$constraints"} | cksum; }

mark=$venv/.installed-$requirements
want=$(sum "$requirements")
if [ ! -f "$mark" ] || [ "$(cat "$mark")" != "$want" ]; then
    echo "Installing $requirements into $venv: $size the first time."
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip
    "$venv/bin/python" -m pip install --disable-pip-version-check -r "$requirements" \
        ${constraints:+--constraint "$constraints"} $compile ||
        stop "" "The installation did not finish; the lines above say why. It needs a package index" \
             "within reach and about $disk of free disk. The same command takes it up again."
    for lighter in $holds; do
        [ ! -f "$lighter" ] || sum "$lighter" > "$venv/.installed-$lighter"
    done
    echo "$want" > "$mark"
fi

"$venv/bin/python" tools/check_install.py --requirements "$checked" --remember "$venv/.checked"
