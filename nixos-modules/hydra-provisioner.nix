{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkOption types;
  inherit (import ./hydra-provisioner/quantities.nix { inherit lib; }) comesUpWithin;

  cfg = config.services.hydra-provisioner;
  settings = import ./hydra-provisioner/render.nix { inherit lib cfg; };

  # JSON, so the service needs no Nix. A wrong one fails the build of the system, not the service.
  settingsFile =
    if cfg.checkSettings then
      pkgs.runCommand "hydra-provisioner.json"
        {
          text = builtins.toJSON settings;
          passAsFile = [ "text" ];
        }
        ''
          cp "$textPath" "$out"
          ${lib.getExe cfg.package} check "$out"
        ''
    else
      pkgs.writeText "hydra-provisioner.json" (builtins.toJSON settings);
in
{
  imports = [
    ./hydra-provisioner/assertions.nix
    ./hydra-provisioner/hydra.nix
    ./hydra-provisioner/monitoring.nix
    ./hydra-provisioner/unit.nix
  ];

  options.services.hydra-provisioner = {
    enable = lib.mkEnableOption "hydra-provisioner, an autoscaler for the build machines of a Hydra";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ../nix/package.nix { };
      defaultText = lib.literalExpression "the flake's package";
      description = "The package to use.";
    };

    settings = mkOption {
      type = types.submodule (import ./hydra-provisioner/settings.nix { inherit lib; });
      default = { };
      description = "The structure of conf.nix (docs/configuration.md). World-readable in the store: no secrets.";
    };

    configFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/etc/hydra/conf.nix";
      description = "A conf.nix or .json file instead of `settings`. A path literal (`./conf.nix`) copies only that file to the store. A string such as `\"/etc/hydra/conf.nix\"` is read where it is, by the service's user. A Nix file is evaluated at the start and at every reload. It must not set `stateDir` and `machinesFile`: the service may write only to the program's defaults.";
    };

    checkSettings = mkOption {
      type = types.bool;
      default = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
      defaultText = lib.literalExpression "pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform";
      description = "Whether the program validates `settings` when the system is built.";
    };

    interval = mkOption {
      type = types.nullOr (types.either types.ints.positive types.nonEmptyStr);
      default = null;
      example = "5min";
      description = "With `watch = false`: time from the end of a run to the start of the next, in seconds or as in systemd.time(7). `null`: 300. (With `watch`, `settings.pollInterval` is the time between queue status requests.)";
    };

    watch = mkOption {
      type = types.bool;
      default = true;
      description = "Whether one process runs continuously, with systemd's watchdog and metrics, and reloads a changed configuration. `false`: a timer starts a process repeatedly; each ends when its operations have ended.";
    };

    metricsAddress = mkOption {
      type = types.nullOr (types.strMatching "[^[:space:]]+:[0-9]+|unix:/[^[:space:]]+");
      default = null;
      example = "127.0.0.1:9478";
      description = "With `watch`: IP address and port of the status page (`/`) and the Prometheus metrics (`/metrics`), without authentication. Or a socket that only `user` and `group` may open: `\"unix:/run/hydra-provisioner/http.sock\"` (in this folder, which systemd creates for the service).";
    };

    listenStreams = mkOption {
      type = types.listOf types.nonEmptyStr;
      default = [ ];
      example = [ "/run/hydra-provisioner.sock" ];
      description = "With `watch`: where systemd listens for the service (`ListenStream` of systemd.socket(5)): the status page and metrics are served there too. Sockets in the file system are for `group` (mode 0660).";
    };

    user = mkOption {
      type = types.nonEmptyStr;
      default = "hydra-provisioner";
      description = "The user of the service. Only the default user is created.";
    };

    group = mkOption {
      type = types.nonEmptyStr;
      default = "hydra-provisioner";
      description = "The group of the service. Only the default group is created.";
    };

    credentials = mkOption {
      type = types.attrsOf (types.strMatching "/.*");
      default = { };
      example = {
        cloud-token = "/etc/secrets/cloud-token";
      };
      description = "Secrets by name: files that systemd reads as root and passes only to the service, below `$CREDENTIALS_DIRECTORY` (`/run/credentials/hydra-provisioner.service/NAME`). systemd copies them when the service starts: restart the service after you replace one.";
    };

    sshKeyFile = mkOption {
      type = types.nullOr (types.strMatching "/.*");
      default = null;
      example = "/var/lib/hydra/queue-runner/.ssh/id_buildfarm";
      description = "Private key for the provisioner's own ssh, passed as the credential `ssh-key`; `user` needs no read access to it. systemd reads it when the service starts: restart the service after you replace it.";
    };

    environment = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = {
        AWS_SHARED_CREDENTIALS_FILE = "/run/credentials/hydra-provisioner.service/aws";
      };
      description = "Environment variables for the program and its providers. World-readable: no secrets.";
    };

    extraPackages = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = lib.literalExpression "[ pkgs.nixops_unstable_minimal pkgs.awscli2 ]";
      description = "Packages on the service's PATH, for providers.";
    };

    maxUnsupportedTime = mkOption {
      type = types.nullOr types.ints.positive;
      default = 2 * comesUpWithin cfg.settings;
      defaultText = lib.literalExpression "2 * (settings.createTimeout + 2 * settings.deployTimeout)";
      description = "How many seconds a Hydra on this machine waits for a machine that can build a step before it aborts the step (classic: `max_unsupported_time`, Hydra's default 0; REST: `maxUnsupportedTimeInS`, Hydra's default 120). A classic Hydra counts from when it loaded the build, so the default is a week there. `null`: not set by this module.";
    };

    localJobs = mkOption {
      type = types.ints.unsigned;
      default =
        let
          jobs = config.nix.settings.max-jobs or "auto";
        in
        if lib.isInt jobs then jobs else 1;
      defaultText = lib.literalExpression "nix.settings.max-jobs, or 1 if that is \"auto\"";
      description = "Number of concurrent builds on this machine itself, for a classic Hydra on this machine with empty `nix.buildMachines`. (Without this module, Hydra would build everything here.) `0`: none.";
    };

    builderUnit = mkOption {
      type = types.nonEmptyStr;
      default = "hydra-builder.service";
      description = "The builder's unit on build machines of a Hydra with the REST queue runner. It is stopped before a machine is released (`settings.drainCommand`) and started when it is deployed (`settings.resumeCommand`). nixpkgs' Hydra has `hydra-builder.service`, Hydra's own flake `hydra-queue-builder-dev.service` (the default if that flake's Hydra runs on this machine).";
    };

    logFormat = mkOption {
      type = types.enum [
        "human"
        "json"
      ];
      default = "human";
      description = "Format of the log in the journal.";
    };

    file = mkOption {
      type = types.path;
      internal = true;
      readOnly = true;
      default = if cfg.configFile != null then cfg.configFile else settingsFile;
      defaultText = lib.literalExpression "configFile, or the rendered settings";
      description = "The configuration file of the service.";
    };

    installedFile = mkOption {
      type = types.path;
      internal = true;
      readOnly = true;
      default = "/etc/hydra-provisioner/conf.${
        if cfg.configFile == null || lib.hasSuffix ".json" (toString cfg.configFile) then "json" else "nix"
      }";
      defaultText = lib.literalExpression "/etc/hydra-provisioner/conf.json, or conf.nix";
      description = "Path of `file`. It does not change when the configuration changes, so the service is reloaded and not restarted.";
    };
  };

  config = lib.mkIf cfg.enable {
    environment = {
      # For `hydra-provisioner status` by hand, which reads this file by default.
      systemPackages = [ cfg.package ];
      etc.${lib.removePrefix "/etc/" cfg.installedFile}.source = cfg.file;
    };
  };
}
