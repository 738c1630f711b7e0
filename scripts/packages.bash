# Sourced by scripts that need programs: lists missing Debian packages with the reasons, and installs them.
#
#   install_needed FUNCTION [--yes]   installs what FUNCTION needs; asks on a terminal, unless --yes
#   need PROGRAM PACKAGE WHY          in such a function: install the package if the program is missing

# Some programs are here, which may not be on a user's PATH.
PATH="$PATH:/usr/sbin"
missing=()
reasons=()

need() {
  command -v "$1" >/dev/null || add_missing "$2" "$3"
}

add_missing() {
  missing+=("$1")
  reasons+=("$(printf '  %-20s %s' "$1" "$2")")
}

# Rust: any existing cargo, otherwise Debian's rustup.
need_rust() {
  if ! command -v cargo >/dev/null && [ ! -x "$HOME/.cargo/bin/cargo" ]; then
    add_missing rustup "Rust's compiler, by its installer"
  fi
}

# Needed to build and run the program.
need_build() {
  need_rust
  need cc gcc "the linker for Rust"
  need nix-instantiate nix-bin "Nix: reads conf.nix, builds"
  need python3 python3 "the example provider, and parts of the scripts"
}

# Needed to build the machine image.
need_image() {
  need debootstrap debootstrap "builds the machine image"
  need qemu-img qemu-utils "its disk"
  need mkfs.ext4 e2fsprogs "its file system"
}

# Needed to run build machines on this host.
need_machines() {
  need "qemu-system-$(uname -m)" "qemu-system-$(if [ "$(uname -m)" = x86_64 ]; then echo x86; else echo arm; fi)" "runs build machines"
  need_image
  need ssh openssh-client "connects to build machines"
  need ss iproute2 "checks ports"
}

install_missing() {
  local sudo=()
  if ! command -v apt-get >/dev/null; then
    echo "${0##*/}: this is not Debian: please install the programs of these Debian packages, then run $0 again:" >&2
    printf '%s\n' "${reasons[@]}" >&2
    return 1
  fi
  [ "$(id -u)" = 0 ] || sudo=(sudo)
  echo "${0##*/}: installing as root, with apt-get:" >&2
  printf '%s\n' "${reasons[@]}" >&2
  if [ "${1-}" != --yes ] && [ -t 0 ]; then
    read -r -p "Continue? [y/N] " answer
    [[ $answer = [yY]* ]] || { echo "${0##*/}: nothing was changed" >&2; return 1; }
  fi
  "${sudo[@]}" apt-get update -qq
  # Debian 12 has no such package, and its cargo is too old.
  if [[ " ${missing[*]} " = *" rustup "* ]] && ! apt-cache policy rustup | grep -q 'Candidate: [^(]'; then
    echo "${0##*/}: this Debian has no package rustup: please install Rust 1.89 or newer with rustup's own installer, then run $0 again" >&2
    return 1
  fi
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Calls a function that lists what is needed (with `need`), and installs it. Repeats once, because a package can replace
# another, for example qemu-utils of another release.
install_needed() {
  local what=$1 round
  shift
  for round in 1 2 3; do
    missing=() reasons=()
    "$what"
    [ ${#missing[@]} -gt 0 ] || break
    [ "$round" != 3 ] || { echo "${0##*/}: still missing after the installation: ${missing[*]}" >&2; return 1; }
    # Not in a && or || list: there, `set -e` would not stop after a failed apt-get.
    install_missing "$@"
  done
}

need_mmdebstrap() { need mmdebstrap mmdebstrap "makes a root of Debian 13"; }

# Makes a root of Debian 13 with PACKAGES (separated by commas), if it is missing. FUNCTION finishes it. Needs root.
debian_root() { # ROOT PACKAGES FUNCTION
  mkdir -p "$(dirname "$1")"
  (
    flock 9
    [ ! -e "$1" ] || exit 0
    install_needed need_mmdebstrap --yes
    echo "${0##*/}: making $1, once" >&2
    rm -rf "$1.building"
    mmdebstrap --quiet --variant=essential --include="$2" --dpkgopt=force-unsafe-io trixie "$1.building" >/dev/null
    "$3" "$1.building"
    # Last, so that an interrupted root counts as incomplete.
    mv "$1.building" "$1"
  ) 9>"$1.lock"
}

# Prepares the installed programs for use.
prepare_installed() {
  # Debian 13's rustup comes without a toolchain.
  if command -v rustup >/dev/null && ! rustup toolchain list 2>/dev/null | grep -q .; then
    echo "${0##*/}: installing Rust's stable toolchain in ${RUSTUP_HOME:-$HOME/.rustup}" >&2
    rustup default stable
  fi
  # The first two processes that use a new Nix store would conflict ("database is busy").
  if [ ! -e /nix/var/nix/db/db.sqlite ]; then
    echo "${0##*/}: creating an empty Nix store in /nix" >&2
    nix-store --init
  fi
}
