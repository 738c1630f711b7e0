# The options of a current Hydra's queue runner that our module reads and sets, below `place`.
{ lib, place }:

let
  inherit (lib) mkOption types;
  number =
    default:
    mkOption {
      type = types.int;
      inherit default;
    };
in
lib.setAttrByPath place {
  rest.address = mkOption {
    type = types.str;
    default = "[::1]";
  };
  rest.port = number 8080;
  settings.maxUnsupportedTimeInS = number 120;
  settings.dispatchTriggerTimerInS = number 120;
}
