#!/usr/bin/env bash
# The demo of `make demo`: build three images, change one page, build again.
# demo.sh BUILDER: the builder's program. Works on a copy of specs/; the cache is the usual one.
set -euo pipefail
builder=$1
specs=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/builder-demo.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/project"
cp -r "$specs" "$scratch/project/specs"
cd "$scratch/project"

heading() { if [[ -t 1 ]]; then printf '\n\e[1m%s\e[0m\n' "$1"; else printf '\n== %s\n' "$1"; fi; }

timed() { # timed FILE COMMAND...: stdout goes to FILE; says how long it took
    local file=$1 start=$EPOCHREALTIME
    shift
    "$@" >"$file"
    printf 'That took %d.%02d s.\n' "$(((${EPOCHREALTIME/./} - ${start/./}) / 1000000))" \
        "$(((${EPOCHREALTIME/./} - ${start/./}) / 10000 % 100))"
}

heading "What would be built? (builder plan base nginx site)"
"$builder" plan base nginx site

heading "Build: a Debian, nginx on it, a site on that (builder build base nginx site)"
timed "$scratch/first.json" "$builder" build base nginx site --json

heading "Change one page: specs/site/public/about.html"
page=specs/site/public/about.html
cp "$page" "$scratch/before.html"
sed -i "s|Three towers, three pages.|Three towers, last visited on $(date '+%-d %B %Y at %T.%N').|" "$page"
diff "$scratch/before.html" "$page" | grep '^[<>]' || true

heading "What would be built now?"
"$builder" plan base nginx site

heading "Build again"
timed "$scratch/second.json" "$builder" build base nginx site --json

heading "Which layers changed?"
"$(dirname "$builder")/python" - "$scratch/first.json" "$scratch/second.json" <<'PYTHON'
import json
import sys

first, second = (
    {image["name"]: image for image in json.load(open(name))["images"]} for name in sys.argv[1:]
)
changed = 0
for name, after in second.items():
    before = first[name]
    for old, new in zip(before["layers"], after["layers"], strict=True):
        # A layer of a base is told with the image that made it; an empty step has no layer.
        if new["step"] is not None and old.get("diff_id") != new.get("diff_id"):
            changed += 1
            print(f"{name}: {new['name']}  {old['diff_id'][:19]} -> {new['diff_id'][:19]}")
count = sum(bool(layer.get("diff_id")) for layer in second["site"]["layers"])
print(f"{changed} of {count} layers of site changed; all others are the same bytes as before.")
if changed != 1:
    sys.exit("error: exactly one layer should have changed")
PYTHON
