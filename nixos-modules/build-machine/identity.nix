# The machine's identity, passed in at each boot or resume (docs/qemu.md); the image contains none. The same program as
# in the Debian image reads the document.
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
  # Prints the user data; retries until the network is up.
  ask = "curl --silent --show-error --fail --retry 30 --retry-delay 1 --retry-all-errors --max-time 10";
  userData = {
    ec2 = ''
      token=$(${ask} -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" http://169.254.169.254/latest/api/token)
      ${ask} -H "X-aws-ec2-metadata-token: $token" http://169.254.169.254/latest/user-data
    '';
    hetzner = "${ask} http://169.254.169.254/hetzner/v1/userdata";
  };
  # Fixed-output derivations have network access, and the document contains the private host key.
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
      # The machine's own if no identity is passed in.
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
      # This file shows the program when sshd listens with a new key.
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
        # Hydra's builder (REST) reads the host name once, when it starts: that of nixpkgs, and that of Hydra's own flake.
        "hydra-builder.service"
        "hydra-queue-builder-dev.service"
      ];
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        # Without a path: from the system's credentials; it may be missing.
        LoadCredential = [ credential ];
        StandardOutput = "journal+console";
        StandardError = "journal+console";
      };
      script = if cfg.metadata == null then takeCredential else takeUserData;
    };

    # The port exists only in machines that prepare for a snapshot or start from one.
    services.udev.extraRules = ''
      SUBSYSTEM=="virtio-ports", ATTR{name}=="${credential}", TAG+="systemd", ENV{SYSTEMD_WANTS}="hydra-identity-resume.service"
    '';
    systemd.services.hydra-identity-resume = service // {
      description = "Identity given by hydra-provisioner after a resume";
      # The snapshot is taken while this waits, when the boot is complete.
      after = [
        "sshd.service"
        "multi-user.target"
      ];
      serviceConfig = {
        # Loads into memory what a first build needs.
        ExecStartPre = "-${config.nix.package}/bin/nix-store --query --references /nix/store/none";
        ExecStart = "${identity} --resume /dev/virtio-ports/${credential}";
        # It is slow without KVM, and the provisioner waits for it.
        Nice = -10;
        StandardOutput = "journal+console";
        StandardError = "journal+console";
      };
    };
  };
}
