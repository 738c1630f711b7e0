# A build machine for a Hydra: restricted keys, garbage collection, and automatic shutdown.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkOption types;

  cfg = config.services.hydra-build-machine;

  # The only program that our keys may run. It accepts exactly the commands below.
  gate = pkgs.writeShellScript "hydra-build-machine-gate" ''
    case "''${SSH_ORIGINAL_COMMAND-}" in
    ${lib.concatMapStringsSep "\n" (
      command: "  ${lib.escapeShellArg command}) exec ${command} ;;"
    ) cfg.allowedCommands}
      *) echo "this key may not run: ''${SSH_ORIGINAL_COMMAND-a shell}" >&2; exit 1 ;;
    esac
  '';
  restricted = key: "${restriction} ${key}";
  restriction = "command=\"${gate}\",restrict";
in
{
  imports = [
    ../auto-shutdown.nix
    ./build-machine/identity.nix
  ];

  options.services.hydra-build-machine = {
    enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether this machine is a build machine of a Hydra.";
    };

    authorizedKeys = mkOption {
      type = types.listOf types.singleLineStr;
      default = [ ];
      example = [ "ssh-ed25519 AAAA... hydra" ];
      description = "Public keys of the queue runner and the provisioner. They log in as root and may run only `allowedCommands`.";
    };

    allowedCommands = mkOption {
      type = types.listOf types.singleLineStr;
      default = [
        "nix-store --serve --write"
        "touch /run/keep-alive"
        "uname -n"
        "systemctl stop hydra-builder.service"
        "systemctl start hydra-builder.service"
        "systemctl stop hydra-queue-builder-dev.service"
        "systemctl start hydra-queue-builder-dev.service"
      ];
      description = "The exact commands that `authorizedKeys` may run: those of the queue runner and the provisioner (`touchKeepAlive`, `drainCommand`, `resumeCommand`, host name). Add `nix-daemon --stdio` if a machines file names the machine as `ssh-ng://` (`storeUri`; a classic queue runner supports only `ssh://`).";
    };

    credentials = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the machine takes an identity: host name, host key, additional authorized keys and its provider's `idleTimeout` (docs/qemu.md, \"Identity\"). Where from: `metadata`. Leave it on with `provider.ec2`, `provider.hcloud` and `provider.qemu`. With `false` the machine generates its own host key.";
    };

    metadata = mkOption {
      type = types.nullOr (
        types.enum [
          "ec2"
          "hetzner"
        ]
      );
      default = null;
      description = "Where this machine reads its identity: `\"ec2\"` or `\"hetzner\"` for machines of `provider.ec2` or `provider.hcloud` (from the metadata service of the cloud), `null` for `provider.qemu` (from the systemd credential `hydra-provisioner.identity`, which QEMU passes in). After it has read it, only root may reach the metadata service, because the identity contains the private host key.";
    };

    keyOptions = mkOption {
      type = types.singleLineStr;
      internal = true;
      readOnly = true;
      default = restriction;
      description = "Options before an authorized key (sshd(8)).";
    };

    maxStoreUse = mkOption {
      type = types.ints.between 1 99;
      default = 80;
      description = "Disk usage in percent above which garbage is collected, checked every half hour. When less than 1 GiB is free, Nix itself collects garbage (`nix.settings.min-free`).";
    };
  };

  config = lib.mkIf cfg.enable {
    services.openssh = {
      enable = true;
      settings = {
        PasswordAuthentication = false;
        PermitRootLogin = "prohibit-password";
      };
    };
    users.users.root.openssh.authorizedKeys.keys = map restricted cfg.authorizedKeys;

    nix = {
      gc = {
        automatic = true;
        dates = "*:0/30";
        # Part of a shell script: the number of bytes to free.
        options = ''--max-freed "$(df --block-size=1 --output=size,avail /nix/store | { read -r _; read -r size free; echo $((size / 100 * ${
          toString (100 - cfg.maxStoreUse)
        } - free)); })"'';
      };
      settings = {
        trusted-users = [ "root" ];
        # The queue runner sends inputs; others may come from binary caches.
        builders-use-substitutes = true;
        # Also during a build: garbage is collected when less than 1 GiB is free, until 5 GiB are.
        min-free = lib.mkDefault 1073741824;
        max-free = lib.mkDefault 5368709120;
        keep-outputs = false;
        keep-derivations = false;
      };
    };

    # Images are smaller than the disks of build machines.
    boot.growPartition = lib.mkDefault true;
    fileSystems."/".autoResize = lib.mkDefault true;
  };
}
