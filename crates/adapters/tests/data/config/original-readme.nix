# The example of the original's README with every option switched on.
{
  tag = "hydra-provisioned";
  systemTypes.x86_64-linux = {
    nixopsExpr = builtins.toPath ./deployment.nix;
    minMachines = 0;
    maxMachines = 1;
    ignoredRunnables = 0;
    runnablesPerMachine = 10;
    maxJobs = 1;
    speedFactor = 1;
    sshKey = "/var/lib/hydra/queue-runner/.ssh/id_buildfarm";
    stopOnIdle = false;
    gracePeriod = 0;
  };
  sshCommand = [
    "hydra-queue-runner"
    "--status"
  ];
  updateCommand = [
    "/bin/sh"
    "-c"
    "cat > /var/lib/hydra/provisioner/machines"
  ];
}
