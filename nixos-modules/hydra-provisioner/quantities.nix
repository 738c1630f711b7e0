# Durations, sizes and amounts of money as the program reads them (crates/adapters/src/config/quantities.rs), and options
# of any kind that may be left to the program.
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

  # A number or a text that `duration` takes, in seconds.
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
  # `null` leaves it to the program.
  optional =
    type: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit description;
    };
  dollarsOption = optional dollars;
in
{
  inherit dollarsOption optional;

  # How long a machine may take to come up, in seconds.
  comesUpWithin = settings: seconds settings.createTimeout + seconds settings.deployTimeout;

  absolutePath = types.strMatching "/.*";
  # The description of a duration.
  inSeconds = what: "Seconds, or a text such as `\"10m\"`: ${what}";
  duration = types.either types.ints.unsigned (types.strMatching "([0-9]+[smhd])+");
  mebibytes = types.either types.ints.unsigned (types.strMatching "[0-9]+[MGT]");

  costLimits = whose: {
    maxHourlyCost = dollarsOption "${whose} cost at most this many dollars per hour. Needs every type's `dollarsPerHour`.";
    maxDailyCost = dollarsOption "${whose} cost at most this many dollars in any 24 hours.";
    maxMonthlyCost = dollarsOption "${whose} cost at most this many dollars in any 30 days.";
  };
}
