# Build machines of Hetzner Cloud, beside a classic Hydra on this host. docs/hetzner.md says how to begin.
{
  systemTypes.x86_64-linux = {
    provider.hcloud = {
      # A file with the API token of a project that has nothing else in it.
      tokenFile = "/etc/secrets/hcloud-token";
      # The first that can be had: each type in all locations before the next type.
      serverTypes = [
        "ccx33"
        "cpx51"
      ];
      locations = [
        "fsn1"
        "nbg1"
        "hel1"
      ];
      # The newest snapshot with this label.
      imageSelector = "role=hydra-builder";
    };
    maxMachines = 8;
    maxJobs = 4;
    # Its public half, with .pub, may log in.
    sshKey = "/var/lib/hydra/queue-runner/.ssh/id_buildfarm";
  };
}
