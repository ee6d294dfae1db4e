#!/bin/sh
# Puts a MySQL server beside the system's MariaDB, for tests only: sh tests/servers/mysql.sh FOLDER, and then
# TEST_MYSQL_BIN=FOLDER/bin pytest tests/sinks/test_mysql*. Nothing is installed: the signed packages of Debian's
# unstable branch (stable has none) are unpacked into FOLDER with the libraries they want. Needs Debian's apt and keyring.
set -eu

[ $# = 1 ] || { echo "usage: sh tests/servers/mysql.sh FOLDER" >&2; exit 2; }
mkdir -p "$1/apt/lists/partial" "$1/apt/archives/partial" "$1/root" "$1/bin"
folder=$(cd "$1" && pwd)
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keys" ] || { echo "tests/servers/mysql.sh: $keys is missing: install debian-archive-keyring" >&2; exit 1; }
echo "deb [signed-by=$keys] http://deb.debian.org/debian sid main" >"$folder/apt/sources.list"
: >"$folder/apt/status"

apt() {
    apt-get -qq -y -o Dir::Etc::sourcelist="$folder/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$folder/apt/lists" -o Dir::State::status="$folder/apt/status" \
        -o Dir::Cache="$folder/apt" -o Dir::Cache::archives="$folder/apt/archives" \
        -o Debug::NoLocking=1 -o APT::Install-Recommends=0 -o APT::Sandbox::User="" "$@"
}
apt update
apt --download-only install mysql-server-core mysql-client-core
for package in "$folder"/apt/archives/*.deb; do
    dpkg-deb --extract "$package" "$folder/root"
done
rm -r "$folder/apt"

usr=$folder/root/usr
for program in sbin/mysqld bin/mysql bin/mysqladmin; do
    options=
    [ "$program" = bin/mysqladmin ] || [ "$program" = bin/mysql ] ||
        options=" --lc-messages-dir=$usr/share/mysql --character-sets-dir=$usr/share/mysql/charsets --plugin-dir=$usr/lib/mysql/plugin"
    cat >"$folder/bin/${program#*/}" <<END
#!/bin/sh
exec $usr/lib64/ld-linux-x86-64.so.2 --library-path $usr/lib/x86_64-linux-gnu:$usr/lib/mysql/private $usr/$program "\$@"$options
END
    chmod 755 "$folder/bin/${program#*/}"
done
chmod -R a+rX "$folder"
"$folder/bin/mysqld" --version
