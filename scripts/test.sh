#!/usr/bin/env bash
# The test command, the same at the desk and in continuous integration: formatting, lints (warnings are errors), tests with
# tidy among them, the release binary, which plays the tests of the bundled jobs, simulated seeds, every benchmark once on tiny input, the docs, what the
# image holds in a sandbox, and the fault matrix with few runs.
#
# Usage: scripts/test.sh [STAGE...]      stages: fmt lint test build image faults simulate bench docs (default: all)
#
# Missing tools are installed where that is possible; otherwise what is missing is said before anything is built, and what needs it is left out.
# With RIVERRUN_TEST_ALL=1, as in continuous integration, that is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/prepare.sh

# Does something once more if it fails: what is fetched comes over a network.
again() { "$@" || "$@"; }

stages=("$@")
# What begins beside the tests and is not waited for by another stage comes last: it goes on beside the fault matrix.
[ ${#stages[@]} -gt 0 ] || stages=(fmt lint test build image faults simulate bench docs)

target=${CARGO_TARGET_DIR:-$PWD/target}
if [ -z "${RIVERRUN_TEST_DATA:-}" ]; then
  echo "note: RIVERRUN_TEST_DATA is not set: tests on real data sets are left out" >&2
fi

# Tests that ask DuckDB and pyarrow, write with Confluent's serializers, hold manifests against the schemas of Kubernetes, or fuzz a manager by its
# OpenAPI document find them by this; without it they are left out, and say so.
serializers=(confluent_kafka fastavro httpx authlib cachetools attrs google.protobuf=protobuf google.api=googleapis-common-protos kubernetes_validate=kubernetes-validate schemathesis)
RIVERRUN_TEST_PYTHON=${RIVERRUN_TEST_PYTHON:-$(again python_with duckdb pyarrow "${serializers[@]}" || python_with duckdb pyarrow || python_with duckdb || true)}
export RIVERRUN_TEST_PYTHON
# Tests that keep state in a bucket start this server.
RIVERRUN_TEST_S3=${RIVERRUN_TEST_S3:-$(again prepare_s3 || true)}
export RIVERRUN_TEST_S3

# Tests on Kafka start brokers from these jars.
RIVERRUN_KAFKA_HOME=${RIVERRUN_KAFKA_HOME:-$(prepare_kafka || true)}
export RIVERRUN_KAFKA_HOME
# And the schema registry beside them from here.
RIVERRUN_REGISTRY_HOME=${RIVERRUN_REGISTRY_HOME:-$([ -z "$RIVERRUN_KAFKA_HOME" ] || prepare_registry || true)}
export RIVERRUN_REGISTRY_HOME

# What of the above is not there, and would be left out without a word at the end.
left_out=()
if [ -z "$RIVERRUN_TEST_PYTHON" ]; then left_out+=("DuckDB and other readers"); fi
if [ -z "$RIVERRUN_TEST_S3" ]; then left_out+=("state in buckets"); fi
if [ -z "$RIVERRUN_KAFKA_HOME" ]; then left_out+=("Kafka"); fi
if [ -z "$RIVERRUN_REGISTRY_HOME" ]; then left_out+=("schema registry"); fi
if [ ${#left_out[@]} -gt 0 ] && [ -n "${RIVERRUN_TEST_ALL:-}" ]; then
  echo "what these need is missing: $(printf '%s; ' "${left_out[@]}")see above; RIVERRUN_TEST_ALL does not let it be left out" >&2
  exit 1
fi
# Their licences keep them out of the repository, so nobody can be asked to have them.
if [ -z "${RIVERRUN_TEST_DATA:-}" ]; then left_out+=("real data sets"); fi

# Removes what tests left in a folder. Their servers end soon after them, and are found by what they keep there.
forget() {
  local tries
  for tries in $(seq 100); do
    [ -n "$(find "$1" -maxdepth 2 -name '*.pid' -print -quit 2>/dev/null)" ] || break
    sleep 0.1
  done
  rm -rf "$1" || true
}

# In one piece these cost a third less than in 16 that are then optimised across. Increments need the pieces.
if [ "${CARGO_INCREMENTAL:-}" = 0 ]; then
  cargo() {
    command cargo --config profile.dev.package.riverrun-dataflow.codegen-units=1 --config profile.dev.package.riverrun-state.codegen-units=1 "$@"
  }
fi

fmt()   { cargo fmt --all --check; }
lint()  { cargo clippy --workspace --all-targets --locked -- -D warnings; }
compile() { prepare_prometheus && prepare_strace && cargo test --workspace --locked --no-run; }
tests() {
  # They make and delete files all the time, which is done in memory where that has room. The fault matrix has the disk.
  local room=0 free=0
  room=$(df --output=avail --block-size=1G /dev/shm 2>/dev/null | tail -n 1 || true)
  free=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo 2>/dev/null || true)
  if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ] && [ "${room:-0}" -ge 8 ] && [ "${free:-0}" -ge 8 ]; then
    TMPDIR=$(mktemp -d --tmpdir=/dev/shm)
    export TMPDIR
    trap 'forget "$TMPDIR"' EXIT
  fi
  # They wait for clocks and servers more than they work.
  RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) + 1))} cargo test --workspace --locked
}
# The whole workspace at once: another choice of packages would be another choice of features, and compile everything again.
build() {
  cargo build --release --workspace --locked
  # The tests of the bundled jobs, as a user plays them.
  "$target/release/riverrun" test jobs
}
# What the image holds, run as its pod runs it.
image() { scripts/sandbox.sh "$target/release/riverrun"; }
# Always the same seeds: a guard against going back. Longer runs, from other seeds on, look for what is not known yet.
simulate() {
  local simulation=$target/release/riverrun-simulation pid failed=0
  pids=()
  # A stage is a shell of its own: what it has begun ends with it.
  trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
  "$simulation" --mutants & pids+=($!)
  for script in windows ledger; do
    { "$simulation" --script $script --seeds 150 && "$simulation" --script $script --seeds 50 --faulty-store; } & pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  "$simulation" --past && [ $failed = 0 ]
}
# Rows that need what this machine does not have are left out, and the table says which and why. The longest ones first: several run at once.
faults() {
  local debug=()
  # The tests have built it; the named points are in no other build.
  [ ! -x "$target/debug/riverrun" ] || debug=(--debug-binary "$target/debug/riverrun")
  prepare_faults
  prepare_networks
  [ -z "$RIVERRUN_TEST_PYTHON" ] || export RIVERRUN_FAULTS_PYTHON=$RIVERRUN_TEST_PYTHON
  "$target/release/riverrun-faults" K1 P4 P1 K2 P7 M1 D1 D5 S3 Z1 P5 P6 Z2 I2 T1 Y1 Y2 --counts gate --jobs 3 --binary "$target/release/riverrun" "${debug[@]}"
}
docs()  { RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked; }
bench() {
  # The binary of the build: built alone it would have other features, and compile everything again.
  local benches=$target/release/riverrun-benches
  "$target/release/riverrun" demo --generate-only --clean --rows 20000 --out "$scratch/data"
  "$benches" compare --data "$scratch/data" --runs 1 --scratch "$scratch/out"
  "$benches" recovery checkpoints sessions --tiny --scratch "$scratch/live"
}

