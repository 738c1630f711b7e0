if [ -e "$CREDENTIALS_DIRECTORY/hydra-provisioner.identity" ]; then
  /nix/store/00000000000000000000000000000000-perl/bin/perl /nix/store/00000000000000000000000000000000-hydra-identity <"$CREDENTIALS_DIRECTORY/hydra-provisioner.identity"
fi
