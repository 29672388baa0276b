# Makes sure that what the build and the scripts need is there. Sourced by the other scripts; does nothing when all is there.
#
# Needed: a Rust toolchain from 1.95 on, C and C++ compilers with make and pkg-config (zstd, mimalloc, librdkafka), OpenSSL and zlib
# with their headers (librdkafka), jq.
# Linking: rustc brings its own fast linker (lld) on x86_64 Linux, so nothing is set here.

# What some rows of the fault matrix need; without it they are left out.
prepare_faults() {
  if ! compgen -G "/usr/lib/*/faketime/libfaketimeMT.so.1" >/dev/null; then
    if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
      { apt-get install -y -qq --no-install-recommends faketime || {
        apt-get update -qq && apt-get install -y -qq --no-install-recommends faketime
      }; } >&2 || echo "note: libfaketime cannot be installed: rows that move the clock are left out" >&2
    else
      echo "note: libfaketime is not installed (on Debian: sudo apt-get install faketime): rows that move the clock are left out" >&2
    fi
  fi
}

# What a test needs that holds the disk of the crash tests against what the store really does.
prepare_strace() {
  if command -v strace >/dev/null || [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then return 0; fi
  { apt-get install -y -qq --no-install-recommends strace || {
    apt-get update -qq && apt-get install -y -qq --no-install-recommends strace
  }; } >&2 || echo "note: strace cannot be installed: a test of what the local store does is left out" >&2
}

# What the row of the fault matrix needs that cuts a network; it is not in the gate.
prepare_networks() {
  if command -v ip >/dev/null || [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then return 0; fi
  { apt-get install -y -qq --no-install-recommends iproute2 || {
    apt-get update -qq && apt-get install -y -qq --no-install-recommends iproute2
  }; } >&2 || echo "note: iproute2 cannot be installed: the row that cuts a network is left out" >&2
}

prepare() {
  local missing=()
  command -v cc >/dev/null || missing+=(gcc libc6-dev)
  command -v jq >/dev/null || missing+=(jq)
  command -v c++ >/dev/null || missing+=(g++)
  command -v make >/dev/null || missing+=(make)
  command -v pkg-config >/dev/null || missing+=(pkg-config)
  pkg-config --exists openssl 2>/dev/null || missing+=(libssl-dev)
  pkg-config --exists zlib 2>/dev/null || missing+=(zlib1g-dev)
  if [ ${#missing[@]} -gt 0 ]; then
    if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
      echo "installing: ${missing[*]}" >&2
      { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >&2
    else
      echo "missing: ${missing[*]} (on Debian: sudo apt-get install ${missing[*]})" >&2
      return 1
    fi
  fi
  if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH="$HOME/.cargo/bin:$PATH"
  fi
  if ! command -v cargo >/dev/null; then
    echo "missing: a Rust toolchain, version 1.95 or later (install rustup, then run this again)" >&2
    return 1
  fi
  local version
  version=$(rustc --version | awk '{print $2}')
  if [ "$(printf '1.95.0\n%s\n' "$version" | sort -V | head -1)" != 1.95.0 ]; then
    echo "rustc $version is too old: riverrun needs 1.95 or later (rustup update stable)" >&2
    return 1
  fi
}

# Prints the path of a Python that has the given modules, each `module` or `module=package`: the one on the PATH, or else one of its own below the target folder, into
# which they are installed. Fails, and says so, where that is not possible: what needs them is then left out.
python_with() {
  local imports folder
  imports="import $(IFS=,; echo "${*%%=*}")"
  if command -v python3 >/dev/null && python3 -c "$imports" 2>/dev/null; then
    command -v python3
    return
  fi
  folder=${CARGO_TARGET_DIR:-$PWD/target}/python
  if ! "$folder/bin/python3" -c "$imports" 2>/dev/null; then
    { python3 -m venv "$folder" && "$folder/bin/pip" install -q --disable-pip-version-check "${@##*=}"; } >&2 || {
      echo "note: there is no Python with $*: what needs it is left out" >&2
      return 1
    }
  fi
  echo "$folder/bin/python3"
}

# Prints the path of a Python that has moto, a server that speaks S3, which the tests start on a free port. It is one that reads
# `If-None-Match`, and small; without it the tests of state in buckets are left out, and say so.
prepare_s3() { python_with moto flask flask_cors; }

# Puts promtool, by which the tests check what `--admin` serves, and the server that scrapes it there, beside what is built: the programs alone,
# out of Debian's package `prometheus`, which itself would start a server. Where that cannot be done, the tests that need them say that they are
# left out.
prepare_prometheus() {
  local tools=${CARGO_TARGET_DIR:-$PWD/target}/tools
  if [ -x "$tools/promtool" ] && [ -x "$tools/prometheus" ]; then return 0; fi
  if command -v promtool >/dev/null && command -v prometheus >/dev/null; then return 0; fi
  if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "note: prometheus is not there: the checks of metrics and alerts by it are left out (on Debian: apt-get install prometheus)" >&2
    return 0
  fi
  echo "fetching prometheus" >&2
  local scratch
  scratch=$(mktemp -d)
  if { apt-get update -qq && cd "$scratch" && apt-get -qq -o APT::Sandbox::User=root download prometheus &&
    dpkg-deb -x prometheus_*.deb . && mkdir -p "$tools" && cp usr/bin/promtool usr/bin/prometheus "$tools/"; } >&2; then :; else
    echo "note: prometheus could not be fetched: the checks of metrics and alerts by it are left out" >&2
  fi
  cd "$OLDPWD" 2>/dev/null || true
  rm -rf "$scratch"
}
# Prints the folder with the jars of Apache Kafka, of which the tests start brokers on free ports. Without Java or Maven, which are
# installed where that is possible, the tests on Kafka are left out, and say so.
prepare_kafka() {
  local missing=()
  command -v java >/dev/null || missing+=(default-jre-headless)
  command -v mvn >/dev/null || missing+=(maven)
  if [ ${#missing[@]} -gt 0 ] && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    { apt-get install -y -qq --no-install-recommends "${missing[@]}" || {
      apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"
    }; } >&2 || true
  fi
  "$(dirname "${BASH_SOURCE[0]}")/kafka.sh" home || echo "note: there is no Kafka: tests on it are left out" >&2
}

# Prints the folder with a schema registry, of which the tests start one on a free port. What Kafka needs is there by then.
prepare_registry() {
  "$(dirname "${BASH_SOURCE[0]}")/registry.sh" home || echo "note: there is no schema registry: tests on it are left out" >&2
}

prepare
