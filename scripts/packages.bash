# Sourced by scripts that need programs: installs Debian packages that are missing, after saying which and why.
#
#   install_needed FUNCTION [--yes]   installs what FUNCTION needs; asks before, on a terminal (--yes does not)
#   need PROGRAM PACKAGE WHY          in such a function: the package is to be installed if there is no such program

# Where some programs are that a user need not have on PATH.
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

# Rust, by whatever is here: a cargo of any kind, or Debian's rustup, or nothing that we could install.
need_rust() {
  if ! command -v cargo >/dev/null && [ ! -x "$HOME/.cargo/bin/cargo" ]; then
    add_missing rustup "Rust's compiler, by its installer"
  fi
}

# What builds the program, runs it and builds with it.
need_build() {
  need_rust
  need cc gcc "the linker for Rust"
  need nix-instantiate nix-bin "Nix: reads conf.nix, builds"
  need python3 python3 "the example of a provider, and parts of the scripts"
}

# What makes the image of a build machine.
need_image() {
  need debootstrap debootstrap "makes the image of a build machine"
  need qemu-img qemu-utils "its disk"
  need mkfs.ext4 e2fsprogs "its file system"
}

# What runs build machines here.
need_machines() {
  need "qemu-system-$(uname -m)" "qemu-system-$(if [ "$(uname -m)" = x86_64 ]; then echo x86; else echo arm; fi)" "runs build machines"
  need_image
  need ssh openssh-client "connects to build machines"
  need ss iproute2 "looks at ports"
}

install_missing() {
  local sudo=()
  if ! command -v apt-get >/dev/null; then
    echo "${0##*/}: this is not Debian: please install what these of Debian's packages have, then call $0 again:" >&2
    printf '%s\n' "${reasons[@]}" >&2
    return 1
  fi
  [ "$(id -u)" = 0 ] || sudo=(sudo)
  echo "${0##*/}: installs as root, with apt-get:" >&2
  printf '%s\n' "${reasons[@]}" >&2
  if [ "${1-}" != --yes ] && [ -t 0 ]; then
    read -r -p "Go on? [y/N] " answer
    [[ $answer = [yY]* ]] || { echo "${0##*/}: nothing was changed" >&2; return 1; }
  fi
  "${sudo[@]}" apt-get update -qq
  # Debian 12 has no such package, and its cargo is too old.
  if [[ " ${missing[*]} " = *" rustup "* ]] && ! apt-cache policy rustup | grep -q 'Candidate: [^(]'; then
    echo "${0##*/}: this Debian has no package rustup: please install Rust 1.89 or newer with rustup's own installer, then call $0 again" >&2
    return 1
  fi
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Calls a function that says what is needed (with `need`), and installs it. Twice: a package can replace another one, such
# as qemu-utils of another release.
install_needed() {
  local what=$1 round
  shift
  for round in 1 2 3; do
    missing=() reasons=()
    "$what"
    [ ${#missing[@]} -gt 0 ] || break
    [ "$round" != 3 ] || { echo "${0##*/}: still missing after they were installed: ${missing[*]}" >&2; return 1; }
    # Not in a list of commands: there a failed apt-get would be gone on after.
    install_missing "$@"
  done
}

# What makes the installed programs usable.
prepare_installed() {
  # Debian 13's rustup comes without a toolchain.
  if command -v rustup >/dev/null && ! rustup toolchain list 2>/dev/null | grep -q .; then
    echo "${0##*/}: fetches Rust's stable toolchain into ${RUSTUP_HOME:-$HOME/.rustup}" >&2
    rustup default stable
  fi
  # The first two processes to use a new Nix store would get in each other's way ("database is busy").
  if [ ! -e /nix/var/nix/db/db.sqlite ]; then
    echo "${0##*/}: makes an empty Nix store in /nix" >&2
    nix-store --init
  fi
}
