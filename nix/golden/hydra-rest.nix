# The options of a REST queue runner that our module reads and sets, at `place` below `services`.
place:
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
  options.services = lib.setAttrByPath place {
    rest.address = mkOption {
      type = types.str;
      default = "[::1]";
    };
    rest.port = number 8080;
    settings.maxUnsupportedTimeInS = number 120;
    settings.dispatchTriggerTimerInS = number 120;
  };
}
