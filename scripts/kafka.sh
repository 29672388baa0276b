#!/usr/bin/env bash
# A real Apache Kafka (KRaft) on free loopback ports, for tests and for trying things out.
#
# Usage: scripts/kafka.sh home                 fetches the jars if need be, and prints the folder that holds them in lib/
#        scripts/kafka.sh up DIR [1|3]         starts one node or three with their data in DIR, prints the bootstrap servers
#        scripts/kafka.sh kill|pause|resume|start DIR N      fails a node (SIGKILL, SIGSTOP), or brings it back
#        scripts/kafka.sh tool DIR CLASS ARG...      runs a tool, such as org.apache.kafka.tools.TopicCommand --list
#        scripts/kafka.sh down DIR             stops all nodes, by their ids
#
# DIR/bootstrap has the servers; DIR/safe those of the listeners that want TLS (DIR/ca.pem) and SASL, by PLAIN or SCRAM-SHA-512,
# user `riverrun`, password `swordfish`; DIR/through, for each node, where it says it is reached and where it listens: what stands
# between hears all that clients say which come that way.
# RIVERRUN_KAFKA_HOME names a folder with lib/ or libs/ full of jars, an unpacked release of Apache Kafka for example.
# Needed: Java 17 or later; Maven, unless RIVERRUN_KAFKA_HOME is set.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=${RIVERRUN_KAFKA_HOME:-${CARGO_TARGET_DIR:-$root/target}/kafka}
# Classes of brokers and of tools as Java maps them at once, and a certificate. To load them from jars takes half of the processor time of a start.
ready=$home/classes-$(stat -Lc %Y-%s "$(command -v java)" 2>/dev/null || true)
cluster=4L6g3nShT-eMCtK--X86sw # any UUID of 22 characters, the same for all nodes

jars() { if [ -d "$home/libs" ]; then echo "$home/libs/*"; else echo "$home/lib/*"; fi; }

fetch() {
  if compgen -G "$home/lib*/kafka_2.13-*.jar" >/dev/null; then return 0; fi
  command -v mvn >/dev/null || { echo "missing: mvn (on Debian: apt-get install maven), or set RIVERRUN_KAFKA_HOME" >&2; return 1; }
  echo "fetching Apache Kafka" >&2
  # Copied aside and renamed: a fetch that broke off is not mistaken for a whole one.
  rm -rf "$home"/lib.part "$home"/classes-* && mkdir -p "$home"
  mvn -q -B -f "$root/scripts/kafka/pom.xml" -Dkafka.lib="$home/lib.part" package >&2
  mv "$home/lib.part" "$home/lib"
}

# Sets what Java is given before the class: KIND is `broker` or `tool`.
options() { # KIND
  options=(-Xmx"${RIVERRUN_KAFKA_HEAP:-384m}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$(jars)")
  if [ -n "${writes:-}" ]; then
    options+=(-XX:ArchiveClassesAtExit="$writes/$1.jsa")
  elif [ -e "$ready/$1.jsa" ]; then
    options+=(-XX:SharedArchiveFile="$ready/$1.jsa" -Xlog:cds=off -Xlog:cds+dynamic=off)
  fi
}

# With `become=exec` this process becomes the tool: who kills it kills the tool.
jvm() { options tool && ${become:-} java "${options[@]}" "$@"; }

# Runs a broker and a tool once, has Java write down what they loaded, and keeps the certificate. Without it all works, and takes longer.
keep_ready() {
  if [ -e "$ready" ] || ! [ -w "$home" ]; then return 0; fi
  local dir pid tries
  dir=$(mktemp -d) && writes=$(mktemp -d -p "$home")
  if configure "$dir" 1 && start "$dir" 1 && wait_up "$dir"; then
    # It writes as it ends, so it is asked to.
    pid=$(cat "$dir/1.pid") && kill "$pid"
    for tries in $(seq 120); do kill -0 "$pid" 2>/dev/null || break; sleep 0.5; done
    cp "$dir/keys.p12" "$dir/ca.pem" "$writes"
    # Nothing if another one was faster, or an archive is missing.
    [ ! -e "$writes/broker.jsa" ] || [ ! -e "$writes/tool.jsa" ] || mv -T "$writes" "$ready" || true
  fi >/dev/null 2>&1
  down "$dir"
  rm -rf "$dir" "$writes"
  writes=
}

free_ports() {
  python3 -c '
import socket, sys
taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*[s.getsockname()[1] for s in taken])' "$1"
}

