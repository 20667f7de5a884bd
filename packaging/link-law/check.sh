#!/bin/bash
# The link law (ARCHITECTURE.md): what is loaded into other people's processes links no more than the
# lists in this folder name, and shows the world no more than its entry points.
#
#   check.sh RELEASE-DIR            compares; RELEASE-DIR has the two .so files
#
# Lists: NAME.packages (cargo packages allowed; a superset), NAME.symbols and NAME.needed (exactly; the
# dynamic linker, whose name depends on the architecture, goes without saying).
# A line that starts with # is a comment.
set -euo pipefail
cd "$(dirname "$0")/../.."
release=$1
law=packaging/link-law
faults=0

fault() {
    echo "link law: $*" >&2
    faults=$((faults + 1))
}

list() { sed -e 's/[[:space:]]*#.*//' -e '/^$/d' "$1" | LC_ALL=C sort -u; }

packages() {
    # Procedural macros run in the compiler and are not linked.
    cargo tree --locked --package "$1" --edges normal,no-proc-macro --prefix none --format '{p}' |
        cut -d' ' -f1 | LC_ALL=C sort -u
}

for package in gpuhub-common pam_gpuhub nss_gpuhub; do
    while read -r stranger; do
        fault "$package links $stranger, which $law/$package.packages does not allow"
    done < <(LC_ALL=C comm -23 <(packages "$package") <(list "$law/$package.packages"))
done

same() { # what, expected file, actual text
    if ! difference=$(diff --label "$2" --label "$1" -u <(list "$2") <(printf '%s\n' "$3" | sed '/^$/d' | LC_ALL=C sort -u)); then
        fault "$1 differs from $2"$'\n'"$difference"
    fi
}

for module in pam_gpuhub nss_gpuhub; do
    library=$release/lib$module.so
    dynamic=$(readelf --wide --dynamic "$library")
    same "what $library exports" "$law/$module.symbols" \
        "$(nm --dynamic --defined-only --format=posix "$library" | cut -d' ' -f1)"
    same "what $library needs" "$law/$module.needed" \
        "$(sed -n '/ld-linux/!s/.*(NEEDED).*\[\(.*\)\].*/\1/p' <<<"$dynamic")"
    # All symbols at load time: a missing one is an error when the module is opened, never the end of a
    # host process later.
    grep -Eq '\(FLAGS(_1)?\).*(BIND_NOW|NOW)' <<<"$dynamic" || fault "$library is not linked with -z now"
    ! grep -q '(TEXTREL)' <<<"$dynamic" || fault "$library has text relocations"
done

library=$release/libnss_gpuhub.so
dynamic=$(readelf --wide --dynamic "$library")
grep -q '(SONAME).*\[libnss_gpuhub\.so\.2\]' <<<"$dynamic" || fault "$library: SONAME is not libnss_gpuhub.so.2"
# Threads may still be inside it, and its map must not move, when an application closes what opened it.
grep -Eq '\(FLAGS_1\).*NODELETE' <<<"$dynamic" || fault "$library is not linked with -z nodelete"

if [ "$faults" -gt 0 ]; then
    echo "link law: $faults faults" >&2
    exit 1
fi
echo "link law: kept"
