# Settings for a REST (Rust) queue runner on the same machine (./hydra.nix).
{ config, lib }:

{
  # Whether it runs on this machine.
  enabled,
  # Path of its options below `services`.
  place,
  # The builder's unit on build machines.
  builderUnit,
}:

let
  cfg = config.services.hydra-provisioner;
  here = cfg.enable && enabled;
  queueRunner = lib.getAttrFromPath place config.services;
  inherit (queueRunner) rest settings;
  at = "services.${lib.concatStringsSep "." place}.settings";
  comesUpWithin = (import ./quantities.nix { inherit lib; }).comesUpWithin cfg.settings;
in
{
  services = lib.mkMerge [
    {
      hydra-provisioner = {
        builderUnit = lib.mkIf here (lib.mkDefault builderUnit);
        settings.queue = lib.mkIf (here && cfg.configFile == null) (
          lib.mkDefault { url = "http://${rest.address}:${toString rest.port}"; }
        );
      };
    }
    # With 120 s, steps are aborted before a farm at zero has a machine for them, and a machine that has just started
    # waits up to 120 s for its first step.
    (lib.setAttrByPath place {
      settings = lib.mkIf here {
        maxUnsupportedTimeInS = lib.mkIf (cfg.maxUnsupportedTime != null) (
          lib.mkDefault cfg.maxUnsupportedTime
        );
        dispatchTriggerTimerInS = lib.mkDefault 10;
      };
    })
  ];

  assertions = lib.mkIf here [
    {
      assertion = settings.maxUnsupportedTimeInS >= comesUpWithin;
      message = "${at}.maxUnsupportedTimeInS is ${toString settings.maxUnsupportedTimeInS}, but a machine may take createTimeout + 2 * deployTimeout = ${toString comesUpWithin} seconds to become ready (creation, boot, deployment): Hydra would abort the steps for which it is created. Raise maxUnsupportedTimeInS to at least that, or lower the others in services.hydra-provisioner.settings.";
    }
    {
      assertion = settings.dispatchTriggerTimerInS > 0;
      message = "${at}.dispatchTriggerTimerInS is ${toString settings.dispatchTriggerTimerInS}, which disables the timer: a new machine would get its first step only when the queue changes. Set it to 10.";
    }
  ];
  warnings = lib.optional (here && settings.dispatchTriggerTimerInS > 60) (
    "${at}.dispatchTriggerTimerInS is ${toString settings.dispatchTriggerTimerInS}: a new machine waits that many seconds for its first step, and costs money meanwhile."
  );
}
