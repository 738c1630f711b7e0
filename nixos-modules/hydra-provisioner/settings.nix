# The options of conf.nix, as the program (crates/adapters/src/config) reads them.
{ lib }:

let
  inherit (lib) mkOption types;
  quantities = import ./quantities.nix { inherit lib; };
  inherit (quantities)
    absolutePath
    costLimits
    durationOr
    noted
    optional
    ;
  inherit (import ./texts.nix { inherit lib; }) described;

  command = types.nonEmptyListOf types.str;

  occasions = [
    "failed"
    "unhealthy"
    "orphan"
    "budget"
  ];
in
{
  options = described "" (
    {
      tag = mkOption {
        type = types.strMatching "[A-Za-z0-9][A-Za-z0-9._-]*";
        default = "hydra-provisioned";
      };

      formerTags = mkOption {
        type = types.listOf (types.strMatching "[A-Za-z0-9][A-Za-z0-9._-]*");
        default = [ ];
      };

      systemTypes = mkOption {
        type = types.attrsOf (types.submodule (import ./system-type.nix { inherit lib; }));
        default = { };
        example = lib.literalExpression ''
          {
            x86_64-linux = {
              provider.command.program = [ "/etc/hydra/my-cloud" ];
              maxMachines = 12;
              runnablesPerMachine = 50;
            };
          }
        '';
      };

      statusCommand = mkOption {
        type = types.nullOr command;
        default = null;
        example = [
          "ssh"
          "-i"
          "/run/credentials/hydra-provisioner.service/ssh-key"
          "-x"
          "root@hydra.example.org"
          "hydra-queue-runner"
          "--status"
        ];
      };

      queue = mkOption {
        type = types.nullOr (
          types.submodule {
            options = described "queue." {
              url = mkOption {
                type = types.strMatching "https?://.*";
                example = "http://[::1]:8080";
                description = "World-readable in the store: with a password in it, use `services.hydra-provisioner.configFile` instead (docs/nixos.md, \"Secrets\").";
              };
              nixCommand = mkOption {
                type = command;
                default = [ "nix" ];
              };
            };
          }
        );
        default = null;
      };

      otherMachines = mkOption {
        type = types.listOf types.nonEmptyStr;
        default = [ ];
        example = [ "mac-*.example.org" ];
      };

      machinesFile = noted "The module sets it to `machines` in `stateDir` unless `queue` or `updateCommand` is set. A folder elsewhere is given to the service's user: one that contains nothing else." (
        optional absolutePath
      );

      machinesFileMode = mkOption {
        type = types.nullOr (
          types.enum [
            "own"
            "takeover"
          ]
        );
        default = null;
      };

      staticMachines = mkOption {
        type = types.listOf types.nonEmptyStr;
        default = [ ];
        example = [ "builder@mac-1.example.org aarch64-darwin /etc/hydra/id_mac 4" ];
      };

      updateCommand = optional command;

      stateDir = mkOption {
        type = absolutePath;
        default = "/var/lib/hydra-provisioner";
        description = "The module needs a folder below `/var/lib`.";
      };

      touchKeepAlive = mkOption {
        type = types.bool;
        default = true;
      };

      checkSsh = mkOption {
        type = types.bool;
        default = true;
      };

      drainCommand = noted "With `queue`, the module sets it to `systemctl stop` of `builderUnit`." (
        optional command
      );

      resumeCommand = noted "With `queue`, the module sets it to `systemctl start` of `builderUnit`." (
        optional command
      );

      sshOptions = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [
          "-o"
          "ProxyJump=gateway.example.org"
        ];
      };

      lease = mkOption {
        type = types.nullOr (
          types.submodule {
            options = described "lease." {
              postgresql = mkOption {
                type = types.nonEmptyStr;
                example = "host=db.example.org user=hydra dbname=hydra";
                description = "For `host=/run/postgresql` the service's user needs a role of its name, or a line of pg_ident.conf.";
              };
              passwordFile = noted "See `services.hydra-provisioner.credentials`." (optional absolutePath);
            };
          }
        );
        default = null;
      };

      notify = mkOption {
        type = types.listOf (
          types.submodule {
            options = described "notify.*." {
              on = mkOption {
                type = types.listOf (types.enum occasions);
                default = occasions;
              };
              command = mkOption {
                type = types.nullOr command;
                default = null;
                example = [ "/run/current-system/sw/bin/notify-chat" ];
              };
              webhook = noted "World-readable in the store: if the URL is a secret, use `webhookFile`." (
                optional (types.strMatching "https?://.*")
              );
              webhookFile = noted "See `services.hydra-provisioner.credentials`." (optional absolutePath);
            };
          }
        );
        default = [ ];
      };

      maxCreating = mkOption {
        type = types.ints.positive;
        default = 5;
      };

      maxCreatesPerCycle = optional types.ints.positive;

      maxMachines = optional types.ints.unsigned;

      parallelism = mkOption {
        type = types.ints.between 1 1024;
        default = 32;
      };

      createTimeout = durationOr 900;
      deployTimeout = durationOr 1800;
      releaseTimeout = durationOr 600;
      statusTimeout = durationOr 60;

      pollInterval = durationOr 10;
      listInterval = durationOr 60;
      keepAliveInterval = durationOr 300;
      maxStatusAge = durationOr 120;
    }
    // costLimits
  );
}
