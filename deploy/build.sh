#!/usr/bin/env bash
# Makes everything that `docker compose up --build` needs and a repository must not have: the services' binaries in deploy/dist, the
# signing key in deploy/secrets, passwords in .env. Run it again after a change; key and passwords stay.
set -euo pipefail
cd "$(dirname "$0")/.."

# What the images' base, debian:bookworm-slim, has.
base_glibc=2.36
services="patient appointment billing notification"
programs="hospital hospital-patient hospital-appointment hospital-billing hospital-notification"

build_here() {
    . .ci/prerequisites.sh
    [ "${OPENSSL_STATIC:-}" = 1 ] || {
        echo "OpenSSL's static library is missing (libssl-dev on Debian): the base image has none to share" >&2
        exit 1
    }
    # Only what is shipped, with the features of the whole workspace: dependencies are then the same
    # as those of every other release build.
    # shellcheck disable=SC2086,SC2046 # a list of words
    cargo build --release --locked $(printf -- '--bin %s ' $programs)
    built=${CARGO_TARGET_DIR:-target}/release
    # Cargo joins the features of what is built together.
    for program in $programs; do
        ! grep -q clock_file "$built/$program" || {
            echo "$program was built with the feature simulation, which is never shipped" >&2
            exit 1
        }
    done
}

# On a system that is newer than the base image, or is no Linux, the same is done in a container of the base's own age.
build_in_container() {
    echo "Building in a container: this system's C library is not one that debian:bookworm-slim can stand in for" >&2
    "$1" run --rm -v "$PWD:/hospital" -v hospital-cargo:/usr/local/cargo/registry -v hospital-target:/target -w /hospital \
        -e CARGO_TARGET_DIR=/target rust:1.95-bookworm sh -c "deploy/build.sh --binaries && chown -R $(id -u):$(id -g) deploy/dist"
}

glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2 || true)
older_or_equal() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

mkdir -p deploy/dist
if [ -n "$glibc" ] && older_or_equal "$glibc" "$base_glibc"; then
    build_here
    for service in $services; do
        # A directory of its own is all that the service's image is made from. Mozilla's authorities are in it as Debian packages them, and
        # none that this machine trusts beside them.
        binary=deploy/dist/$service/hospital-$service
        mkdir -p "deploy/dist/$service"
        cat /usr/share/ca-certificates/mozilla/*.crt >"deploy/dist/$service/ca-certificates.crt"
        strip -g -o "$binary" "$built/hospital-$service"
        needed=$(objdump -T "$binary" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
        older_or_equal "${needed#GLIBC_}" "$base_glibc" || {
            echo "hospital-$service needs $needed, and debian:bookworm-slim has $base_glibc" >&2
            exit 1
        }
    done
    strip -g -o deploy/dist/hospital "$built/hospital"
else
    engine=$(command -v docker || command -v podman) || {
        echo "This system's C library ($glibc) is newer than $base_glibc, and there is no docker or podman to build in" >&2
        exit 1
    }
    build_in_container "$engine"
fi
[ "${1:-}" != --binaries ] || exit 0

# The bills of materials are of these binaries or of none.
rm -rf deploy/dist/sbom
if command -v cargo-cyclonedx >/dev/null && command -v python3 >/dev/null; then
    deploy/sbom.py deploy/dist
else
    echo "Without cargo-cyclonedx and python3 there are no bills of materials (SBOM)" >&2
fi
# Of every file that an image is made from, and of everything else that is handed on.
(
    cd deploy/dist
    find . -type f ! -name 'SHA256SUMS*' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum >SHA256SUMS.new
    mv SHA256SUMS.new SHA256SUMS
)

# The key is read by the containers' user, who is nobody here: the directory is what keeps others out.
mkdir -p deploy/secrets
chmod 700 deploy/secrets
if [ ! -e deploy/secrets/signing-key.pem ]; then
    (umask 022 && openssl genpkey -algorithm ed25519 -out deploy/secrets/signing-key.pem.new)
    chmod 644 deploy/secrets/signing-key.pem.new
    mv deploy/secrets/signing-key.pem.new deploy/secrets/signing-key.pem
fi
if [ ! -e .env ]; then
    (
        umask 077
        owner=$(openssl rand -hex 18)
        while IFS= read -r line; do
            case $line in
                POSTGRES_PASSWORD=) echo "$line$owner" ;;
                *_PASSWORD=) echo "$line$(openssl rand -hex 18)" ;;
                DATABASE_URL=) echo "${line}postgresql://hospital_owner:$owner@127.0.0.1:15432/hospital" ;;
                *) echo "$line" ;;
            esac
        done <.env.example >.env.new
        mv .env.new .env
    )
fi

find deploy/dist -name 'hospital*' -type f ! -name '*.json' -printf '%s %f\n' | awk '{ printf "%6.1f MB  %s\n", $1 / 1e6, $2 }' | sort >&2
echo "Ready: docker compose up --build" >&2
