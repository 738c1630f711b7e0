# A Hydra on the same machine: classic (nixpkgs, services.hydra) or current (Hydra's own flake,
# services.hydra-queue-runner-dev). Each is touched only where its module is there.
{
  config,
  lib,
  options,
  ...
}:

let
  cfg = config.services.hydra-provisioner;
  inherit (cfg) settings;

  hasClassic = options.services ? hydra;
  classic = config.services.hydra;
  classicHere = cfg.enable && classic.enable && settings.queue == null;

  hasCurrent = options.services ? hydra-queue-runner-dev;
  current = config.services.hydra-queue-runner-dev;
  currentHere = cfg.enable && current.enable && cfg.configFile == null;

  machinesFile =
    if cfg.configFile != null then "/var/lib/hydra/provisioner/machines" else settings.machinesFile;

  comesUpWithin = settings.createTimeout + settings.deployTimeout;
  queueSettings = current.settings;
in
{
  config = lib.mkMerge [
    (lib.optionalAttrs hasClassic {
      services.hydra = lib.mkIf (classicHere && machinesFile != null) {
        # A definition takes the place of the option's default, so that is said again.
        buildMachinesFiles = [
          machinesFile
        ]
        ++ lib.optional (config.nix.buildMachines != [ ]) "/etc/nix/machines";
        # Its default of 0 s aborts every step for which there is no machine yet.
        extraConfig = lib.mkIf (
          cfg.maxUnsupportedTime != null
        ) "max_unsupported_time = ${toString cfg.maxUnsupportedTime}\n";
      };

      # `hydra-queue-runner --status` asks over Hydra's database.
      services.postgresql = lib.mkIf (classicHere && classic.dbi == "dbi:Pg:dbname=hydra;user=hydra;") {
        identMap = "hydra-users ${cfg.user} hydra";
      };
      systemd.services.hydra-provisioner = lib.mkIf classicHere {
        after = [ "hydra-queue-runner.service" ];
        path = [ classic.package ];
        environment = {
          HYDRA_DBI = classic.dbi;
          HYDRA_DATA = "/var/lib/hydra";
          HYDRA_CONFIG = "/var/lib/hydra/hydra.conf";
        };
        # For hydra.conf, and for the way to /var/lib/hydra/provisioner.
        serviceConfig.SupplementaryGroups = [ "hydra" ];
      };
    })

    (lib.optionalAttrs hasCurrent {
      services.hydra-provisioner.settings.queue = lib.mkIf currentHere (
        lib.mkDefault { url = "http://${current.rest.address}:${toString current.rest.port}"; }
      );

      # With 120 s, steps are aborted before a farm at zero has a machine for them, and a machine that has
      # just come up waits up to 120 s for its first step.
      services.hydra-queue-runner-dev = lib.mkIf (cfg.enable && current.enable) {
        settings = {
          maxUnsupportedTimeInS = lib.mkIf (cfg.maxUnsupportedTime != null) (
            lib.mkDefault cfg.maxUnsupportedTime
          );
          dispatchTriggerTimerInS = lib.mkDefault 10;
        };
      };

      assertions = lib.mkIf (cfg.enable && current.enable) [
        {
          assertion = queueSettings.maxUnsupportedTimeInS >= comesUpWithin;
          message =
            "services.hydra-queue-runner-dev.settings.maxUnsupportedTimeInS is ${toString queueSettings.maxUnsupportedTimeInS} s, but a machine may take createTimeout + deployTimeout = ${toString comesUpWithin} s to come up: "
            + "Hydra would abort the very steps that it is made for. Raise the one or lower the others (services.hydra-provisioner.settings).";
        }
        {
          assertion = queueSettings.dispatchTriggerTimerInS > 0;
          message = "services.hydra-queue-runner-dev.settings.dispatchTriggerTimerInS is ${toString queueSettings.dispatchTriggerTimerInS}, which switches the timer off: a machine that has come up would get its first step only when the queue changes. Set it to 10, say.";
        }
      ];
      warnings =
        lib.optional (cfg.enable && current.enable && queueSettings.dispatchTriggerTimerInS > 60)
          "services.hydra-queue-runner-dev.settings.dispatchTriggerTimerInS is ${toString queueSettings.dispatchTriggerTimerInS}: a machine that has come up waits that many seconds for its first step, and is paid for it.";
    })
  ];
}
