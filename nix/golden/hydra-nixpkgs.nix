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
    (import ./hydra-current.nix [
      "hydra"
      "queueRunner"
    ])
  ]
  ++ map removed [
    "dbi"
    "buildMachinesFiles"
  ];
  options.services.hydra = {
    enable = lib.mkEnableOption "the current Hydra";
    extraConfig = lib.mkOption {
      type = lib.types.lines;
      default = "";
    };
  };
}
