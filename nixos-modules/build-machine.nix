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
  restricted = key: "command=\"${gate}\",restrict ${key}";

  runDirectory = "/run/hydra-build-machine";
in
{
  imports = [ ../auto-shutdown.nix ];

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
        "systemctl stop hydra-queue-builder-dev.service"
        "systemctl start hydra-queue-builder-dev.service"
      ];
      description = "What `authorizedKeys` may run, word for word: building for a queue runner, and what the provisioner does (`touchKeepAlive`, `drainCommand`, `resumeCommand`). Add `nix-daemon --stdio` for `ssh-ng://` machines.";
    };

    credentials = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the systemd credentials `hydra.host-key` (an ed25519 private key) and `hydra.authorized-key` (one more public key), given to the machine by its hypervisor, are used. Without them the machine makes its own host key.";
    };

    maxStoreUse = mkOption {
      type = types.ints.between 1 99;
      default = 80;
      description = "Percentage of the disk at which garbage is collected, even between the regular collections.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.openssh = {
      enable = true;
      settings = {
        PasswordAuthentication = false;
        PermitRootLogin = "prohibit-password";
      };
      authorizedKeysFiles = lib.mkIf cfg.credentials [ "${runDirectory}/authorized_keys" ];
    };
    users.users.root.openssh.authorizedKeys.keys = map restricted cfg.authorizedKeys;

    systemd.services.hydra-build-machine-credentials = lib.mkIf cfg.credentials {
      description = "Host key and authorised key from the hypervisor";
      wantedBy = [ "multi-user.target" ];
      before = [
        "sshd.service"
        "sshd-keygen.service"
      ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        # Without a path: from the system's credentials; a missing one is no error.
        LoadCredential = [
          "hydra.host-key"
          "hydra.authorized-key"
        ];
        RuntimeDirectory = "hydra-build-machine";
        RuntimeDirectoryPreserve = true;
      };
      path = [
        pkgs.coreutils
        config.programs.ssh.package
      ];
      script = ''
        host_key="$CREDENTIALS_DIRECTORY/hydra.host-key"
        if [ -e "$host_key" ]; then
          install -Dm600 "$host_key" /etc/ssh/ssh_host_ed25519_key
          ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key >/etc/ssh/ssh_host_ed25519_key.pub
        fi
        authorized_key="$CREDENTIALS_DIRECTORY/hydra.authorized-key"
        if [ -e "$authorized_key" ]; then
          echo ${lib.escapeShellArg (restricted "")}"$(cat "$authorized_key")" >${runDirectory}/authorized_keys
        fi
      '';
    };

    nix = {
      gc = {
        automatic = true;
        dates = "*:0/30";
        # Everything that no running build needs.
        options = "--max-freed $((${
          toString (100 - cfg.maxStoreUse)
        } * $(df -P -k /nix/store | tail -n 1 | awk '{ print $2 }') * 1024 / 100))";
      };
      settings = {
        trusted-users = [ "root" ];
        # Inputs are in the queue runner's store; what it does not send may be had from the caches.
        builders-use-substitutes = true;
        keep-outputs = false;
        keep-derivations = false;
      };
    };

    # Images are small, disks of build machines are not.
    boot.growPartition = lib.mkDefault true;
    fileSystems."/".autoResize = lib.mkDefault true;
  };
}
