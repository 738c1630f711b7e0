# The options of the classic Hydra (nixpkgs until September 2026) that our module reads and sets.
{ lib, ... }:

let
  inherit (lib) mkOption types;
in
{
  options.services.hydra = {
    enable = lib.mkEnableOption "the classic Hydra";
    dbi = mkOption {
      type = types.str;
      default = "dbi:Pg:dbname=hydra;user=hydra;";
    };
    package = mkOption {
      type = types.raw;
      default = "/nix/store/${lib.fixedWidthString 32 "0" ""}-hydra";
    };
    extraConfig = mkOption {
      type = types.lines;
      default = "";
    };
    buildMachinesFiles = mkOption {
      type = types.listOf types.str;
      default = [ ];
    };
  };
}
