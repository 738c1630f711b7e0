# Nix builds as a member of nixbld, or (auto-allocate-uids) as one of its own 2^23 users from 872415232 on.
building() {
  pgrep -G nixbld >/dev/null ||
    ps -eo uid= | while read -r uid; do
      [ "$uid" -lt 872415232 ] || [ "$uid" -ge 880803840 ] || echo "$uid"
    done | grep -q .
}

# A build over ssh (nix-store --serve) is such a login too.
logged_in() {
  loginctl list-sessions --no-legend | grep -q .
}

[ -e "$KEEP_ALIVE_FILE" ] || touch "$KEEP_ALIVE_FILE"
while true; do
  sleep $((TIMEOUT_SECONDS < 60 ? TIMEOUT_SECONDS : 60))
  # A file that somebody removed counts as touched now, an unknown state as busy.
  if [ ! -e "$KEEP_ALIVE_FILE" ] || building || logged_in; then
    touch "$KEEP_ALIVE_FILE"
  elif [ $(($(date +%s) - $(stat -c %Y "$KEEP_ALIVE_FILE"))) -gt "$TIMEOUT_SECONDS" ]; then
    echo "powering off after $TIMEOUT_SECONDS seconds of idleness..."
    systemctl poweroff
  fi
done
