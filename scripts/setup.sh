#!/usr/bin/env bash
# Makes .venv, holding exactly what requirements.txt lists. Doing it again costs
# nothing; an interrupted set-up is repaired by running it again.
#
# Environment: PYTHON, an interpreter to use instead of looking for one.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly STAMP=.venv/.stamp

say() { echo "setup: $*"; }
die() { printf 'setup: %s\n' "$@" >&2; exit 1; }

[[ $(uname -sm) == 'Linux x86_64' ]] ||
  die "this is $(uname -sm); dm-reverb and dm-launchpad have wheels for Linux x86_64 only."

# One at a time: `make train` and `make test` may be started together.
exec 9< requirements.txt
if command -v flock > /dev/null; then flock 9; fi

if [[ -e /etc/ssl/certs/ca-certificates.crt ]]; then
  export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-1}
fi

# A pyenv shim exists for versions that are not selected: only running tells.
is_python_310() {
  "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' > /dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in python3.10 "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.10*/bin/python \
      python3; do
    if is_python_310 "$candidate"; then
      echo "$candidate"
      return
    fi
  done
}

make_environment() {
  local python=${PYTHON:-}
  if [[ -n $python ]]; then
    is_python_310 "$python" ||
      die "PYTHON=$python does not run as Python 3.10; name another or leave it out."
  else
    python=$(find_python)
  fi
  rm -rf .venv
  if command -v uv > /dev/null; then
    say "making .venv with uv and ${python:-a Python 3.10 that uv provides}"
    uv venv --quiet --python "${python:-3.10}" .venv ||
      die 'uv could not make .venv; see above.'
  elif [[ -z $python ]]; then
    die 'no Python 3.10 found (dm-launchpad has no wheels for later versions).' \
      'Looked for: python3.10 on PATH, pyenv versions, python3, uv on PATH.' \
      'Any one of these provides it; then run the same command again:' \
      '  pyenv install 3.10' \
      '  pipx install uv            (uv then downloads Python 3.10 by itself)' \
      '  make ... PYTHON=/path/to/python3.10'
  else
    say "making .venv with $python"
    "$python" -m venv .venv ||
      die "$python has no working venv module." \
        'Debian and Ubuntu: apt-get install python3.10-venv; or: pipx install uv'
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
      "$(grep '^uv==' requirements.txt)" ||
      die 'uv could not be installed from the package registry; see above.'
  fi
}

# uv reads neither pip's settings nor, by default, the machine's certificates; a mirror
# or a proxy set up for pip is meant for it as well.
use_settings_of_pip() {
  local index=${PIP_INDEX_URL:-} cert=${PIP_CERT:-}
  local -r get=(.venv/bin/python -m pip config get)
  index=${index:-$("${get[@]}" global.index-url 2> /dev/null || true)}
  cert=${cert:-$("${get[@]}" global.cert 2> /dev/null || true)}
  if [[ -n $index ]]; then export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}; fi
  if [[ -n $cert ]]; then export SSL_CERT_FILE=${SSL_CERT_FILE:-$cert}; fi
}

install_lock() {
  local uv=(uv)
  command -v uv > /dev/null || uv=(.venv/bin/python -m uv)
  use_settings_of_pip
  say 'installing requirements.txt'
  # The lock also fixes what dm-acme, the one source distribution, is built with.
  "${uv[@]}" pip install --python .venv/bin/python \
    --quiet --no-deps --exact --build-constraint requirements.txt \
    -r requirements.txt ||
    die 'requirements.txt could not be installed; see above, then run it again.'
}

# A run has several processes, and each would compile thousands of sources anew where
# PYTHONDONTWRITEBYTECODE is set, as in many a container: 8 s instead of 2.5.
compile_imports() {
  say 'compiling what runs import'
  PYTHONDONTWRITEBYTECODE='' .venv/bin/python -c \
    'from launch_configs import entry; entry.import_all()' 2> /dev/null ||
    say 'that failed; runs begin a few seconds later'
}

if [[ -f $STAMP ]] && cmp -s requirements.txt "$STAMP" &&
    is_python_310 .venv/bin/python; then
  exit 0
fi
started=$SECONDS
if ! [[ -f $STAMP ]] || ! is_python_310 .venv/bin/python; then
  make_environment
fi
# Without a stamp the next run starts afresh, so that no half-written package stays.
rm -f "$STAMP"
install_lock
compile_imports
cp requirements.txt "$STAMP"
say "done in $((SECONDS - started)) s: $(.venv/bin/python -V) in .venv"
