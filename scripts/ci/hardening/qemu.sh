# In the container: a real QEMU machine is created, used and released under the unit's hardening, and continues when the service stops.
. /check/common.sh

unit=hydra-provisioner.service
machines=/var/lib/hydra-provisioner/qemu/machines
queue() {
  echo "{\"status\":\"up\",\"uptime\":100000,\"machineTypes\":{\"x86_64-linux\":{\"runnable\":$1,\"running\":0,\"lastActive\":1}},\"machines\":{}}" >/etc/hydra/status.json
}
umount /etc/hydra/status.json
queue 1
# The key of this run instead of the golden file's.
configuration=$(sed "s|ssh-ed25519 AAAA hydra|$(cat /etc/hydra/id_buildfarm.pub)|" /etc/hydra-provisioner/conf.json)
umount /etc/hydra-provisioner/conf.json
echo "$configuration" >/etc/hydra-provisioner/conf.json

systemctl start $unit
published() { grep -qs '^root@127\.91\.' /var/lib/hydra-provisioner/machines; }
limit_seconds=180 wait_for published
say "the machines file" "$(grep '^root@' /var/lib/hydra-provisioner/machines | cut -c 1-60)"

qemu=$(cat $machines/*/pid)
grep -q '^NoNewPrivs:.1$' "/proc/$qemu/status" || fail "QEMU may get privileges"
grep -q '^Seccomp:.2$' "/proc/$qemu/status" || fail "QEMU may call the system as it likes"
# Only CAP_NET_BIND_SERVICE (10).
grep -q '^CapEff:.0000000000000400$' "/proc/$qemu/status" || fail "QEMU has other capabilities: $(grep CapEff "/proc/$qemu/status")"
say "QEMU's user" "$(stat -c %U "/proc/$qemu")"
[ "$(stat -c %U "/proc/$qemu")" = hydra-provisioner ] || fail "QEMU runs as another user"

host=$(sed -n 's/^root@\([^ ]*\) .*/\1/p' /var/lib/hydra-provisioner/machines)
login=(ssh -i /etc/hydra/id_buildfarm -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR)
say "the machine answers" "$("${login[@]}" "root@$host" 'uname -n; nix-store --version')"

systemctl stop $unit
[ "$(show Result)" = success ] || fail "stopped with $(show Result)"
kill -0 "$qemu" || fail "the machine ended with the service"
say "the service is stopped" "the machine runs"

queue 0
systemctl start $unit
gone() { ! ls -A $machines | grep -q . && ! kill -0 "$qemu" 2>/dev/null; }
limit_seconds=90 wait_for gone
! grep -q '^root@' /var/lib/hydra-provisioner/machines || fail "it is still published"
say "the queue is empty" "the machine is gone"
systemctl stop $unit
