#!/usr/bin/env bash
# Runs the binary as its pod does, and compares what it writes with what it writes outside: the file system of the image, read-only but for /tmp
# and the state; user 65532 without any capability or a way to get one; no HOME, no network but its own loopback.
#
# Usage: scripts/sandbox.sh BINARY       needs root, for the mounts; without it says that it is left out
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=$(readlink -f "${1:?which binary?}")
for tool in unshare setpriv ip; do
  command -v "$tool" >/dev/null || { echo "note: there is no $tool: the sandbox is left out" >&2; exit 0; }
done
[ "$(id -u)" -eq 0 ] || { echo "note: not root: the sandbox is left out" >&2; exit 0; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/rootfs.sh" "$binary" "$work/root"
"$binary" demo --generate-only --clean --rows 20000 --out "$work/data" >/dev/null
mkdir "$work/state" "$work/outside"
chown 65532:65532 "$work/state"
chmod 0755 "$work"

# The same command in both places. The working folder is where the state is, as relative paths of the job are below it.
job=(run item-minutes --fresh -w 2 -o json)
(cd "$work/outside" && "$binary" "${job[@]}" --state state --set "sources.clicks.file.path=$work/data/clicks.jsonl" --set sinks.item_minutes.file.path=out.jsonl >/dev/null)

# What the sandbox is made of, from within a mount namespace of its own that ends with it.
inside='
  set -e
  root=$1 state=$2 data=$3; shift 3
  ip link set lo up
  mount --bind "$root" "$root"
  mkdir -p "$root/data"
  mount -o remount,bind,ro "$root"
  mount --bind "$state" "$root/var/lib/riverrun"
  mount -t tmpfs -o mode=1777,size=64m tmp "$root/tmp"
  mount -t proc proc "$root/proc"
  mount --bind "$data" "$root/data"
  mount -o remount,bind,ro "$root/data"
  exec setpriv --no-new-privs unshare --root="$root" --wd=/var/lib/riverrun --setgid 65532 --setuid 65532 \
    -- /usr/bin/riverrun "$@"
'
mkdir "$work/root/data"
env -i unshare --mount --pid --fork --net -- sh -c "$inside" sandbox "$work/root" "$work/state" "$work/data" \
  "${job[@]}" --state state --set sources.clicks.file.path=/data/clicks.jsonl --set sinks.item_minutes.file.path=out.jsonl >/dev/null

cmp "$work/outside/out.jsonl" "$work/state/out.jsonl"
[ "$(stat -c %u "$work/state/out.jsonl")" = 65532 ] || { echo "sandbox.sh: it did not run as 65532" >&2; exit 1; }
if env -i unshare --mount --pid --fork --net -- sh -c "$inside" sandbox "$work/root" "$work/state" "$work/data" \
  "${job[@]}" --state /etc/state --set sources.clicks.file.path=/data/clicks.jsonl >/dev/null 2>&1; then
  echo "sandbox.sh: it wrote where it must not" >&2
  exit 1
fi
echo "sandbox: $(wc -l <"$work/state/out.jsonl") rows, the same as outside"
