host_key="$CREDENTIALS_DIRECTORY/hydra.host-key"
if [ -e "$host_key" ]; then
  install -Dm600 "$host_key" /etc/ssh/ssh_host_ed25519_key
  ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key >/etc/ssh/ssh_host_ed25519_key.pub
fi
authorized_key="$CREDENTIALS_DIRECTORY/hydra.authorized-key"
if [ -e "$authorized_key" ]; then
  echo 'command="/nix/store/00000000000000000000000000000000-hydra-build-machine-gate",restrict '"$(cat "$authorized_key")" >/run/hydra-build-machine/authorized_keys
fi
