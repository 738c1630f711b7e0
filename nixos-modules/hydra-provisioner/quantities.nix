# Durations, sizes and amounts of money as the program reads them (crates/adapters/src/config/quantities.rs), and options
# without a default, which the program then sets.
{ lib }:

let
  inherit (lib) mkOption types;

  units = {
    s = 1;
    m = 60;
    h = 60 * 60;
    d = 24 * 60 * 60;
  };
  part = "([0-9]+)([smhd])(.*)";

  # A number or a string of type `duration`, in seconds.
  seconds =
    value:
    if builtins.isInt value then
      value
    else
      let
        found = builtins.match part value;
        rest = lib.last found;
      in
      lib.toInt (lib.head found) * units.${lib.elemAt found 1} + (if rest == "" then 0 else seconds rest);

  dollars = types.oneOf [
    types.ints.unsigned
    types.float
    (types.strMatching "[0-9]+(\\.[0-9]*)?")
  ];
  # `null`: the program's default.
  optional =
    type:
    mkOption {
      type = types.nullOr type;
      default = null;
    };
  noted = note: option: option // { description = note; };
  inSeconds = noted "Seconds, or a string such as `\"10m\"`.";
  inMebibytes = noted "MiB, or a string such as `\"4G\"`.";
  duration = types.either types.ints.unsigned (types.strMatching "([0-9]+[smhd])+");
  mebibytes = types.either types.ints.unsigned (types.strMatching "[0-9]+[MGT]");
in
# Options have no description here except what only the module's user must know: see texts.nix.
{
  inherit
    inMebibytes
    inSeconds
    mebibytes
    noted
    optional
    ;
  dollars = optional dollars;

  durationOr =
    default:
    inSeconds (mkOption {
      type = duration;
      inherit default;
    });
  optionalDuration = inSeconds (optional duration);
  idleTimeout = inSeconds (optional (types.either (types.enum [ "auto" ]) duration));

  # How long a machine may take to become ready, in seconds. `deployTimeout` limits its boot, and then its deployment.
  comesUpWithin = settings: seconds settings.createTimeout + 2 * seconds settings.deployTimeout;

  absolutePath = types.strMatching "/.*";

  costLimits = {
    maxHourlyCost = optional dollars;
    maxDailyCost = optional dollars;
    maxMonthlyCost = optional dollars;
  };
}
