# Nix builds as a member of nixbld, or (auto-allocate-uids) as one of 2^23 user ids from 872415232 on.
building() {
  pgrep -G nixbld >/dev/null ||
    ps -eo uid= | while read -r uid; do
      [ "$uid" -lt 872415232 ] || [ "$uid" -ge 880803840 ] || echo "$uid"
    done | grep -q .
}

# A build over ssh (nix-store --serve) is also a login.
logged_in() {
  loginctl list-sessions --no-legend | grep -q .
}

# The machine has hibernated, or its clock was set.
clock_has_jumped() {
  [ $(($(date +%s) - before)) -gt $((pause + 60)) ]
}

# The provider may have set the idle timeout (docs/qemu.md, "Identity").
timeout_seconds() {
  cat /run/hydra-provisioner/idle-timeout 2>/dev/null || echo "$TIMEOUT_SECONDS"
}

[ -e "$KEEP_ALIVE_FILE" ] || touch "$KEEP_ALIVE_FILE"
while true; do
  timeout=$(timeout_seconds)
  pause=$((timeout < 60 ? timeout : 60))
  before=$(date +%s)
  sleep "$pause"
  # A removed file counts as touched now, an unknown state as busy.
  if [ ! -e "$KEEP_ALIVE_FILE" ] || clock_has_jumped || building || logged_in; then
    touch "$KEEP_ALIVE_FILE"
  elif [ $(($(date +%s) - $(stat -c %Y "$KEEP_ALIVE_FILE"))) -gt "$timeout" ]; then
    echo "powering off after $timeout seconds of idleness..."
    systemctl poweroff
  fi
done
