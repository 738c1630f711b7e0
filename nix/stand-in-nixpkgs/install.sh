# What stdenv does after the build of the package: the program is there, then `postInstall`.
set -eu
PATH=/usr/bin:/bin

# As makeBinaryWrapper: the program by another name, started with a longer PATH.
wrapProgram() {
  [ "$2 $3 $4" = "--suffix PATH :" ]
  mv "$1" "$(dirname "$1")/.$(basename "$1")-wrapped"
  printf '#!/bin/sh\nPATH="$PATH:%s" exec "%s" "$@"\n' "$5" "$(dirname "$1")/.$(basename "$1")-wrapped" >"$1"
  chmod +x "$1"
}

# As installShellFiles.
installShellCompletion() {
  [ "$1" = --cmd ]
  local name=$2
  shift 2
  while [ $# -gt 0 ]; do
    case $1 in
      --bash) install -D "$2" "$out/share/bash-completion/completions/$name.bash" ;;
      --zsh) install -D "$2" "$out/share/zsh/site-functions/_$name" ;;
      --fish) install -D "$2" "$out/share/fish/vendor_completions.d/$name.fish" ;;
      *) exit 1 ;;
    esac
    shift 2
  done
}

install -D "$program" "$out/bin/hydra-provisioner"
eval "$postInstall"
