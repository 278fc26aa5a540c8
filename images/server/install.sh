#!/bin/sh
# Installs each part with its own dependencies alone below /parts; runs in the build of the parts' images.
#
# pip fetches uv alone, and uv the rest in a fraction of pip's time, with one cache for the three parts. Each is
# installed where it will run, since scripts hold that path, and then set aside.
set -eu
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
certificates=/source/images/server/certificates/ca.pem
[ ! -s "$certificates" ] || export PIP_CERT="$certificates" SSL_CERT_FILE="$certificates"
# pip's settings, as uv calls them
[ -z "${PIP_INDEX_URL:-}" ] || export UV_DEFAULT_INDEX="$PIP_INDEX_URL"
[ -z "${PIP_EXTRA_INDEX_URL:-}" ] || export UV_INDEX="$PIP_EXTRA_INDEX_URL"
[ -z "${PIP_TRUSTED_HOST:-}" ] || export UV_INSECURE_HOST="$PIP_TRUSTED_HOST"
python3 -m venv --without-pip /uv
python3 -m pip --python /uv/bin/python install --quiet uv
mkdir /parts
for part in coordinator runner sidecar; do
    python3 -m venv --without-pip /opt/samovar
    /uv/bin/uv pip install --quiet --cache-dir /uv/cache --compile-bytecode \
        --python /opt/samovar/bin/python /source/sdk "/source[$part]"
    mv /opt/samovar "/parts/$part"
done
rm -rf /uv
