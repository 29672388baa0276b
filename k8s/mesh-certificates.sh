#!/usr/bin/env bash
# Makes what the processes of one job's mesh know each other by: an authority of its own, and one certificate that all of them have. The key of the
# authority is not kept: for other certificates, make all anew.
#
# Usage: k8s/mesh-certificates.sh JOB DIR [DAYS]      writes ca.pem, cert.pem, key.pem
set -euo pipefail
job=${1:?which job?} dir=${2:?into which folder?} days=${3:-365}
umask 077
mkdir -p "$dir"
authority=$(mktemp)
trap 'rm -f "$authority"' EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$authority" -out "$dir/ca.pem" -days "$days" -subj "/CN=riverrun mesh of $job" \
  -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$dir/key.pem" -subj "/CN=$job" 2>/dev/null |
  openssl x509 -req -CA "$dir/ca.pem" -CAkey "$authority" -days "$days" -out "$dir/cert.pem" -extfile <(
    printf 'subjectAltName=DNS:%s.mesh\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=critical,CA:false\n' "$job"
  ) 2>/dev/null
