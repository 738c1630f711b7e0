# nixpkgs' Hydra since September 2026: the options of the classic one are removed, with a message.
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
  imports = [
    (import ./hydra-rest.nix [
      "hydra"
      "queueRunner"
    ])
  ]
  ++ map removed [
    "dbi"
    "buildMachinesFiles"
  ];
  options.services.hydra = {
    enable = lib.mkEnableOption "a Hydra with the REST queue runner";
    extraConfig = lib.mkOption {
      type = lib.types.lines;
      default = "";
    };
  };
}
