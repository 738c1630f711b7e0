# The REST queue runner, which is asked over REST; its builders register themselves: a machine's builder is
# started when the machine is deployed, and stopped before it is released. The queue runner is the
# simulator's; all machines are this server, and a builder exists only as a registration.
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
      url = "http://127.0.0.1:8080";
      builder = "${url}/builders/hydra-provisioned-0";
    in
    {
      imports = [ common.server ];
      services.hydra-provisioner = {
        sshKeyFile = "/var/lib/test/key";
        settings = {
          statusCommand = null;
          queue.url = url;
          resumeCommand = [
            "curl"
            "--fail"
            "--request"
            "PUT"
            "--data"
            (builtins.toJSON { systems = [ "x86_64-linux" ]; })
            builder
          ];
          drainCommand = [
            "curl"
            "--fail"
            "--request"
            "DELETE"
            builder
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
          "--listen"
          "127.0.0.1:8080"
          "--farm"
          "/var/lib/test/farm.json"
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
    step = {"id": 1, "submit": 0, "system": "x86_64-linux", "duration": 15000, "build": 1}
    # By default a newly registered builder waits up to two minutes for its first step.
    write("/var/lib/test/farm.json", json.dumps({"queueRunner": {"protocol": "rest", "dispatchTimer": 1000}}))
    status = "curl -sf http://127.0.0.1:8080/status"
    server.succeed("ssh-keygen -q -t ed25519 -N \"\" -f /var/lib/test/key")

    with subtest("no queue runner: nothing is created"):
        cycle(exit_code=5)
        assert cloud() == {}

    with subtest("a step waits: a machine is created, and its builder started"):
        write("/var/lib/test/work.jsonl", json.dumps(header) + "\n" + json.dumps(step))
        server.succeed("systemctl start queue.service")
        server.wait_for_open_port(8080)
        server.fail(f"{status} | grep -F hydra-provisioned-0")
        cycle()
        assert cloud() == {host: "up"}
        server.succeed(f"{status} | grep -F hydra-provisioned-0")

    with subtest("it builds: it is kept, although no step waits"):
        server.wait_until_succeeds(f"{status} | grep -E '\"currentJobs\": ?1'")
        cycle()
        assert cloud() == {host: "up"}

    with subtest("the queue is empty: its builder is stopped, and the machine is released"):
        server.wait_until_succeeds(f"{status} | grep -E '\"nrStepsDone\": ?1'")
        output = cycle()
        server.fail(f"{status} | grep -F hydra-provisioned-0")
        assert cloud() == {}, output
  '';
}
