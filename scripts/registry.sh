#!/usr/bin/env bash
# A real schema registry that speaks Confluent's protocol (Apicurio, in memory) on a free loopback port, for tests and for trying
# things out.
#
# Usage: scripts/registry.sh home       fetches it if need be and prints the folder that holds it
#        scripts/registry.sh up DIR     starts one with its log in DIR, prints what `--schema-registry` takes
#        scripts/registry.sh pause|resume DIR      it does not answer (SIGSTOP), or answers again
#        scripts/registry.sh down DIR   stops it, by its id
#
# RIVERRUN_REGISTRY_HOME names a folder with an unpacked release of apicurio-registry-app.
# Needed: Java 17 or later; Maven, unless RIVERRUN_REGISTRY_HOME is set.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=${RIVERRUN_REGISTRY_HOME:-${CARGO_TARGET_DIR:-$root/target}/registry}

fetch() {
  if compgen -G "$home/apicurio-registry-app-*-runner.jar" >/dev/null; then return 0; fi
  command -v mvn >/dev/null || { echo "missing: mvn (on Debian: apt-get install maven), or set RIVERRUN_REGISTRY_HOME" >&2; return 1; }
  echo "fetching a schema registry" >&2
  # Unpacked aside and renamed: a fetch that broke off is not mistaken for a whole one.
  rm -rf "$home.part" && mkdir -p "$home.part"
  mvn -q -B -f "$root/scripts/kafka/registry.xml" -Dregistry.home="$home.part" package >&2
  rm -rf "$home" && mv "$home.part" "$home"
}

up() { # DIR
  local dir=$1 port url tries
  port=$(python3 -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
  url=http://127.0.0.1:$port/apis/ccompat/v7
  (cd "$home" && exec nohup java -Xmx"${RIVERRUN_REGISTRY_HEAP:-256m}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$port" -jar "$home"/apicurio-registry-app-*-runner.jar \
    >"$dir/registry.log" 2>&1 </dev/null) &
  echo $! >"$dir/registry.pid"
  for tries in $(seq 360); do
    if curl -fs -m 5 "$url/subjects" >/dev/null; then
      echo "$url"
      return 0
    fi
    kill -0 "$(cat "$dir/registry.pid")" 2>/dev/null || { tail -20 "$dir/registry.log" >&2; return 1; }
    sleep 0.5
  done
  echo "the registry did not answer after $tries tries; see $dir/registry.log" >&2
  return 1
}

down() { # DIR
  [ -e "$1/registry.pid" ] || return 0
  kill -CONT "$(cat "$1/registry.pid")" 2>/dev/null || true
  kill -9 "$(cat "$1/registry.pid")" 2>/dev/null || true
  rm -f "$1/registry.pid"
}

act=${1:-} && [ $# -gt 0 ] && shift
case $act in
  home) fetch && echo "$home" ;;
  up)
    fetch
    mkdir -p "$1" && dir=$(cd "$1" && pwd)
    up "$dir" || { down "$dir"; exit 1; }
    ;;
  pause) kill -STOP "$(cat "$1/registry.pid")" ;;
  resume) kill -CONT "$(cat "$1/registry.pid")" ;;
  down) down "$1" ;;
  *) sed -n 2,13p "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
