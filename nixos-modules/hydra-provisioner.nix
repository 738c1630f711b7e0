{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkOption types;

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
      description = "A conf.nix or .json file in place of `settings`. A Nix file is evaluated in every cycle. It has to leave `stateDir` and `machinesFile` at the program's defaults, the only places that the service may write to.";
    };

    checkSettings = mkOption {
      type = types.bool;
      default = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
      defaultText = lib.literalExpression "pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform";
      description = "Whether the program checks `settings` when the system is built.";
    };

    interval = mkOption {
      type = types.either types.ints.positive types.nonEmptyStr;
      default = 300;
      example = "5min";
      description = "Seconds, or a time as in systemd.time(7), from the end of a cycle to the start of the next one. With `watch` a number of seconds, from start to start.";
    };

    watch = mkOption {
      type = types.bool;
      default = false;
      description = "Whether one process runs all cycles, with systemd's watchdog and metrics, instead of one a cycle on a timer.";
    };

    metricsAddress = mkOption {
      type = types.nullOr (types.strMatching "[^[:space:]]+:[0-9]+");
      default = null;
      example = "127.0.0.1:9198";
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
      description = "Its group. One of another name is not created.";
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
      default = 2 * (cfg.settings.createTimeout + cfg.settings.deployTimeout);
      defaultText = lib.literalExpression "2 * (settings.createTimeout + settings.deployTimeout)";
      description = "Seconds that a Hydra on this machine lets a step wait for a machine that can build it, before it aborts the step (classic: `max_unsupported_time`, 0 by default; current: `maxUnsupportedTimeInS`, 120). `null`: Hydra's own configuration says it.";
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
  };

  config = lib.mkIf cfg.enable {
    # For `hydra-provisioner status` by hand.
    environment.systemPackages = [ cfg.package ];
  };
}
