#!/bin/sh
# Installs what building and running need and this machine lacks, saying what. Sourced by ./run, ./test and .ci/run; on a machine that
# has everything it does nothing and takes no time. Who needs more Debian packages names them in $more_packages.
set -eu

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null 2>&1; then sudo "$@"; else
        echo "This needs root, and there is no sudo: $*" >&2
        exit 1
    fi
}

has_postgres() {
    command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1
}

packages=
command -v cc >/dev/null 2>&1 && command -v c++ >/dev/null 2>&1 && command -v make >/dev/null 2>&1 || packages="$packages build-essential"
command -v curl >/dev/null 2>&1 || packages="$packages curl"
[ -d /usr/share/ca-certificates/mozilla ] || packages="$packages ca-certificates"
[ -e /usr/include/zlib.h ] || packages="$packages zlib1g-dev"
# Kafka's client speaks TLS and SASL with it.
[ -e /usr/include/openssl/ssl.h ] || packages="$packages libssl-dev"
command -v pkg-config >/dev/null 2>&1 || packages="$packages pkg-config"
command -v openssl >/dev/null 2>&1 || packages="$packages openssl"
# The README's tour is typed into it.
command -v bash >/dev/null 2>&1 || packages="$packages bash"
has_postgres || packages="$packages postgresql postgresql-contrib"
for package in ${more_packages:-}; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || packages="$packages $package"
done

if [ -n "$packages" ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "Missing here, by their Debian names:$packages. Install them with this system's package manager and try again." >&2
        exit 1
    fi
    echo "Installing:$packages" >&2
    # A server that the package would start for itself is not wanted: the platform keeps a private one.
    if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        as_root mkdir -p /etc/postgresql-common
        printf 'create_main_cluster = false\n' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
    fi
    as_root apt-get update -q >&2
    # shellcheck disable=SC2086 # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages >&2
fi

command -v cargo >/dev/null 2>&1 || PATH="$HOME/.cargo/bin:$PATH"
if ! command -v cargo >/dev/null 2>&1; then
    echo "Installing Rust with rustup, for this user" >&2
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt >&2
fi
export PATH

# OpenSSL is linked into the binaries, so that they run where there is none, such as in the images.
libraries=$(pkg-config --variable=libdir openssl 2>/dev/null || true)
if [ -e "$libraries/libssl.a" ] && [ -e "$libraries/libcrypto.a" ]; then
    OPENSSL_LIB_DIR=$libraries
    OPENSSL_INCLUDE_DIR=$(pkg-config --variable=includedir openssl)
    OPENSSL_STATIC=1
    export OPENSSL_STATIC OPENSSL_LIB_DIR OPENSSL_INCLUDE_DIR
fi
