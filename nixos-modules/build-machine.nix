# What a machine needs to build for a Hydra: keys that can do nothing else, room to build in, and an end.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  inherit (lib) mkOption types;

  cfg = config.services.hydra-build-machine;

  # The one program that our keys may run: it takes the commands below word for word, and no other.
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
      description = "Whether this machine builds for a Hydra.";
    };

    authorizedKeys = mkOption {
      type = types.listOf types.singleLineStr;
      default = [ ];
      example = [ "ssh-ed25519 AAAA... hydra" ];
      description = "Public keys of the queue runner and the provisioner. They log in as root and may run `allowedCommands`, nothing else.";
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
      description = "What `authorizedKeys` may run, word for word: building for a queue runner, and what the provisioner does (`touchKeepAlive`, `drainCommand`, `resumeCommand`, the question for the host name). Add `nix-daemon --stdio` for `ssh-ng://` machines.";
    };

    credentials = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the machine is whom the systemd credential `hydra-provisioner.identity` says, given to it by its hypervisor: host name, host key, further authorised keys and the idle timeout (docs/qemu.md, \"Identity\"). Without it the machine makes its own host key.";
    };

    metadata = mkOption {
      type = types.nullOr (
        types.enum [
          "ec2"
          "hetzner"
        ]
      );
      default = null;
      description = "The cloud whose metadata service has the identity document as user data, as `provider.ec2` and `provider.hcloud` hand it in. The private host key is in it: nobody but root may ask the service from then on. `null`: the document comes as a credential.";
    };

    keyOptions = mkOption {
      type = types.singleLineStr;
      internal = true;
      readOnly = true;
      default = restriction;
      description = "What stands before an authorised key (sshd(8)).";
    };

    maxStoreUse = mkOption {
      type = types.ints.between 1 99;
      default = 80;
      description = "Percentage of the disk above which garbage is collected, every half hour. Whenever less than 1 GiB is free, Nix itself does (`nix.settings.min-free`).";
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
        # In a script: as many bytes as are missing to so much room.
        options = ''--max-freed "$(df --block-size=1 --output=size,avail /nix/store | { read -r _; read -r size free; echo $((size / 100 * ${
          toString (100 - cfg.maxStoreUse)
        } - free)); })"'';
      };
      settings = {
        trusted-users = [ "root" ];
        # Inputs are in the queue runner's store; what it does not send may be had from the caches.
        builders-use-substitutes = true;
        # And while a build runs: garbage goes when less than 1 GiB is free, until 5 GiB are.
        min-free = lib.mkDefault 1073741824;
        max-free = lib.mkDefault 5368709120;
        keep-outputs = false;
        keep-derivations = false;
      };
    };

    # Images are small, disks of build machines are not.
    boot.growPartition = lib.mkDefault true;
    fileSystems."/".autoResize = lib.mkDefault true;
  };
}
