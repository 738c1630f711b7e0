# Build machines on this host, with nothing but QEMU. scripts/quickstart runs it.
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
      # Made by scripts/build-image.
      image = "${here}/../../target/build-machine";
      memory = 1024; # MiB
      # A socket's path has 108 bytes at most, so not below a folder of any length.
      stateDir = "/var/tmp/hydra-quickstart";
      # Start from a snapshot instead of booting.
      warmStart = warm;
    };
    maxMachines = 2;
    runnablesPerMachine = 10;
    # Its public half, with .pub, may log in.
    sshKey = "${scratch}/key";
  };
}
