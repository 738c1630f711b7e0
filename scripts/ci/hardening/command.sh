# In the container: one run by the timer, with a provider that tries to break out (`my-cloud`).
. /check/common.sh

hydra-provisioner check
open_folders

# The same attempts by the same user without the hardening, to verify that only the hardening refuses them.
cat >/run/systemd/system/control.service <<'UNIT'
[Service]
Type=oneshot
User=hydra-provisioner
StateDirectory=control
ExecStart=/etc/hydra/my-cloud try /var/lib/control/attempts
UNIT
systemctl start control.service
say "without the hardening" "$(cat /var/lib/control/attempts)"
! grep -v '^done' /var/lib/control/attempts || fail "a refusal that is not the hardening's"
open_folders

systemctl start hydra-provisioner.timer
wait_for cycle_is_over
say "the machines file after a cycle" "$(cat /var/lib/hydra-provisioner/machines)"
[ "$(show Result)" = success ] || fail "the cycle failed"
grep -q '^root@127.0.0.2 x86_64-linux,' /var/lib/hydra-provisioner/machines || fail "no machine"

say "with the hardening" "$(cat /var/lib/hydra-provisioner/attempts)"
! grep -v '^refused' /var/lib/hydra-provisioner/attempts || fail "not refused"
! find / -xdev -name intruder 2>/dev/null | grep . || fail "the provider could write outside"
[ ! -e /tmp/private ] || fail "its /tmp is everybody's"

# After the run, no file outside the state directory belongs to the service.
stray=$(find /etc /home /opt /root /srv /usr/local /var /nix -xdev -user hydra-provisioner \
  ! -path '/var/lib/hydra-provisioner*' ! -path '/var/lib/control*' ! -path '/var/tmp/*')
[ -z "$stray" ] || fail "left behind: $stray"
