#!/usr/bin/env bash
# Runs a command with ECOTONE_TEST_POSTGRES_URL set to an empty PostgreSQL database: the one given, else one that this
# script starts (from Debian's packages, installed when absent) in a temporary folder and stops at the end.
set -euo pipefail
if [ -n "${ECOTONE_TEST_POSTGRES_URL:-}" ]; then exec "$@"; fi

server() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1; }
if [ -z "$(server)" ]; then
  echo "installing PostgreSQL from Debian's packages" >&2
  run_as_root=(); [ "$(id -u)" = 0 ] || run_as_root=(sudo)
  "${run_as_root[@]}" apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive "${run_as_root[@]}" apt-get install -y -qq postgresql >&2
fi
bin=$(server)
folder=$(mktemp -d)
as=()
if [ "$(id -u)" = 0 ]; then chown postgres "$folder"; as=(runuser -u postgres --); fi
"${as[@]}" "$bin/initdb" -D "$folder/db" -A trust -U ecotone >/dev/null
port=$(python3 -c '
import random, socket
while True:  # below those that the system gives to others before the server has it
    with socket.socket() as opened:
        try:
            opened.bind(("127.0.0.1", port := random.randrange(10_240, 32_768)))
        except OSError:
            continue
    print(port)
    break')
"${as[@]}" "$bin/pg_ctl" -D "$folder/db" -w -t 300 -o "-p $port -c max_connections=400 -c listen_addresses=127.0.0.1 -c unix_socket_directories=$folder -c fsync=off" -l "$folder/log" start >/dev/null
# At once and whatever comes of it: nobody wants the data, and a trap that fails would be the status of the whole.
trap '"${as[@]}" "$bin/pg_ctl" -D "$folder/db" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$folder" || true' EXIT
"$bin/psql" -h 127.0.0.1 -p "$port" -U ecotone -d postgres -qc 'create database ecotone_test'
export ECOTONE_TEST_POSTGRES_URL="postgresql+psycopg://ecotone@127.0.0.1:$port/ecotone_test"
"$@"
