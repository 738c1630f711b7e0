# The service, its timer and its user.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.hydra-provisioner;
  inherit (cfg) settings;

  # systemd makes these below /var/lib, owned by the service's user.
  stateDirectories =
    if cfg.configFile == null then
      [ (lib.removePrefix "/var/lib/" settings.stateDir) ]
    else
      [
        "hydra-provisioner"
        "hydra/provisioner"
      ];
  home = "/var/lib/${builtins.head stateDirectories}";

  providers = lib.filter (provider: provider != null) (
    lib.mapAttrsToList (_: type: type.provider) settings.systemTypes
  );
  settingsOf = kind: lib.filter (given: given != null) (map (provider: provider.${kind}) providers);
  usesQemu = settingsOf "qemu" != [ ];

  # Everything else that the program or its providers have to write.
  written =
    lib.optional (settings.machinesFile != null) (dirOf settings.machinesFile)
    ++ lib.concatMap (nixops: lib.optional (nixops.stateFile != null) (dirOf nixops.stateFile)) (
      settingsOf "nixops"
    )
    ++ lib.concatMap (qemu: lib.optional (qemu.stateDir != null) qemu.stateDir) (settingsOf "qemu");
  inStateDir = folder: folder == settings.stateDir || lib.hasPrefix "${settings.stateDir}/" folder;
  writtenElsewhere = lib.optionals (cfg.configFile == null) (
    lib.unique (lib.filter (folder: !inStateDir folder) written)
  );

  credentials =
    cfg.credentials // lib.optionalAttrs (cfg.sshKeyFile != null) { ssh-key = cfg.sshKeyFile; };

  builderCommand =
    verb:
    lib.mkIf (settings.queue != null) (
      lib.mkDefault [
        "systemctl"
        verb
        cfg.builderUnit
      ]
    );

  command = [
    (lib.getExe cfg.package)
    "run"
    "--log-format"
    cfg.logFormat
  ]
  ++ lib.optionals cfg.watch (
    [ "--watch" ]
    ++ lib.optionals (cfg.metricsAddress != null) [
      "--metrics"
      cfg.metricsAddress
    ]
  )
  ++ [ cfg.installedFile ];

  oneCycle = {
    Type = "oneshot";
    # 3: somebody runs it by hand.
    SuccessExitStatus = [ 3 ];
    # Every operation has its own limit; this one is for what nobody thought of.
    TimeoutStartSec = "6h";
  };
  # Of systemd 253: the reload is over when the program says so.
  knowsNotifyReload = lib.versionAtLeast config.systemd.package.version "253";
  allCycles = {
    Type = if knowsNotifyReload then "notify-reload" else "notify";
    ExecReload = lib.mkIf (!knowsNotifyReload) "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
    # The program stops to answer when it hangs.
    WatchdogSec = "5min";
    Restart = "always";
    RestartSec = "30s";
    # A wrong configuration is not better in half a minute.
    RestartPreventExitStatus = [ 2 ];
    # The program alone is told to stop, which takes it two seconds. To kill it is safe at any moment.
    KillMode = "mixed";
    TimeoutStopSec = "15s";
  };
in
{
  config = lib.mkIf cfg.enable {
    services.hydra-provisioner.settings = {
      machinesFile = lib.mkIf (settings.queue == null && settings.updateCommand == null) (
        lib.mkDefault "${settings.stateDir}/machines"
      );
      drainCommand = builderCommand "stop";
      resumeCommand = builderCommand "start";
      sshOptions = lib.mkIf (cfg.sshKeyFile != null) [
        "-i"
        "/run/credentials/hydra-provisioner.service/ssh-key"
      ];
    };

    users.users = lib.mkIf (cfg.user == "hydra-provisioner") {
      hydra-provisioner = {
        isSystemUser = true;
        inherit (cfg) group;
        inherit home;
      };
    };
    users.groups = lib.mkIf (cfg.group == "hydra-provisioner") { hydra-provisioner = { }; };

    systemd.tmpfiles.rules = map (
      folder: "d ${folder} 0755 ${cfg.user} ${cfg.group} -"
    ) writtenElsewhere;

    systemd.timers.hydra-provisioner = lib.mkIf (!cfg.watch) {
      description = "Cycles of hydra-provisioner";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        # The first right away; after that however long one takes, none is skipped and none overlaps.
        OnActiveSec = "1s";
        OnUnitInactiveSec = if cfg.interval == null then 300 else cfg.interval;
        AccuracySec = "1s";
      };
    };

    systemd.services.hydra-provisioner = {
      description = if cfg.watch then "hydra-provisioner" else "One run of hydra-provisioner";
      wantedBy = lib.optional cfg.watch "multi-user.target";
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      # A new system must not cut off a run that creates machines; the timer starts the new program.
      restartIfChanged = cfg.watch;
      # A new configuration is taken without a restart, and a bad one leaves the old one in force.
      reloadTriggers = lib.optional cfg.watch "${cfg.file}";
      path = [
        config.nix.package
        config.programs.ssh.package
      ]
      ++ cfg.extraPackages
      ++ lib.optional usesQemu pkgs.qemu;
      environment = {
        HOME = home;
      }
      // cfg.environment;
      serviceConfig = {
        ExecStart = lib.escapeShellArgs command;
        User = cfg.user;
        Group = cfg.group;
        StateDirectory = stateDirectories;
        # The queue runner, another user, reads the machines file. Whatever is secret has its own mode.
        StateDirectoryMode = "0755";
        WorkingDirectory = home;
        LoadCredential = lib.mapAttrsToList (name: path: "${name}:${path}") credentials;
        ReadWritePaths = writtenElsewhere;
      }
      // (if cfg.watch then allCycles else oneCycle)
      // import ./hardening.nix {
        inherit lib;
        qemu = usesQemu;
      };
    };
  };
}
