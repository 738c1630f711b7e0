# Hydra's own flake.
{ lib, ... }:

{
  imports = [ (import ./hydra-current.nix [ "hydra-queue-runner-dev" ]) ];
  options.services.hydra-queue-runner-dev.enable = lib.mkEnableOption "the current Hydra";
}
