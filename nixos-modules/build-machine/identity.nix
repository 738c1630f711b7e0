# Who the machine is, told from outside at each boot or resume (docs/qemu.md): nothing of it is in an image. The
# document is taken by the very program of the Debian image.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.hydra-build-machine;

  credential = "hydra-provisioner.identity";
  authorizedKeys = "/run/hydra-provisioner/authorized_keys";

  program = pkgs.writeText "hydra-identity" (builtins.readFile ../../scripts/image/identity);
  identity = "${pkgs.perl}/bin/perl ${program}";
  service = {
    environment = {
      AUTHORIZED_KEYS_FILE = authorizedKeys;
      AUTHORIZED_KEY_OPTIONS = cfg.keyOptions;
      # The machine's own where no identity is handed in.
      HOST_KEY_FILE = "/etc/ssh/ssh_host_ed25519_key";
      SSHD_UNIT = "sshd.service";
    };
    path = [
      pkgs.coreutils
      config.systemd.package
    ];
  };
in
{
  config = lib.mkIf (cfg.enable && cfg.credentials) {
    services.openssh = {
      startWhenNeeded = false;
      authorizedKeysFiles = [ authorizedKeys ];
      # By this file the program knows when sshd listens with a new key.
      settings.PidFile = "/run/sshd.pid";
    };

    systemd.services.hydra-identity = service // {
      description = "Identity given by hydra-provisioner";
      wantedBy = [ "multi-user.target" ];
      before = [
        "sshd.service"
        "sshd-keygen.service"
        "idle-monitor.service"
      ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        # Without a path: from the system's credentials; a missing one is no error.
        LoadCredential = [ credential ];
        StandardOutput = "journal+console";
        StandardError = "journal+console";
      };
      script = ''
        if [ -e "$CREDENTIALS_DIRECTORY/${credential}" ]; then
          ${identity} <"$CREDENTIALS_DIRECTORY/${credential}"
        fi
      '';
    };

    # The port is there only in machines that are made ready for a snapshot, or come from one.
    services.udev.extraRules = ''
      SUBSYSTEM=="virtio-ports", ATTR{name}=="${credential}", TAG+="systemd", ENV{SYSTEMD_WANTS}="hydra-identity-resume.service"
    '';
    systemd.services.hydra-identity-resume = service // {
      description = "Identity given by hydra-provisioner after a resume";
      # A snapshot is made when this waits: the boot is over then.
      after = [
        "sshd.service"
        "multi-user.target"
      ];
      serviceConfig = {
        # What a first build needs is in memory then.
        ExecStartPre = "-${config.nix.package}/bin/nix-store --query --references /nix/store/none";
        ExecStart = "${identity} --resume /dev/virtio-ports/${credential}";
        # Every step of it costs without KVM, and somebody waits.
        Nice = -10;
        StandardOutput = "journal+console";
        StandardError = "journal+console";
      };
    };
  };
}
