# The options of the two Hydras that our module reads and sets: nixpkgs' module, and that of Hydra's own flake.
{ lib, ... }:

let
  inherit (lib) mkOption types;
  number =
    default:
    mkOption {
      type = types.int;
      inherit default;
    };
in
{
  options.services = {
    hydra = {
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
    hydra-queue-runner-dev = {
      enable = lib.mkEnableOption "the current Hydra";
      rest.address = mkOption {
        type = types.str;
        default = "[::1]";
      };
      rest.port = number 8080;
      settings.maxUnsupportedTimeInS = number 120;
      settings.dispatchTriggerTimerInS = number 120;
    };
  };
}
