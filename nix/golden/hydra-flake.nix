# Hydra's own flake.
{ lib, ... }:

{
  options.services =
    lib.recursiveUpdate
      {
        hydra-queue-runner-dev.enable = lib.mkEnableOption "the current Hydra";
      }
      (
        import ./hydra-current.nix {
          inherit lib;
          place = [ "hydra-queue-runner-dev" ];
        }
      );
}
