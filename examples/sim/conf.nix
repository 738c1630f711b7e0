# For `hydra-provisioner sim`: machines of two systems, with limits. The simulator never runs the provider.
let
  provider.command.program = [ "false" ];
in
{
  tag = "sim";
  statusCommand = [ "false" ];
  maxCreatesPerCycle = 5;
  systemTypes = {
    "x86_64-linux" = {
      inherit provider;
      maxMachines = 20;
      runnablesPerMachine = 8;
      maxJobs = 4;
      gracePeriod = 600;
      supportedFeatures = [ "big-parallel" ];
    };
    "aarch64-linux" = {
      inherit provider;
      maxMachines = 8;
      runnablesPerMachine = 8;
      maxJobs = 4;
      gracePeriod = 600;
    };
  };
}
