# Sourced by scripts/setup and scripts/ci/setup: installs Debian packages that are missing, after saying which and why.
#
#   need PROGRAM PACKAGE WHY     the package is to be installed if there is no such program
#   install_missing [--yes]      asks before, on a terminal; --yes does not

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

install_missing() {
  [ ${#missing[@]} -gt 0 ] || return 0
  local packages=("${missing[@]}") sudo=()
  if ! command -v apt-get >/dev/null; then
    echo "setup: this is not Debian: please install what these of Debian's packages have, then call $0 again:" >&2
    printf '%s\n' "${reasons[@]}" >&2
    return 1
  fi
  [ "$(id -u)" = 0 ] || sudo=(sudo)
  echo "setup: installs as root, with apt-get:" >&2
  printf '%s\n' "${reasons[@]}" >&2
  if [ "${1-}" != --yes ] && [ -t 0 ]; then
    read -r -p "Go on? [y/N] " answer
    [[ $answer = [yY]* ]] || { echo "setup: nothing was changed" >&2; return 1; }
  fi
  "${sudo[@]}" apt-get update -qq
  # Debian 12 has no such package, and its cargo is too old.
  if [[ " ${packages[*]} " = *" rustup "* ]] && ! apt-cache policy rustup | grep -q 'Candidate: [^(]'; then
    echo "setup: this Debian has no package rustup: please install Rust 1.89 or newer with rustup's own installer, then call $0 again" >&2
    return 1
  fi
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
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
    [ "$round" != 3 ] || { echo "setup: still missing after they were installed: ${missing[*]}" >&2; return 1; }
    install_missing "$@" || return 1
  done
}

# What makes the installed programs usable.
prepare_installed() {
  # Debian 13's rustup comes without a toolchain.
  if command -v rustup >/dev/null && ! rustup toolchain list 2>/dev/null | grep -q .; then
    echo "setup: fetches Rust's stable toolchain into ${RUSTUP_HOME:-$HOME/.rustup}" >&2
    rustup default stable
  fi
  # The first two processes to use a new Nix store would get in each other's way ("database is busy").
  if [ ! -e /nix/var/nix/db/db.sqlite ]; then
    echo "setup: makes an empty Nix store in /nix" >&2
    nix-store --init
  fi
}
