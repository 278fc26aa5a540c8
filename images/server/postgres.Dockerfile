# PostgreSQL for compose.yaml: the official image with a password of its own making, or, on a base without it
# (samovar/base:bookworm, where no registry answers), Debian's package. The entry point alone is the server; what
# only describes the image stands before what makes it large (see Dockerfile).
ARG BASE=postgres:15
FROM ${BASE}
ARG IMAGES=samovar
LABEL samovar.images=${IMAGES}
STOPSIGNAL SIGINT
ENTRYPOINT ["samovar-postgres"]
COPY images/server/postgres.sh /usr/local/bin/samovar-postgres
RUN chmod 0755 /usr/local/bin/samovar-postgres && samovar-postgres install
