# Build machines of Amazon EC2, beside a classic Hydra on this host. docs/ec2.md says how to begin.
{
  systemTypes.x86_64-linux = {
    provider.ec2 = {
      region = "eu-central-1";
      # An image of your own with nixosModules.build-machine, by the name that it was registered with.
      imageFilter = {
        owner = "self";
        name = "hydra-builder-*";
        architecture = "x86_64";
      };
      # Spot while it can be had in any type and subnet, then on demand.
      purchase = [
        "spot"
        "on-demand"
      ];
      instanceTypes = [
        "c7i.4xlarge"
        "c7a.4xlarge"
        "m7i.4xlarge"
      ];
      subnets = [
        "subnet-0aaaaaaaaaaaaaaaa"
        "subnet-0bbbbbbbbbbbbbbbb"
      ];
      securityGroups = [ "sg-0cccccccccccccccc" ];
      rootVolume.size = 200; # GiB
    };
    maxMachines = 16;
    maxJobs = 4;
    # Its public half, with .pub, may log in.
    sshKey = "/var/lib/hydra/queue-runner/.ssh/id_buildfarm";
  };
}
