#!/bin/bash
# Installs what packaging/prerequisites.txt names and is not there yet; says what it cannot install.
set -euo pipefail
here=$(dirname "$0")

needed_rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$here/../Cargo.toml")
for tool in cargo rustc rustfmt cargo-clippy; do
    command -v "$tool" >/dev/null || {
        echo "prerequisites: no $tool. A Rust toolchain (>= $needed_rust, with rustfmt and clippy) is needed." >&2
        exit 1
    }
done
rust=$(rustc --version | cut -d' ' -f2)
if ! printf '%s\n' "$needed_rust" "$rust" | sort --check=quiet --version-sort; then
    echo "prerequisites: rustc is $rust; >= $needed_rust is needed." >&2
    exit 1
fi

missing=()
while read -r package; do
    # dpkg-query fails for what it has never heard of.
    status=$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done < <(sed -e 's/[[:space:]]*#.*//' -e '/^$/d' "$here/prerequisites.txt")
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "prerequisites: missing Debian packages: ${missing[*]}" >&2
    echo "prerequisites: as root: apt-get install ${missing[*]}" >&2
    exit 1
fi
echo "prerequisites: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Servers among them are for tests, which start their own: nothing is to run for good (invoke-rc.d(8)).
RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}"