configure() { # DIR NODES
  local dir=$1 nodes=$2 ports voters="" n
  read -r -a ports <<<"$(free_ports $((5 * nodes)))"
  certify "$dir"
  for n in $(seq "$nodes"); do voters+="${voters:+,}$n@127.0.0.1:${ports[nodes + n - 1]}"; done
  local copies=$nodes isr=$((nodes > 1 ? 2 : 1))
  : >"$dir/bootstrap" && : >"$dir/safe" && : >"$dir/through"
  for n in $(seq "$nodes"); do
    local port=${ports[n - 1]} control=${ports[nodes + n - 1]} safe=${ports[2 * nodes + n - 1]}
    local gate=${ports[3 * nodes + n - 1]} behind=${ports[4 * nodes + n - 1]}
    echo "127.0.0.1:$gate 127.0.0.1:$behind" >>"$dir/through"
    printf '%s127.0.0.1:%s' "$([ "$n" -eq 1 ] || echo ,)" "$safe" >>"$dir/safe"
    printf '%s127.0.0.1:%s' "$([ "$n" -eq 1 ] || echo ,)" "$port" >>"$dir/bootstrap"
    cat >"$dir/$n.properties" <<PROPERTIES
process.roles=broker,controller
node.id=$n
controller.quorum.voters=$voters
listeners=PLAINTEXT://127.0.0.1:$port,SAFE://127.0.0.1:$safe,THROUGH://127.0.0.1:$behind,CONTROLLER://127.0.0.1:$control
advertised.listeners=PLAINTEXT://127.0.0.1:$port,SAFE://127.0.0.1:$safe,THROUGH://127.0.0.1:$gate
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,THROUGH:PLAINTEXT,SAFE:SASL_SSL,CONTROLLER:PLAINTEXT
listener.name.safe.ssl.keystore.location=$dir/keys.p12
listener.name.safe.ssl.keystore.type=PKCS12
listener.name.safe.ssl.keystore.password=swordfish
listener.name.safe.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.safe.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_riverrun="swordfish";
listener.name.safe.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs=$dir/node$n
default.replication.factor=$copies
min.insync.replicas=$isr
offsets.topic.replication.factor=$copies
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=$isr
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=$isr
group.initial.rebalance.delay.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
auto.create.topics.enable=false
# A broker that is not known to the others in time ends by itself; on a busy machine that takes longer than the usual minute.
initial.broker.registration.timeout.ms=300000
# Brokers delete by the times of records, and what tests write happened long ago.
log.retention.ms=-1
num.network.threads=2
num.io.threads=4
log.segment.bytes=67108864
PROPERTIES
  done
}

# A certificate of its own for this machine, which is its own authority.
certify() { # DIR
  [ ! -e "$1/keys.p12" ] || return 0
  if [ -n "$(find "$ready/keys.p12" -mtime -300 2>/dev/null)" ]; then cp "$ready/keys.p12" "$ready/ca.pem" "$1" && return 0; fi
  keytool -genkeypair -alias kafka -keyalg EC -groupname secp256r1 -dname CN=localhost -ext san=ip:127.0.0.1,dns:localhost -validity 365 \
    -storetype PKCS12 -keystore "$1/keys.p12" -storepass swordfish >/dev/null 2>&1
  keytool -exportcert -rfc -alias kafka -keystore "$1/keys.p12" -storepass swordfish 2>/dev/null >"$1/ca.pem"
}

start() { # DIR NODE
  local dir=$1 node=$2
  [ -d "$dir/node$node" ] || jvm kafka.tools.StorageTool format -t "$cluster" -c "$dir/$node.properties" \
    --add-scram 'SCRAM-SHA-512=[name=riverrun,password=swordfish]' >>"$dir/$node.log" 2>&1
  options broker
  nohup java "${options[@]}" kafka.Kafka "$dir/$node.properties" >>"$dir/$node.log" 2>&1 </dev/null &
  echo $! >"$dir/$node.pid"
}

wait_up() { # DIR
  local dir=$1 tries known
  for tries in $(seq 60); do
    # All nodes are to be known: a topic with three replicas cannot be made on two.
    known=$(jvm org.apache.kafka.tools.BrokerApiVersionsCommand --bootstrap-server "$(cat "$dir/bootstrap")" 2>/dev/null |
      grep -c '(id: .*isFenced: false' || true)
    if [ "$known" -ge "$(tr ',' '\n' <"$dir/bootstrap" | grep -c .)" ]; then return 0; fi
    for pid in "$dir"/*.pid; do
      kill -0 "$(cat "$pid")" 2>/dev/null || { echo "a node ended by itself: ${pid%.pid}.log" >&2; tail -20 "${pid%.pid}.log" >&2; return 1; }
    done
    sleep 0.5
  done
  echo "no broker answered after $tries tries; see $dir/1.log" >&2
  return 1
}

down() { # DIR
  local pid id
  for pid in "$1"/*.pid; do
    [ -e "$pid" ] || continue
    id=$(cat "$pid")
    kill -CONT "$id" 2>/dev/null || true
    kill -9 "$id" 2>/dev/null || true
    rm -f "$pid"
  done
}

act=${1:-} && [ $# -gt 0 ] && shift
case $act in
  home) fetch && keep_ready && echo "$home" ;;
  up)
    fetch
    mkdir -p "$1" && dir=$(cd "$1" && pwd)
    configure "$dir" "${2:-1}"
    for n in $(seq "${2:-1}"); do start "$dir" "$n"; done
    wait_up "$dir" || { down "$dir"; exit 1; }
    cat "$dir/bootstrap" && echo
    ;;
  start) start "$(cd "$1" && pwd)" "$2" ;;
  kill) kill -9 "$(cat "$1/$2.pid")" ;;
  pause) kill -STOP "$(cat "$1/$2.pid")" ;;
  resume) kill -CONT "$(cat "$1/$2.pid")" ;;
  tool) dir=$1 && shift && become=exec jvm "$1" --bootstrap-server "$(cat "$dir/bootstrap")" "${@:2}" ;;
  down) down "$1" ;;
  *) sed -n 2,15p "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
