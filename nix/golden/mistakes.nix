# One mistake each, with the message that the operator sees (expected/mistakes.txt).
let
  enabled = given: {
    services.hydra-provisioner = {
      enable = true;
    }
    // given;
  };
  withSettings = settings: enabled { inherit settings; };
  withType = type: withSettings { systemTypes.x86_64-linux = type; };
  ownProgram.provider.command.program = [ "/etc/hydra/my-cloud" ];
  typed = {
    systemTypes.x86_64-linux = ownProgram;
  };
in
{
  config-file-and-settings = enabled {
    configFile = "/etc/hydra/conf.nix";
    settings = typed;
  };
  no-types = enabled { };
  rest-and-classic = withSettings (
    typed
    // {
      queue.url = "http://[::1]:8080";
      statusCommand = [ "cat" ];
    }
  );
  drain-without-rest = withSettings (typed // { drainCommand = [ "true" ]; });
  machines-file-and-command = withSettings (
    typed
    // {
      machinesFile = "/var/lib/hydra-provisioner/machines";
      updateCommand = [ "tee" ];
    }
  );
  machines-file-in-a-shared-folder = withSettings (typed // { machinesFile = "/etc/nix/machines"; });
  state-outside-var-lib = withSettings (typed // { stateDir = "/srv/provisioner"; });
  interval-with-watch = enabled {
    interval = "5min";
    settings = typed;
  };
  metrics-without-watch = enabled {
    watch = false;
    metricsAddress = "127.0.0.1:9478";
    settings = typed;
  };
  prometheus-without-address = enabled {
    prometheus.enable = true;
    settings = typed;
  };
  prometheus-with-a-socket = enabled {
    metricsAddress = "unix:/run/hydra-provisioner/http.sock";
    prometheus.enable = true;
    settings = typed;
  };
  two-ssh-keys = enabled {
    sshKeyFile = "/etc/key";
    credentials.ssh-key = "/etc/key";
    settings = typed;
  };
  more-than-the-most = withType (ownProgram // { minMachines = 3; });
  no-provider = withType { };
  two-providers = withType {
    provider = ownProgram.provider // {
      nixops.network = "/etc/hydra/network";
    };
  };
  provider-without-a-name = withType { provider = { }; };
  nixops-expr-and-command = withType (ownProgram // { nixopsExpr = "/etc/hydra/deployment.nix"; });
  nixops-without-deployment = withType { provider.nixops = { }; };
  ec2-with-two-images = withType {
    provider.ec2 = {
      region = "eu-central-1";
      image = "ami-1";
      imageParameter = "/ours/ami";
      instanceTypes = [ "c7i.large" ];
      authorizedKeys = [ "ssh-ed25519 AAAA hydra" ];
    };
  };
  ec2-without-instance-types = withType {
    provider.ec2 = {
      region = "eu-central-1";
      image = "ami-1";
      keyName = "farm";
    };
  };
  ec2-with-an-unreadable-key = withType {
    sshKey = "/var/lib/hydra/queue-runner/.ssh/id_buildfarm";
    provider.ec2 = {
      region = "eu-central-1";
      image = "ami-1";
      instanceTypes = [ "c7i.large" ];
      keyName = "farm";
    };
  };
  hcloud-without-image = withType {
    provider.hcloud = {
      tokenFile = "/run/token";
      serverTypes = [ "ccx33" ];
      locations = [ "fsn1" ];
      authorizedKeys = [ "ssh-ed25519 AAAA hydra" ];
    };
  };
  qemu-without-keys = withType { provider.qemu.image = "/var/lib/images/build-machine"; };
  qemu-beside-an-sshd = {
    imports = [
      (withType {
        provider.qemu = {
          image = "/var/lib/images/build-machine";
          authorizedKeys = [ "ssh-ed25519 AAAA hydra" ];
        };
      })
    ];
    services.openssh = {
      enable = true;
      ports = [ 22 ];
      listenAddresses = [ ];
    };
  };
  hydra-that-aborts-early = {
    imports = [
      ./hydra-flake.nix
      (withSettings typed)
    ];
    services.hydra-queue-runner-dev = {
      enable = true;
      settings.maxUnsupportedTimeInS = 120;
    };
  };
  hydra-that-never-dispatches = {
    imports = [
      ./hydra-flake.nix
      (withSettings typed)
    ];
    services.hydra-queue-runner-dev = {
      enable = true;
      settings.dispatchTriggerTimerInS = 0;
    };
  };
  nixpkgs-hydra-that-aborts-early = {
    imports = [
      ./hydra-nixpkgs.nix
      (withSettings typed)
    ];
    services.hydra = {
      enable = true;
      queueRunner.settings.maxUnsupportedTimeInS = 120;
    };
  };
}
