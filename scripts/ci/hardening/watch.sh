# In the container: `run --watch` as a service: ready, metrics, the watchdog, a clean stop, and a bad configuration.
. /check/common.sh

open_folders
unit=hydra-provisioner.service
metrics() {
  exec 3<>/dev/tcp/127.0.0.1/9478 || return
  printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3
  cat <&3
}

# Five minutes is too long for this test.
mkdir -p /run/systemd/system/$unit.d
printf '[Service]\nWatchdogSec=3s\nRestartSec=1s\n' >/run/systemd/system/$unit.d/shorter.conf
systemctl daemon-reload

# Returns when the service has reported that it is ready.
systemctl start $unit
[ "$(show ActiveState)" = active ] || fail "not active"
after_a_look() { show StatusText | grep -q "queue up"; }
wait_for after_a_look
say "after the first look" "$(show StatusText); $(cat /var/lib/hydra-provisioner/machines)"
has_tried() { [ -s /var/lib/hydra-provisioner/attempts ] && [ "$(show StatusText)" = "1 machine, 0 operations under way, queue up" ]; }
wait_for has_tried
! grep -v '^refused' /var/lib/hydra-provisioner/attempts || fail "not refused"
is_up() { metrics | grep -x 'hydra_provisioner_queue_up 1' >/dev/null; }
wait_for is_up

# For a socket: `--listen unix:/run/hydra-provisioner/http.sock`.
folder=$(stat -c '%U %a' /run/hydra-provisioner)
[ "$folder" = "hydra-provisioner 750" ] || fail "/run/hydra-provisioner: $folder"

# Longer than the watchdog interval: the service must report that it is alive.
sleep 5
[ "$(show NRestarts)" = 0 ] || fail "restarted though it lives"
kill -STOP "$(show MainPID)"
restarted() { [ "$(show NRestarts)" = 1 ] && [ "$(show ActiveState)" = active ]; }
wait_for restarted
say "hung" "the watchdog has restarted it"

pid=$(show MainPID)
systemctl reload $unit
said() { journalctl -q -o cat -u $unit | grep 'configuration read' >/dev/null; }
wait_for said
# Until the program says that it is ready again, systemd calls it "reloading".
continues() { [ "$(show ActiveState) $(show MainPID)" = "active $pid" ]; }
wait_for continues
say "reloaded" "the same process continues"

systemctl stop $unit
[ "$(show Result)" = success ] || fail "stopped with $(show Result)"
say "stopped" "$(journalctl -q -o cat -u $unit | grep -c 'stopping, after a signal') orderly end"

umount /etc/hydra-provisioner/conf.json
echo '{ "systemTypes": { "x86_64-linux": {} } }' >/etc/hydra-provisioner/conf.json
! systemctl start $unit 2>/dev/null || fail "a bad configuration was accepted"
sleep 2
[ "$(show ActiveState)" = failed ] || fail "restarted with a bad configuration: $(show ActiveState)"
say "a bad configuration" "$(journalctl -q -o cat -u $unit | grep 'has no provider' | tail -n 1)"
