# The modules of the flake. `default` is for the server; the others are for build machines.
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

  # Nix 2.8's `flake check` does not accept a path as a module.
  auto-shutdown.imports = [ ../auto-shutdown.nix ];
  build-machine.imports = [ ./build-machine.nix ];
  build-machine-image.imports = [ ./build-machine-image.nix ];
}
