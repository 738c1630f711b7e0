# End to end with a real Hydra: a build waits, a virtual machine is created for it (inside this virtual
# machine, from the flake's image of a build machine), Hydra builds on it over ssh, and the machine is
# destroyed when it is idle.
{ common, ... }:

{
  name = "hydra-provisioner-qemu-build";

  nodes.server =
    { lib, pkgs, ... }:
    let
      inherit (pkgs.stdenv.hostPlatform) system;
      keys = import (pkgs.path + "/nixos/tests/ssh-keys.nix") pkgs;
      privateKey = "/etc/hydra/id_buildfarm";
      # It needs only a shell, which is in every sandbox.
      jobs = pkgs.writeTextDir "default.nix" ''
        {
          trivial = derivation {
            name = "trivial";
            system = "${system}";
            builder = "/bin/sh";
            args = [ "-c" "echo built > $out" ];
            allowSubstitutes = false;
          };
        }
      '';
    in
    {
      imports = [ common.nixosModules.hydra-provisioner ];

      virtualisation = {
        cores = 2;
        # For Hydra, PostgreSQL and one build machine.
        memorySize = 6144;
        diskSize = 20480;
        writableStore = true;
      };
      time.timeZone = "UTC";
      nix.settings.substituters = lib.mkForce [ ];
      # Port 22 of the machines' addresses belongs to them.
      services.openssh.enable = lib.mkForce false;

      # nixpkgs' Hydra was the classic one until September 2026; the REST queue runner reads no machines file.
      services.hydra = {
        enable = true;
        hydraURL = "http://localhost:3000";
        notificationSender = "hydra@localhost";
      };
      # The queue runner's; the provisioner gets it as a credential.
      environment.etc."hydra/id_buildfarm" = {
        source = keys.snakeOilPrivateKey;
        mode = "0400";
        user = "hydra-queue-runner";
      };
      environment.etc."hydra/jobs".source = jobs;

      services.hydra-provisioner = {
        enable = true;
        # This server builds nothing: Hydra needs the machine.
        localJobs = 0;
        sshKeyFile = privateKey;
        settings = {
          pollInterval = 5;
          systemTypes.${system} = {
            provider.qemu = {
              image = "${common.buildMachineImage}";
              inherit (common.buildMachineImage) kernelParams;
              memory = 1536;
              authorizedKeys = [ keys.snakeOilPublicKey ];
            };
            runnablesPerMachine = 1;
            sshKey = privateKey;
          };
        };
      };
      environment.systemPackages = [ pkgs.curl ];
    };

  testScript = ''
    import json

    URL = "http://localhost:3000"
    MACHINES = "/var/lib/hydra-provisioner/machines"
    FOLDERS = "/var/lib/hydra-provisioner/qemu/machines"


    def put(what: str, content: dict[str, object]) -> None:
        server.succeed(
            f"curl -sf -b /tmp/cookie --referer {URL} -H 'Accept: application/json' "
            + f"-H 'Content-Type: application/json' -X PUT {URL}/{what} -d '{json.dumps(content)}'"
        )


    server.start()
    server.wait_for_unit("hydra-init.service")
    server.wait_for_unit("hydra-queue-runner.service")
    server.wait_for_unit("hydra-evaluator.service")
    server.wait_for_open_port(3000)

    with subtest("nothing to do: no machine"):
        server.wait_for_file(MACHINES)
        server.fail(f"grep ^root@ {MACHINES}")

    with subtest("a job is queued"):
        # Hydra evaluates in restricted mode, which refuses the target of a symbolic link.
        jobs = server.succeed("realpath /etc/hydra/jobs").strip()
        server.succeed("hydra-create-user admin --role admin --password admin")
        server.succeed(
            f"curl -sf -c /tmp/cookie --referer {URL} -H 'Accept: application/json' -H 'Content-Type: application/json' "
            + f"-X POST {URL}/login -d '{json.dumps({'username': 'admin', 'password': 'admin'})}'"
        )
        put("project/test", {"displayname": "Test", "enabled": "1", "visible": "1"})
        put(
            "jobset/test/jobs",
            {
                "description": "one job",
                "checkinterval": "60",
                "enabled": "1",
                "visible": "1",
                "keepnr": "1",
                "nixexprinput": "jobs",
                "nixexprpath": "default.nix",
                "inputs": {"jobs": {"type": "path", "value": jobs}},
            },
        )

    with subtest("a machine is created and published"):
        server.wait_until_succeeds(f"grep '^root@127.91.' {MACHINES}")
        server.succeed(f"test -e {FOLDERS}/hydra-provisioned-0/disk.qcow2")

    with subtest("Hydra builds on it"):
        server.wait_until_succeeds(
            f"curl -sfL -H 'Accept: application/json' {URL}/build/1 | grep -E '\"buildstatus\": ?0\\b'"
        )
        where = server.succeed("runuser -u hydra -- psql -At hydra -c 'select machine from buildsteps where type = 0'")
        # `root@HOST` or `ssh://root@HOST`, depending on the version of Hydra.
        assert "root@127.91." in where, where

    with subtest("the queue is empty: it is unpublished and released"):
        server.wait_until_fails(f"grep ^root@ {MACHINES}")
        server.wait_until_fails(f"ls {FOLDERS} | grep .")
        # Not the shell that runs this command.
        server.wait_until_fails("pgrep -f '[g]uest=hydra-provisioned-0'")
  '';
}
