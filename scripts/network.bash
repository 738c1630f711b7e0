# Sourced by scripts that run machines of provider.qemu. Machines use port 22 of their own addresses. An sshd that listens on all
# addresses already occupies it.
#
#   sshd_listens_everywhere      whether this host has such an sshd
#   "${own_network[@]}" CMD...   runs CMD in a network namespace with nothing but loopback (needs root)

own_network=(unshare --net sh -c 'ip link set lo up && exec "$@"' sh)

sshd_listens_everywhere() {
  ss -ltnH "sport = :22" | grep -Eq '(0\.0\.0\.0|\*|\[::\]):22 '
}
