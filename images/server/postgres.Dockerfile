# PostgreSQL for compose.yaml: the official image with a password of its own making, or, on a base without it
# (samovar/base:bookworm, where no registry answers), Debian's package.
ARG BASE=postgres:15
FROM ${BASE}
ARG IMAGES=samovar
LABEL samovar.images=${IMAGES}
COPY images/server/postgres.sh /usr/local/bin/samovar-postgres
RUN chmod 0755 /usr/local/bin/samovar-postgres && samovar-postgres install
ENV PGDATA=/var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["samovar-postgres"]
CMD ["run"]
