# Import this into a build machine: it powers itself off when the provisioner has lost it, so that a lost
# machine does not cost money forever. The provisioner touches the file regularly while it keeps the machine.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.auto-shutdown;
in
{
  options.services.auto-shutdown = {
    enable = lib.mkOption {
      type = lib.types.bool;
      default = true;
      description = "Whether this machine powers itself off when it is not used.";
    };
    timeout = lib.mkOption {
      type = lib.types.ints.positive;
      default = 3600;
      description = "Seconds without contact from the provisioner, a build or a login after which the machine powers off. If the machine has an identity (`provider.ec2`, `provider.hcloud`, `provider.qemu`), the `idleTimeout` of its provider is used instead.";
    };
    keepAliveFile = lib.mkOption {
      type = lib.types.strMatching "/.*";
      default = "/run/keep-alive";
      description = "The machine powers itself off when this file is too old. hydra-provisioner touches `/run/keep-alive`.";
    };
  };

  config = lib.mkIf cfg.enable {
    # A deployment counts as contact.
    system.activationScripts.idle-monitor = ''
      touch ${lib.escapeShellArg cfg.keepAliveFile}
    '';

    systemd.services.idle-monitor = {
      description = "Idle Monitor";
      wantedBy = [ "multi-user.target" ];
      path = [
        pkgs.coreutils
        pkgs.getent
        pkgs.procps
        config.systemd.package
      ];
      environment = {
        KEEP_ALIVE_FILE = cfg.keepAliveFile;
        TIMEOUT_SECONDS = toString cfg.timeout;
      };
      script = ''
        # Nix builds as a member of nixbld, or (auto-allocate-uids) as one of 2^23 user ids from 872415232 on.
        building() {
          pgrep -G nixbld >/dev/null ||
            ps -eo uid= | while read -r uid; do
              [ "$uid" -lt 872415232 ] || [ "$uid" -ge 880803840 ] || echo "$uid"
            done | grep -q .
        }

        # A build over ssh (nix-store --serve) is also a login.
        logged_in() {
          loginctl list-sessions --no-legend | grep -q .
        }

        # The machine has hibernated, or its clock was set.
        clock_has_jumped() {
          [ $(($(date +%s) - before)) -gt $((pause + 60)) ]
        }

        # The provider may have set the idle timeout (docs/qemu.md, "Identity").
        timeout_seconds() {
          cat /run/hydra-provisioner/idle-timeout 2>/dev/null || echo "$TIMEOUT_SECONDS"
        }

        [ -e "$KEEP_ALIVE_FILE" ] || touch "$KEEP_ALIVE_FILE"
        while true; do
          timeout=$(timeout_seconds)
          pause=$((timeout < 60 ? timeout : 60))
          before=$(date +%s)
          sleep "$pause"
          # A removed file counts as touched now, an unknown state as busy.
          if [ ! -e "$KEEP_ALIVE_FILE" ] || clock_has_jumped || building || logged_in; then
            touch "$KEEP_ALIVE_FILE"
          elif [ $(($(date +%s) - $(stat -c %Y "$KEEP_ALIVE_FILE"))) -gt "$timeout" ]; then
            echo "powering off after $timeout seconds of idleness..."
            systemctl poweroff
          fi
        done
      '';
      serviceConfig.Restart = "always";
    };
  };
}
