# Build machines on this host, using only QEMU. scripts/quickstart runs it.
let
  here = toString ./.;
  scratch = "${here}/../../target/quickstart-qemu";
  warm = builtins.getEnv "QUICKSTART_WARM" != "";
in
{
  # Instead of [ "hydra-queue-runner" "--status" ].
  statusCommand = [
    "cat"
    "${scratch}/status.json"
  ];
  machinesFile = "${scratch}/machines";
  stateDir = "${scratch}/state";

  systemTypes.x86_64-linux = {
    provider.qemu = {
      # Created by scripts/build-image.
      image = "${here}/../../target/build-machine";
      memory = 1024; # MiB
      # A short path, because a socket's path is limited to 108 bytes.
      stateDir = "/var/tmp/hydra-quickstart";
      # Start from a snapshot instead of booting.
      warmStart = warm;
    };
    maxMachines = 2;
    runnablesPerMachine = 10;
    # The key in its .pub file may log in.
    sshKey = "${scratch}/key";
  };
}
