# Hydra's own flake.
{ lib, ... }:

{
  imports = [ (import ./hydra-rest.nix [ "hydra-queue-runner-dev" ]) ];
  options.services.hydra-queue-runner-dev.enable = lib.mkEnableOption "a Hydra with the REST queue runner";
}
