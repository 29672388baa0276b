#!/usr/bin/env bash
# The main job from a clean clone, with everything it needs: builds the binary, makes sample traffic, puts it into topics, credits
# orders to clicks, and shows the first rows and the balance.
#
# Usage: scripts/main-job.sh [ROWS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/prepare.sh

rows=${1:-1000000}
cargo build --release --workspace --locked
bin=${CARGO_TARGET_DIR:-$PWD/target}/release/riverrun
work=.riverrun/main-job
rm -rf "$work"
mkdir -p "$work"

"$bin" demo --generate-only --rows "$rows" --out "$work/data"
"$bin" topic import "$work/data/clicks.jsonl" --topic raw.clicks.v1 --key user_id --topics "$work/topics"
"$bin" topic import "$work/data/orders.jsonl" --topic raw.orders.v1 --key user_id --topics "$work/topics"
"$bin" run attribution --until-end --topics "$work/topics" --state "$work/state"
echo "the first rows of topic attributed.events.v1:"
"$bin" topic tail attributed.events.v1 --from-start --topics "$work/topics" | head -3
