# Build machines on Hetzner Cloud, for a classic Hydra on this host. See docs/hetzner.md.
{
  systemTypes.x86_64-linux = {
    provider.hcloud = {
      # A file with the API token of a project that is used for nothing else.
      tokenFile = "/etc/secrets/hcloud-token";
      # The first available one is used: each type in all locations before the next type.
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
    # The key in its .pub file may log in.
    sshKey = "/var/lib/hydra/queue-runner/.ssh/id_buildfarm";
  };
}
