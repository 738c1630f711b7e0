# The current queue runner, which is asked over REST and whose builders register themselves: a machine's builder is
# started when the machine comes, and stopped before it goes. The queue runner is the simulator's, and takes the machines
# from a machines file as if they had registered; their addresses are all this server's.
{ common, ... }:

{
  name = "hydra-provisioner-rest";

  nodes.server =
    {
      config,
      lib,
      pkgs,
      ...
    }:
    let
      provisioner = config.services.hydra-provisioner.package;
      stateDir = "/var/lib/hydra-provisioner";
    in
    {
      imports = [ common.server ];
      services.hydra-provisioner = {
        sshKeyFile = "/var/lib/test/key";
        settings = {
          statusCommand = null;
          queue.url = "http://127.0.0.1:8080";
          machinesFile = "${stateDir}/machines";
          # In place of the builder's service.
          drainCommand = [
            "touch"
            "${stateDir}/drained"
          ];
          resumeCommand = [
            "touch"
            "${stateDir}/resumed"
          ];
        };
      };
      systemd.services.queue = {
        description = "A queue runner with one step to do";
        serviceConfig.ExecStart = lib.escapeShellArgs [
          (lib.getExe provisioner)
          "sim"
          "serve"
          "/var/lib/test/work.jsonl"
          "--machines-file"
          "${stateDir}/machines"
          "--listen"
          "127.0.0.1:8080"
        ];
      };
      services.openssh = {
        enable = true;
        authorizedKeysFiles = [ "/var/lib/test/key.pub" ];
      };
      environment.systemPackages = [ pkgs.curl ];
    };

  testScript = common.script + ''
    host = "127.0.0.2"
    header = {"format": "hydra-provisioner-workload", "version": 1, "steps": 1}
    step = {"id": 1, "submit": 0, "system": "x86_64-linux", "duration": 3000, "build": 1, "jobset": "project:main"}
    server.succeed("ssh-keygen -q -t ed25519 -N \"\" -f /var/lib/test/key")

    with subtest("the queue runner is not there: nothing is made"):
        cycle(exit_code=5)
        assert machines() == {}

    with subtest("a step waits: a machine is made, and its builder started"):
        write("/var/lib/test/work.jsonl", json.dumps(header) + "\n" + json.dumps(step))
        server.succeed("systemctl start queue.service")
        server.wait_for_open_port(8080)
        cycle()
        expect({host: "up"}, offer=[host])
        server.succeed("test -e /var/lib/hydra-provisioner/resumed", "test ! -e /var/lib/hydra-provisioner/drained")

    with subtest("the step is built"):
        server.wait_until_succeeds("curl -sf http://127.0.0.1:8080/status | grep -F '\"nrStepsDone\":1'")

    with subtest("no work is left: its builder is stopped"):
        cycle()
        server.succeed("test -e /var/lib/hydra-provisioner/drained")
        expect({host: "up"}, offer=[])

    with subtest("the queue runner has seen it: the machine goes"):
        server.wait_until_fails(f"curl -sf http://127.0.0.1:8080/status | grep -F {host}")
        cycle()
        expect({}, offer=[])
  '';
}
