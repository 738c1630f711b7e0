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
  takeCredential = ''
    if [ -e "$CREDENTIALS_DIRECTORY/${credential}" ]; then
      ${identity} <"$CREDENTIALS_DIRECTORY/${credential}"
    fi
  '';
  # Prints the user data; it may take a moment until the network is there.
  ask = "curl --silent --show-error --fail --retry 30 --retry-delay 1 --retry-all-errors --max-time 10";
  userData = {
    ec2 = ''
      token=$(${ask} -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" http://169.254.169.254/latest/api/token)
      ${ask} -H "X-aws-ec2-metadata-token: $token" http://169.254.169.254/latest/user-data
    '';
    hetzner = "${ask} http://169.254.169.254/hetzner/v1/userdata";
  };
  # Fixed-output derivations have a network, and the document has the private host key.
  takeUserData = ''
    ip rule show | grep -q 169.254.169.254 || ip rule add to 169.254.169.254 uidrange 1-4294967294 prohibit
    umask 077
    (
      ${userData.${cfg.metadata}}
    ) >/run/hydra-provisioner.user-data
    ${identity} </run/hydra-provisioner.user-data
    rm /run/hydra-provisioner.user-data
  '';
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
    ]
    ++ lib.optionals (cfg.metadata != null) [
      pkgs.curl
      pkgs.iproute2
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
      wants = lib.optional (cfg.metadata != null) "network-online.target";
      after = lib.optional (cfg.metadata != null) "network-online.target";
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
      script = if cfg.metadata == null then takeCredential else takeUserData;
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
