# shellcheck shell=bash
# Finds Docker with Compose, or sets up podman and the real Compose beside it with everything of theirs in a directory of its own. Sourced
# by deploy/test/compose. Sets $compose and $engine; needs $here, $root and $work.
# shellcheck disable=SC2154 # those three

cache=${XDG_CACHE_HOME:-$HOME/.cache}/hospital
compose_version=v2.40.3
mailpit_version=v1.27.11

has_docker() { docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1; }

# Compose as one executable, for who only wants to have files checked.
leave_compose() { # file
    if has_docker; then
        printf '#!/bin/sh\nexec docker compose "$@"\n' >"$1"
        chmod +x "$1"
    else
        fetch_compose
        ln -sf "${compose[0]}" "$1"
    fi
}

engine_start() {
    if has_docker; then
        compose=(docker compose) engine=(docker)
        return
    fi
    local program
    for program in podman runc debootstrap java mvn go unzip xz curl; do
        command -v $program >/dev/null || { echo "neither a Docker engine nor $program is here" >&2 && exit 1; }
    done
    [ "$(id -u)" = 0 ] || { echo "there is no Docker engine, and podman's networks and base images need root" >&2 && exit 1; }
    echo "No Docker engine here: podman runs the containers, and stand-ins take the place of images that cannot be pulled" >&2
    # Podman remembers both directories and refuses others; the second must not survive a restart of the machine.
    engine=(podman --root "$cache/containers/root" --runroot /run/hospital-containers --network-config-dir "$work/networks" --cgroup-manager cgroupfs)
    fetch_compose
    mkdir -p "$work/networks"
    # Limits may not be raised here, so they are those of this process.
    local files processes
    files=$(ulimit -n) processes=$(ulimit -u)
    [ "$files" != unlimited ] && [ "$files" -lt 20000 ] || files=20000
    [ "$processes" != unlimited ] && [ "$processes" -lt 4000 ] || processes=4000
    cat >"$work/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=$files:$files", "nproc=$processes:$processes"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
CONF
    export CONTAINERS_CONF=$work/containers.conf DOCKER_BUILDKIT=0 DOCKER_HOST=unix://$work/podman.sock
    "${engine[@]}" info >/dev/null || exit 1
    build_stand_ins
    "${engine[@]}" system service --time=0 "$DOCKER_HOST" >"$work/podman.log" 2>&1 &
    service=$!
    until [ -S "$work/podman.sock" ]; do
        kill -0 $service || { cat "$work/podman.log" >&2; exit 1; }
        sleep 0.1
    done
    check_health_forever &
    checker=$!
}

engine_stop() {
    # They may have ended already.
    [ -z "${checker:-}" ] || kill "$checker" 2>/dev/null || true
    [ -z "${service:-}" ] || kill "$service" 2>/dev/null || true
    wait 2>/dev/null || true
}

# Podman leaves health checks to systemd's timers, which are not there.
check_health_forever() {
    local api="http://podman/v4.0.0/libpod/containers" ask=(curl -s --max-time 10 --unix-socket "$work/podman.sock")
    while :; do
        for id in $("${ask[@]}" "$api/json" | grep -o '"Id":"[0-9a-f]*"' | cut -d'"' -f4); do
            "${ask[@]}" -o /dev/null "$api/$id/healthcheck" &
        done
        wait
        sleep 1
    done
}

fetch_compose() {
    compose=("$cache/tools/docker-compose-$compose_version")
    [ ! -x "${compose[0]}" ] || return 0
    echo "Building Compose $compose_version (three minutes, once)" >&2
    local dir=$work/compose-build
    mkdir -p "$dir" "$cache/tools"
    cat >"$dir/go.mod" <<GO
module compose
go 1.24
GO
    printf '//go:build tools\npackage tools\nimport _ "github.com/docker/compose/v2/cmd"\n' >"$dir/tools.go"
    (cd "$dir" && go get "github.com/docker/compose/v2@$compose_version" && go mod tidy &&
        go build -mod=mod -o compose github.com/docker/compose/v2/cmd) >"$dir/log" 2>&1 || { tail -n 20 "$dir/log" >&2; exit 1; }
    mv "$dir/compose" "${compose[0]}"
}

has_image() { "${engine[@]}" image exists "$1"; }

# Whether there is a stand-in as its files are now.
has_stand_in() { # name, tag
    has_image "$2" && [ "$("${engine[@]}" image inspect --format '{{.Labels.files}}' "$2")" = "$(files_of "$1")" ]
}

files_of() { (cd "$here/stand-ins/$1" && cat -- *) | sha256sum | cut -c1-16; }

build_stand_ins() {
    local stand_ins=$here/stand-ins context=$work/stand-ins
    if ! has_image docker.io/library/debian:bookworm-slim; then
        "$stand_ins/base.sh" "$work/slim.tar"
        "${engine[@]}" import -q "$work/slim.tar" docker.io/library/debian:bookworm-slim >&2
    fi
    if ! has_image localhost/hospital-stand-in-base:1; then
        "$stand_ins/base.sh" "$work/fat.tar" openjdk-17-jre-headless,postgresql-client
        "${engine[@]}" import -q "$work/fat.tar" localhost/hospital-stand-in-base:1 >&2
    fi
    if ! has_stand_in postgres docker.io/library/postgres:17; then
        mvn -q -B -Dstyle.color=never -f "$stand_ins/pom.xml" dependency:copy-dependencies -DoutputDirectory="$work/postgres-jar" >&2
        mkdir -p "$context/postgres/postgres"
        unzip -p "$work"/postgres-jar/*linux-amd64*.jar '*.txz' | tar -xJ -C "$context/postgres/postgres"
        build_stand_in postgres docker.io/library/postgres:17
    fi
    if ! has_stand_in mail "docker.io/axllent/mailpit:$mailpit_version"; then
        mkdir -p "$context/mail"
        GOBIN=$context/mail go install "github.com/axllent/mailpit@$mailpit_version" >&2
        build_stand_in mail "docker.io/axllent/mailpit:$mailpit_version"
    fi
    local mode version
    for mode in kraft:4.4.0 zookeeper:3.9.2; do
        version=${mode#*:}
        if ! has_stand_in kafka "docker.io/apache/kafka:$version"; then
            mkdir -p "$context/kafka"
            mvn -q -B -Dstyle.color=never -f "$root/deploy/kafka/pom.xml" -P "${mode%:*}" dependency:copy-dependencies -DincludeScope=runtime \
                -DoutputDirectory="$context/kafka/libs" >&2
            build_stand_in kafka "docker.io/apache/kafka:$version"
            rm -rf "$context/kafka"
        fi
    done
}

build_stand_in() { # name, tag
    cp -r "$here/stand-ins/$1/." "$work/stand-ins/$1/"
    "${engine[@]}" build -q --network=none --label "files=$(files_of "$1")" -t "$2" "$work/stand-ins/$1" >&2
}