# What stages leave behind, and what they say that are not shown at once.
scratch=$(mktemp -d)
# The process of the stages that run beside the tests.
beside=
trap '[ -z "$beside" ] || kill -- -"$beside" 2>/dev/null || true; rm -rf "$scratch"' EXIT

# Runs a stage in a shell of its own, and leaves its exit code in `code`. Never call it in a condition: errexit is off inside one, and a stage of
# several commands would hide a failure.
run() {
  local from=$SECONDS
  set +e
  (set -e; "$1")
  code=$?
  set -e
  if [ $code -eq 0 ]; then
    echo "== $1 passed in $((SECONDS - from)) s"
  else
    echo "== $1 failed with exit code $code after $((SECONDS - from)) s"
  fi
}

# A crate waits for those that it needs, and tests wait more than they work: these stages need no quiet machine, and have what compiling and
# testing leave of it, if they are wanted as well.
start_beside() {
  local stage wanted=() later=" ${stages[*]} "
  later=" ${later#* test }"
  for stage in build simulate bench docs; do
    [[ $later != *" $stage "* ]] || wanted+=("$stage")
  done
  [ ${#wanted[@]} -gt 0 ] || return 0
  # A process group of its own, which can be ended as a whole.
  set -m
  (
    renice -n 19 -p "$BASHPID" >/dev/null || true
    for stage in "${wanted[@]}"; do
      run "$stage" >"$scratch/$stage.log" 2>&1
      echo $code >"$scratch/$stage.part" && mv "$scratch/$stage.part" "$scratch/$stage.code"
      [ $code -eq 0 ] || break
    done
  ) & beside=$!
  set +m
  for stage in "${wanted[@]}"; do : >"$scratch/$stage.begun"; done
}

# Waits for a stage that was begun beside the tests, and shows what it said.
collect() {
  while [ ! -e "$scratch/$1.code" ]; do
    if ! kill -0 "$beside" 2>/dev/null && [ ! -e "$scratch/$1.code" ]; then echo "== $1 was not reached"; return 1; fi
    sleep 0.2
  done
  cat "$scratch/$1.log"
  return "$(cat "$scratch/$1.code")"
}

passed=0
for stage in "${stages[@]}"; do
  case $stage in
    fmt | lint | test | build | simulate | docs | bench | image | faults) ;;
    *) echo "test.sh: unknown stage '$stage' (fmt lint test build image faults simulate bench docs)" >&2; exit 2 ;;
  esac
done
for stage in "${stages[@]}"; do
  echo "== $stage"
  code=0
  if [ -e "$scratch/$stage.begun" ]; then
    collect "$stage" || code=$?
  elif [ "$stage" = test ]; then
    start_beside
    run compile
    [ $code -ne 0 ] || run tests
  else
    run "$stage"
  fi
  if [ $code -ne 0 ]; then
    echo "$passed passed, 1 failed"
    exit 1
  fi
  passed=$((passed + 1))
done
echo "== all stages in $SECONDS s"
[ ${#left_out[@]} -eq 0 ] || echo "== left out: $(printf '%s; ' "${left_out[@]}")see above"
echo "$passed passed, 0 failed"
