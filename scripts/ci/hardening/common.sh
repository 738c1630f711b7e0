# Sourced by the scripts that scripts/ci/check-hardening runs in its containers.
set -euo pipefail
say() { printf '== %s\n%s\n' "$1" "$2"; }
fail() {
  say FAILED "$1"
  systemctl status --no-pager --full hydra-provisioner.service hydra-provisioner.timer --lines=0 || true
  journalctl --no-pager -b -o cat -u hydra-provisioner.service | tail -n 30
  exit 1
}

# Runs its arguments until they succeed, for at most `limit_seconds`.
wait_for() {
  local end=$((SECONDS + ${limit_seconds:-30}))
  until "$@"; do
    [ $SECONDS -lt $end ] || fail "timeout waiting for: $*"
    sleep 0.1
  done
}

# Where a provider tries to write; the file modes permit it for everybody.
open_folders() {
  for folder in /etc /home /nix/store /opt /root /srv /usr/local /var/lib /var/log; do
    mkdir -p "$folder/open"
    rm -f "$folder/open/intruder"
    chmod a+rx "$folder"
    chmod 1777 "$folder/open"
  done
  echo "dear diary" >/home/open/diary
}

cycle_is_over() { [ -e /var/lib/hydra-provisioner/machines ] && [ "$(show ActiveState)" = inactive ]; }
show() { systemctl show -p "$1" --value hydra-provisioner.service; }
hydra-provisioner() { /nix/store/*-hydra-provisioner/bin/hydra-provisioner "$@"; }
