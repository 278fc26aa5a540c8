#!/bin/sh
# install: what the base lacks, while the image is built. run: the server, made at its first start. ready: whether
# it takes connections. The password of the role samovar is made at the first start, in /keys/password, a volume
# that the coordinator reads.
set -eu
PATH="$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1):$PATH"
PGDATA="${PGDATA:-/var/lib/postgresql/data}"
KEY=/keys/password

install_package() {
    if ! command -v postgres >/dev/null; then
        mkdir -p /etc/postgresql-common
        echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q
        # what is written is the image's when all of it is there
        apt-get install -q -y --no-install-recommends -o Dpkg::Options::=--force-unsafe-io postgresql
        apt-get clean
        rm -rf /var/lib/apt/lists/*
    fi
    mkdir -p /keys /var/run/postgresql "$PGDATA"
    chown -R postgres:postgres /keys /var/run/postgresql "$PGDATA"
}

as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid postgres --regid postgres --init-groups "$@"
    else
        "$@"
    fi
}

make() {
    if [ ! -s "$KEY" ]; then
        head -c 24 /dev/urandom | base64 | tr '+/' '-_' > "$KEY.new"
        chown postgres:postgres "$KEY.new"
        chmod 0644 "$KEY.new"
        mv "$KEY.new" "$KEY"
    fi
    [ ! -s "$PGDATA/PG_VERSION" ] || return 0
    # a first start that was cut off is begun anew
    find "$PGDATA" -mindepth 1 -delete
    chown postgres:postgres "$PGDATA"
    chmod 0700 "$PGDATA"
    half="$PGDATA/new"
    as_postgres initdb --pgdata="$half" --username=samovar --pwfile="$KEY" --auth-local=trust \
        --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 >/dev/null
    echo "host all all all scram-sha-256" >> "$half/pg_hba.conf"
    echo "CREATE DATABASE samovar" | as_postgres postgres --single -D "$half" postgres >/dev/null
    as_postgres sh -c "mv '$half'/* '$PGDATA'/ && rmdir '$half'"
}

case "${1:-run}" in
    install) install_package ;;
    ready) exec pg_isready --quiet --username=samovar --dbname=samovar ;;
    run)
        make
        if [ "$(id -u)" = 0 ]; then
            exec setpriv --reuid postgres --regid postgres --init-groups postgres -D "$PGDATA" -c listen_addresses='*'
        fi
        exec postgres -D "$PGDATA" -c listen_addresses='*'
        ;;
    *) echo "samovar-postgres: $1 is none of install, run, ready" >&2; exit 2 ;;
esac
