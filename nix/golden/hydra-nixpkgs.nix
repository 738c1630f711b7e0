# nixpkgs' Hydra since September 2026: what the classic one had is gone, and says so.
{ lib, ... }:

let
  removed =
    name:
    lib.mkRemovedOptionModule [
      "services"
      "hydra"
      name
    ] "";
in
{
  imports = map removed [
    "dbi"
    "buildMachinesFiles"
  ];
  options.services =
    lib.recursiveUpdate
      {
        hydra.enable = lib.mkEnableOption "the current Hydra";
        hydra.extraConfig = lib.mkOption {
          type = lib.types.lines;
          default = "";
        };
      }
      (
        import ./hydra-current.nix {
          inherit lib;
          place = [
            "hydra"
            "queueRunner"
          ];
        }
      );
}
