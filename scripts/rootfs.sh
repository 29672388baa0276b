#!/usr/bin/env bash
# Lays out what the image holds: the binary, the libraries it is linked to, certificates of authorities, and a folder for scratch files.
#
# Usage: scripts/rootfs.sh BINARY DIR      DIR must not be there yet or be empty
set -euo pipefail
binary=${1:?which binary?} root=${2:?into which folder?}
mkdir -p "$root"
[ -z "$(ls -A "$root")" ] || { echo "rootfs.sh: $root is not empty" >&2; exit 1; }

install -D -m 0755 "$binary" "$root/usr/bin/riverrun"
# Libraries, with the one that loads them, at the paths where the loader looks. The kernel's own (vdso) has no file.
ldd "$binary" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }' | sort -u | while read -r library; do
  install -D -m 0755 "$(readlink -f "$library")" "$root$library"
done
for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
  [ ! -e "$bundle" ] || { install -D -m 0644 "$bundle" "$root/etc/ssl/certs/ca-certificates.crt"; break; }
done
install -d -m 0755 "$root/etc"
printf 'root:x:0:0:root:/:/nonexistent\nnonroot:x:65532:65532:nonroot:/nonexistent:/nonexistent\n' > "$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' > "$root/etc/group"
install -d -m 1777 "$root/tmp"
install -d -m 0755 "$root/proc" "$root/dev" "$root/var/lib/riverrun"
