# The configurations; their units and settings are stored in `expected`. Packages come from `pkgs`.
# `test-NAME` is the server of nixos-tests/NAME.nix, `test-NAME-NODE` another node (scripts/ci/check-scenarios).
{ pkgs }:

let
  common = import ../../nixos-tests/common.nix {
    buildMachineImage = null;
    nixosModules = {
      hydra-provisioner = ../../nixos-modules/hydra-provisioner.nix;
      auto-shutdown = ../../auto-shutdown.nix;
    };
  };
  testNode =
    node: name: (import (../../nixos-tests + "/${name}.nix") { inherit common; }).nodes.${node};
  testServer = testNode "server";

  enabled = given: {
    services.hydra-provisioner = {
      enable = true;
    }
    // given;
  };
  withType = type: enabled { settings.systemTypes.x86_64-linux = type; };
  ownProgram.provider.command.program = [ "/etc/hydra/my-cloud" ];
in
{
  minimal = withType ownProgram;

  # Two hosts with this configuration, one of them active; only a group can read the page.
  standby = enabled {
    listenStreams = [ "/run/hydra-provisioner.sock" ];
    credentials.chat = "/etc/secrets/chat-url";
    settings = {
      lease.postgresql = "host=db.example.org user=hydra dbname=hydra";
      notify = [
        {
          on = [
            "failed"
            "budget"
          ];
          webhookFile = "/run/credentials/hydra-provisioner.service/chat";
        }
      ];
      systemTypes.x86_64-linux = ownProgram;
    };
  };

  typical = enabled {
    sshKeyFile = "/var/lib/hydra/queue-runner/.ssh/id_buildfarm";
    extraPackages = [ pkgs.awscli2 ];
    settings.systemTypes = {
      x86_64-linux = ownProgram // {
        maxMachines = 12;
        runnablesPerMachine = 50;
        gracePeriod = 600;
      };
      "x86_64-linux:kvm" = ownProgram // {
        maxMachines = 2;
        stopOnIdle = true;
        sshKey = "/var/lib/hydra/queue-runner/.ssh/id_buildfarm";
        supportedFeatures = [ "big-parallel" ];
      };
    };
  };

  # `scripts/ci/check-hardening` runs this one: the queue is a file, the "machines" are files too.
  command = enabled {
    watch = false;
    settings = {
      statusCommand = [ "/etc/hydra/queue-status" ];
      touchKeepAlive = false;
      checkSsh = false;
      systemTypes.x86_64-linux = ownProgram // {
        provider.command = ownProgram.provider.command // {
          options = {
            region = "eu-1";
            # A volume that is not ours.
            spot = null;
          };
        };
        maxMachines = 4;
      };
    };
  };

  # `scripts/ci/check-hardening` runs this one too.
  watch = enabled {
    metricsAddress = "127.0.0.1:9478";
    logFormat = "json";
    settings = {
      pollInterval = 60;
      statusCommand = [ "/etc/hydra/queue-status" ];
      touchKeepAlive = false;
      checkSsh = false;
      systemTypes.x86_64-linux = ownProgram;
    };
  };

  monitoring = enabled {
    metricsAddress = "127.0.0.1:9478";
    prometheus.enable = true;
    dashboard.enable = true;
    settings.systemTypes.x86_64-linux = ownProgram;
  };

  nixops-1 = enabled {
    watch = false;
    interval = "5min";
    extraPackages = [ pkgs.nixops ];
    settings.systemTypes.x86_64-linux = {
      nixopsExpr = "/etc/hydra/deployment.nix";
      nixPath = [ "nixpkgs=/etc/hydra/nixpkgs" ];
    };
  };

  nixops-2 = enabled {
    extraPackages = [ pkgs.nixops ];
    settings.systemTypes.x86_64-linux.provider.nixops = {
      program = [
        "nixops"
        "--debug"
      ];
      network = "/etc/hydra/network";
      stateFile = "/var/lib/nixops/state.json";
    };
  };

  # `scripts/ci/check-hardening` runs this one with a real image.
  qemu = enabled {
    sshKeyFile = "/etc/hydra/id_buildfarm";
    settings = {
      statusCommand = [ "/etc/hydra/queue-status" ];
      systemTypes.x86_64-linux = {
        provider.qemu = {
          image = "/var/lib/images/build-machine";
          memory = 1024;
          cores = 2;
          authorizedKeys = [ "ssh-ed25519 AAAA hydra" ];
        };
        maxMachines = 4;
        sshKey = "/etc/hydra/id_buildfarm";
      };
    };
  };

  qemu-everything = enabled {
    settings.systemTypes.aarch64-linux.provider.qemu = {
      image = "/var/lib/images/disk.raw";
      kernel = "/var/lib/images/kernel";
      initrd = "/var/lib/images/initrd";
      kernelParams = [ "quiet" ];
      memory = 8192;
      cores = 8;
      accelerator = "kvm";
      machineType = "virt";
      program = "/usr/local/bin/qemu-system-aarch64";
      extraArgs = [ "-snapshot" ];
      stateDir = "/srv/machines";
      hostMemory = 65536;
      hostCores = 32;
      sshPort = 2222;
      authorizedKeys = [ "ssh-ed25519 AAAA hydra" ];
      warmStart = true;
      idleTimeout = 900;
    };
  };

  ec2 = enabled {
    settings.systemTypes."x86_64-linux:kvm" = {
      provider.ec2 = {
        region = "eu-central-1";
        imageFilter = {
          owner = "427812963091";
          name = "nixos/25.11*";
          architecture = "x86_64";
        };
        instanceTypes = [ "c8i.4xlarge" ];
        subnets = [ "subnet-1" ];
        purchase = [
          "spot"
          "on-demand"
        ];
        rootVolume.size = 200;
        nestedVirtualization = true;
        authorizedKeys = [ "ssh-ed25519 AAAA hydra" ];
      };
      sshKey = "/etc/hydra/id_buildfarm";
    };
  };

  ec2-mix = enabled {
    settings.systemTypes.aarch64-linux = {
      provider.ec2 = {
        region = "eu-central-1";
        imageParameter = "/ours/ami";
        instanceRequirements = {
          cpus = 16;
          memory = "32G";
          architecture = "arm64";
        };
        purchaseMix = {
          base = 1;
          spotShare = 80;
        };
        keyName = "farm";
      };
      sshKey = "/etc/hydra/id_buildfarm";
    };
  };

  hcloud = enabled {
    credentials.hcloud-token = "/etc/secrets/hcloud-token";
    settings.systemTypes.x86_64-linux = {
      provider.hcloud = {
        tokenFile = "/run/credentials/hydra-provisioner.service/hcloud-token";
        serverTypes = [ "ccx33" ];
        locations = [
          "fsn1"
          "nbg1"
        ];
        imageSelector = "role=hydra-builder";
        networks = [ 7 ];
        address = "private";
        labels.team = "infra";
        authorizedKeys = [ "ssh-ed25519 AAAA hydra" ];
      };
      sshKey = "/etc/hydra/id_buildfarm";
    };
  };

  config-file = enabled { configFile = "/etc/hydra/conf.nix"; };

  newer-systemd = {
    imports = [ (withType ownProgram) ];
    systemd.package = pkgs.systemd // {
      version = "257";
    };
  };

  # Another user, secrets, and another path of the machines file.
  own-user = enabled {
    user = "farm";
    group = "farm";
    credentials.cloud-token = "/etc/secrets/cloud-token";
    environment.CLOUD_TOKEN_FILE = "/run/credentials/hydra-provisioner.service/cloud-token";
    settings = {
      tag = "farm-a";
      stateDir = "/var/lib/farm/state";
      machinesFile = "/var/lib/farm/public/machines";
      sshOptions = [
        "-o"
        "ProxyJump=gateway.example.org"
      ];
      maxCreatesPerCycle = 3;
      parallelism = 8;
      createTimeout = 300;
      deployTimeout = 600;
      releaseTimeout = 120;
      statusTimeout = 30;
      systemTypes."x86_64-linux,i686-linux" = ownProgram // {
        minMachines = 1;
        maxMachines = 3;
        ignoredRunnables = 5;
        maxCreatesPerCycle = 2;
        maxJobs = 4;
        speedFactor = 1.5;
      };
    };
  };

  update-command = enabled {
    settings = {
      updateCommand = [
        "ssh"
        "hydra.example.org"
        "tee"
        "/etc/nix/machines"
      ];
      systemTypes.x86_64-linux = ownProgram;
    };
  };

  # The three Hydras on the same machine.
  hydra-classic = {
    imports = [
      ./hydra-classic.nix
      (withType ownProgram)
    ];
    services.hydra.enable = true;
  };

  hydra-nixpkgs = {
    imports = [
      ./hydra-nixpkgs.nix
      (withType ownProgram)
    ];
    services.hydra.enable = true;
  };

  hydra-flake = {
    imports = [
      ./hydra-flake.nix
      (withType ownProgram)
    ];
    services.hydra-queue-runner-dev.enable = true;
  };

  # A Hydra on another machine, and the operator's own commands.
  rest = enabled {
    settings = {
      queue.url = "http://hydra.example.org:8080";
      systemTypes.x86_64-linux = ownProgram;
      drainCommand = [
        "systemctl"
        "stop"
        "builder.service"
      ];
      resumeCommand = [
        "systemctl"
        "start"
        "builder.service"
      ];
    };
  };

  build-machine-ec2.services.hydra-build-machine = {
    authorizedKeys = [ "ssh-ed25519 AAAA hydra" ];
    metadata = "ec2";
  };

  build-machine = {
    services.hydra-build-machine.authorizedKeys = [ "ssh-ed25519 AAAA hydra" ];
    services.auto-shutdown.timeout = 1800;
  };

  test-auto-shutdown = testServer "auto-shutdown";
  test-crash = testServer "crash";
  test-drain = testServer "drain";
  test-ec2 = testServer "ec2";
  test-lease = {
    imports = [
      ./postgresql.nix
      (testServer "lease")
    ];
  };
  test-lease-standby = testNode "standby" "lease";
  test-never-waits = testServer "never-waits";
  test-operate = {
    imports = [
      ./prometheus.nix
      (testServer "operate")
    ];
  };
  test-queue-down = testServer "queue-down";
  test-rest = testServer "rest";
  test-starts = testServer "starts";
}
