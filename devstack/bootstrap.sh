#!/bin/sh
# Makes this machine able to run the project: from a Debian 12 with only Python 3.11, git and make to a locked
# environment and the real parts. Usage: devstack/bootstrap.sh [check]   ("check" adds node and npm for `make check`).
# Nothing is done, in a few milliseconds, when the stamp says that this uv.lock and these parts are already here.
set -eu

repo=$(cd "$(dirname "$0")/.." && pwd)
tools="$repo/.fuzhen"
uv_version=0.13.9
want=${1:-run}

fingerprint() {
    cat "$repo/uv.lock" "$repo/pyproject.toml" "$repo/devstack/bootstrap.sh" "$repo/devstack/parts.py" \
        "$repo/devstack/kafka/pom.xml" | sha256sum | cut -d' ' -f1
}

done_already() { # the stamp file must hold the fingerprint of what is checked out now
    [ "$(cat "$tools/stamp-$want" 2>/dev/null)" = "$mark" ] && [ -x "$tools/venv/bin/python" ]
}

mark=$(fingerprint)
done_already && exit 0

mkdir -p "$tools"
exec 9>"$tools/bootstrap.lock"
flock 9 # two `make` at once: the second waits, then finds the work done
done_already && exit 0

say() { printf '\033[1m› %s\033[0m\n' "$*"; }
fail() { printf '\n  cause: %s\n  cure:  %s\n\n' "$1" "$2" >&2; exit 1; }

python=$(command -v python3.11) || fail "python3.11 is not on the PATH" "apt-get install python3.11 python3.11-venv"

missing=""
need() { # need PACKAGE COMMAND...: the package is added to the list when the command fails
    package=$1; shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
need python3.11-venv "$python" -c 'import venv, ensurepip'
need openjdk-17-jre-headless java -version
need maven mvn -v
need libcurl4 sh -c '"$(command -v ldconfig || echo /sbin/ldconfig)" -p | grep -q libcurl.so.4'
if [ "$want" = check ]; then
    need nodejs node --version
    need npm npm --version
fi

if [ -n "$missing" ]; then
    say "installing with apt-get:$missing"
    command -v apt-get >/dev/null || fail "these are missing and there is no apt-get:$missing" "install them with this system's package manager, then again"
    root=""
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "these are missing, and only root may install them:$missing" "as root: apt-get install$missing"
        root=sudo
    fi
    log="$tools/apt.log"
    # shellcheck disable=SC2086
    { $root apt-get update && DEBIAN_FRONTEND=noninteractive $root apt-get install -y --no-install-recommends $missing; } \
        >"$log" 2>&1 </dev/null || { tail -5 "$log" >&2; fail "apt-get could not install$missing (whole log: $log)" "as root: apt-get update && apt-get install$missing"; }
fi

if [ "$("$tools/boot/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$uv_version" ]; then
    say "uv $uv_version → .fuzhen/boot"
    rm -rf "$tools/boot"
    "$python" -m venv "$tools/boot"
    "$tools/boot/bin/pip" install -q --disable-pip-version-check "uv==$uv_version" </dev/null \
        || fail "pip could not fetch uv $uv_version from the package index" "check the network, or pip's index and proxy settings (pip config list)"
fi

say "the locked Python environment → .fuzhen/venv"
(cd "$repo" && UV_PROJECT_ENVIRONMENT="$tools/venv" "$tools/boot/bin/uv" sync --locked --quiet --python "$python" </dev/null) \
    || fail "uv could not install what uv.lock names" "check the network, or run: uv lock --check"

(cd "$repo" && "$tools/venv/bin/python" -m devstack.parts </dev/null) || exit 1

echo "$mark" >"$tools/stamp-$want"
