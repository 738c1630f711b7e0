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
  machinesFolder = dirOf settings.machinesFile;
  writesElsewhere =
    cfg.configFile == null && settings.machinesFile != null && machinesFolder != settings.stateDir;

  credentials =
    cfg.credentials // lib.optionalAttrs (cfg.sshKeyFile != null) { ssh-key = cfg.sshKeyFile; };
in
{
  config = lib.mkIf cfg.enable {
    services.hydra-provisioner.settings = {
      machinesFile = lib.mkIf (settings.queue == null && settings.updateCommand == null) (
        lib.mkDefault "${settings.stateDir}/machines"
      );
      sshOptions = lib.mkIf (cfg.sshKeyFile != null) [
        "-i"
        "/run/credentials/hydra-provisioner.service/ssh-key"
      ];
    };

    users.users = lib.mkIf (cfg.user == "hydra-provisioner") {
      hydra-provisioner = {
        isSystemUser = true;
        inherit (cfg) group;
        home = "/var/lib/hydra-provisioner";
      };
    };
    users.groups = lib.mkIf (cfg.group == "hydra-provisioner") { hydra-provisioner = { }; };

    systemd.tmpfiles.rules = lib.optional writesElsewhere "d ${machinesFolder} 0755 ${cfg.user} ${cfg.group} -";

    systemd.timers.hydra-provisioner = {
      description = "Cycles of hydra-provisioner";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        # The first right away; after that however long a cycle takes, none is skipped and none overlaps.
        OnActiveSec = "1s";
        OnUnitInactiveSec = cfg.interval;
        AccuracySec = "1s";
      };
    };

    systemd.services.hydra-provisioner = {
      description = "One cycle of hydra-provisioner";
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      # A new system must not cut off a cycle that creates machines; the timer starts the new program.
      restartIfChanged = false;
      path = [
        config.nix.package
        config.programs.ssh.package
      ]
      ++ cfg.extraPackages;
      environment = {
        HOME = "/var/lib/hydra-provisioner";
      }
      // cfg.environment;
      serviceConfig = {
        Type = "oneshot";
        ExecStart = lib.escapeShellArgs [
          (lib.getExe cfg.package)
          "--log-format"
          cfg.logFormat
          "run"
          "${cfg.file}"
        ];
        # 3: somebody runs a cycle by hand.
        SuccessExitStatus = [ 3 ];
        # Every step of a cycle has its own limit; this one is for what nobody thought of.
        TimeoutStartSec = "6h";
        User = cfg.user;
        Group = cfg.group;
        StateDirectory = stateDirectories;
        # The queue runner, another user, reads the machines file. Whatever is secret has its own mode.
        StateDirectoryMode = "0755";
        WorkingDirectory = "/var/lib/${builtins.head stateDirectories}";
        LoadCredential = lib.mapAttrsToList (name: path: "${name}:${path}") credentials;
        ReadWritePaths = lib.optional writesElsewhere machinesFolder;
      }
      // import ./hardening.nix;
    };
  };
}
