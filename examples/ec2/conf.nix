# Build machines on Amazon EC2, for a classic Hydra on this host. See docs/ec2.md.
{
  systemTypes.x86_64-linux = {
    provider.ec2 = {
      region = "eu-central-1";
      # Your own image with nixosModules.build-machine, by its registered name.
      imageFilter = {
        owner = "self";
        name = "hydra-builder-*";
        architecture = "x86_64";
      };
      # Spot if available in any type and subnet, otherwise on demand.
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
    # The key in its .pub file may log in.
    sshKey = "/var/lib/hydra/queue-runner/.ssh/id_buildfarm";
  };
}
