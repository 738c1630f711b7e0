# The modules of the flake. `default` is the server's; the others are for build machines.
{ self }:

rec {
  hydra-provisioner =
    { lib, pkgs, ... }:
    {
      imports = [ ./hydra-provisioner.nix ];
      services.hydra-provisioner.package =
        lib.mkDefault
          self.packages.${pkgs.stdenv.hostPlatform.system}.hydra-provisioner;
    };
  default = hydra-provisioner;

  auto-shutdown = ../auto-shutdown.nix;
  build-machine = ./build-machine.nix;
}
