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

  # systemd creates these below /var/lib, owned by the service's user.
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

  # All other folders that the program or its providers write to.
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
  # Folders of others, which must not belong to the service's user.
  shared = lib.intersectLists writtenElsewhere [
    "/"
    "/etc"
    "/etc/nix"
    "/root"
    "/run"
    "/srv"
    "/tmp"
    "/var"
    "/var/lib"
    "/var/lib/hydra"
    "/var/lib/hydra/queue-runner"
    "/var/tmp"
  ];

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
    # 3: another run holds the lock.
    SuccessExitStatus = [ 3 ];
    # Every operation has its own limit; this one is a last resort.
    TimeoutStartSec = "6h";
  };
  # Since systemd 253: the program reports when the reload is complete.
  knowsNotifyReload = lib.versionAtLeast config.systemd.package.version "253";
  allCycles = {
    Type = if knowsNotifyReload then "notify-reload" else "notify";
    ExecReload = lib.mkIf (!knowsNotifyReload) "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
    # The control loop feeds the watchdog.
    WatchdogSec = "5min";
    Restart = "always";
    RestartSec = "30s";
    # Retrying does not fix a wrong configuration.
    RestartPreventExitStatus = [ 2 ];
    # SIGTERM goes only to the program, which stops within two seconds. SIGKILL is safe at any moment.
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

    assertions = [
      {
        assertion = shared == [ ];
        message = "services.hydra-provisioner.settings: machinesFile, provider.nixops.stateFile or provider.qemu.stateDir would give ${lib.concatStringsSep " and " shared} to the service's user. Choose a folder that contains nothing else.";
      }
    ];

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
      description = "Runs of hydra-provisioner";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        # The first run starts immediately. The next starts after the previous one ends, so runs never overlap.
        OnActiveSec = "1s";
        OnUnitInactiveSec = if cfg.interval == null then 300 else cfg.interval;
        AccuracySec = "1s";
      };
    };

    systemd.sockets.hydra-provisioner = lib.mkIf (cfg.listenStreams != [ ]) {
      description = "Status page and metrics of hydra-provisioner";
      wantedBy = [ "sockets.target" ];
      inherit (cfg) listenStreams;
      socketConfig = {
        SocketMode = "0660";
        SocketUser = cfg.user;
        SocketGroup = cfg.group;
      };
    };

    systemd.services.hydra-provisioner = {
      description = if cfg.watch then "hydra-provisioner" else "One run of hydra-provisioner";
      wantedBy = lib.optional cfg.watch "multi-user.target";
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      # Switching the system must not interrupt a run that creates machines; the timer starts the new program.
      restartIfChanged = cfg.watch;
      # A new configuration is reloaded without a restart; with a bad one, the old one stays active.
      reloadTriggers = lib.optional cfg.watch "${cfg.file}";
      # A reload refuses another lease, and a host that runs without it would act beside the one that holds it.
      restartTriggers = lib.optional (cfg.watch && settings.lease != null) (
        builtins.hashString "sha256" (builtins.toJSON settings.lease)
      );
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
        # The queue runner runs as another user and reads the machines file. Secret files have their own mode.
        StateDirectoryMode = "0755";
        # For `metricsAddress = "unix:/run/hydra-provisioner/http.sock"`: the folder of that socket.
        RuntimeDirectory = "hydra-provisioner";
        RuntimeDirectoryMode = "0750";
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
