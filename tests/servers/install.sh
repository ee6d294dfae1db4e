#!/bin/sh
# Installs the database servers that the tests start privately: PostgreSQL, MariaDB, Redis with Sentinel.
# Where it may not (no root, no Debian or Ubuntu) it says what to install, and the tests say what they miss.
set -eu

missing=""
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v mariadbd >/dev/null 2>&1 || [ -x /usr/sbin/mariadbd ] || command -v mysqld >/dev/null 2>&1 ||
    missing="$missing mariadb-server"
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
command -v redis-sentinel >/dev/null 2>&1 || missing="$missing redis-sentinel"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "tests/servers/install.sh: no apt-get here; install yourself:$missing (Debian's names)" >&2
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "tests/servers/install.sh: run \`sudo apt-get install --no-install-recommends$missing\`, or this script as root" >&2
    exit 0
fi

# Debian starts a server on installing it; the tests need the programs only, and a service that is there stays as it is.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi
echo "installing$missing for the tests" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || true
# shellcheck disable=SC2086 # one word per package
if ! apt-get install -y -qq --no-install-recommends $missing >/dev/null; then
    echo "tests/servers/install.sh: apt-get could not install$missing; install them yourself" >&2
fi
