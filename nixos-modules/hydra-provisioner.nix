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

  # Read as it is: no Nix at run time. A wrong one fails the build of the system, not the service.
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
    enable = lib.mkEnableOption "hydra-provisioner, which creates and releases build machines as a Hydra's queue needs them";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ../nix/package.nix { };
      defaultText = lib.literalExpression "the flake's package";
      description = "The program.";
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
      description = "A conf.nix or .json file in place of `settings`. A Nix file is evaluated at the start and at every reload. It has to leave `stateDir` and `machinesFile` at the program's defaults, the only places that the service may write to.";
    };

    checkSettings = mkOption {
      type = types.bool;
      default = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
      defaultText = lib.literalExpression "pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform";
      description = "Whether the program checks `settings` when the system is built.";
    };

    interval = mkOption {
      type = types.nullOr (types.either types.ints.positive types.nonEmptyStr);
      default = null;
      example = "5min";
      description = "With `watch = false`: seconds, or a time as in systemd.time(7), from the end of a run to the start of the next one. `null`: 300. (With `watch` the time between two looks at the queue is `settings.pollInterval`.)";
    };

    watch = mkOption {
      type = types.bool;
      default = true;
      description = "Whether one process watches all the time, with systemd's watchdog and metrics, and takes a changed configuration by a reload. `false`: a timer starts one process again and again, each of which ends when what it began has ended.";
    };

    metricsAddress = mkOption {
      type = types.nullOr (types.strMatching "[^[:space:]]+:[0-9]+");
      default = null;
      example = "127.0.0.1:9478";
      description = "With `watch`: the IP address and port at which Prometheus metrics are served, below `/metrics`, to whoever asks.";
    };

    user = mkOption {
      type = types.nonEmptyStr;
      default = "hydra-provisioner";
      description = "The user that the service runs as. One of another name is not created.";
    };

    group = mkOption {
      type = types.nonEmptyStr;
      default = "hydra-provisioner";
      description = "The group that the service runs as. One of another name is not created.";
    };

    credentials = mkOption {
      type = types.attrsOf (types.strMatching "/.*");
      default = { };
      example = {
        cloud-token = "/etc/secrets/cloud-token";
      };
      description = "Secrets, by name: files that systemd reads as root and shows to the service alone, below `$CREDENTIALS_DIRECTORY` (`/run/credentials/hydra-provisioner.service/NAME`).";
    };

    sshKeyFile = mkOption {
      type = types.nullOr (types.strMatching "/.*");
      default = null;
      example = "/var/lib/hydra/queue-runner/.ssh/id_buildfarm";
      description = "Private key for the provisioner's own ssh, handed over as the credential `ssh-key`; it need not be readable by `user`.";
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
      defaultText = lib.literalExpression "2 * (settings.createTimeout + settings.deployTimeout)";
      description = "Seconds that a Hydra on this machine lets a step wait for a machine that can build it, before it aborts the step (classic: `max_unsupported_time`, 0 by default; current: `maxUnsupportedTimeInS`, 120 by default). A classic Hydra counts from when it loaded the build, so the default is a week there. `null`: Hydra's own configuration says it.";
    };

    localJobs = mkOption {
      type = types.ints.unsigned;
      default =
        let
          jobs = config.nix.settings.max-jobs or "auto";
        in
        if lib.isInt jobs then jobs else 1;
      defaultText = lib.literalExpression "nix.settings.max-jobs, or 1 where that is \"auto\"";
      description = "How many builds a classic Hydra on this machine runs on this machine itself at the same time, where `nix.buildMachines` is empty. Without this module Hydra would build everything here. `0`: nothing is built here.";
    };

    builderUnit = mkOption {
      type = types.nonEmptyStr;
      default = "hydra-builder.service";
      description = "The unit of the builder on build machines of a current Hydra, which is stopped before a machine is released (`settings.drainCommand`) and started when it is deployed (`settings.resumeCommand`): `hydra-builder.service` with nixpkgs' Hydra, `hydra-queue-builder-dev.service` with Hydra's own flake, which is the default where that runs on this machine.";
    };

    logFormat = mkOption {
      type = types.enum [
        "human"
        "json"
      ];
      default = "human";
      description = "How logs are written to the journal.";
    };

    file = mkOption {
      type = types.path;
      internal = true;
      readOnly = true;
      default = if cfg.configFile != null then cfg.configFile else settingsFile;
      defaultText = lib.literalExpression "configFile, or the rendered settings";
      description = "The configuration that the service is run with.";
    };

    installedFile = mkOption {
      type = types.path;
      internal = true;
      readOnly = true;
      default = "/etc/hydra-provisioner/conf.${
        if cfg.configFile == null || lib.hasSuffix ".json" (toString cfg.configFile) then "json" else "nix"
      }";
      defaultText = lib.literalExpression "/etc/hydra-provisioner/conf.json, or conf.nix";
      description = "Where `file` is found: it stays the same when the configuration changes, so that the service is reloaded and not restarted.";
    };
  };

  config = lib.mkIf cfg.enable {
    environment = {
      # For `hydra-provisioner status` by hand, which reads this file when no other is named.
      systemPackages = [ cfg.package ];
      etc.${lib.removePrefix "/etc/" cfg.installedFile}.source = cfg.file;
    };
  };
}
