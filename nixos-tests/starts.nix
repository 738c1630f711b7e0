# The service starts, runs cycles, serves metrics and reloads; a wrong configuration is refused with a
# message, and not retried.
{ common, ... }:

{
  name = "hydra-provisioner-starts";

  nodes.server =
    { lib, ... }:
    {
      imports = [
        common.server
        common.service
      ];
      services.hydra-provisioner = {
        # A file that the test can change: `settings` are checked when the system is built.
        configFile = "/var/lib/test/conf.json";
        settings.systemTypes = lib.mkForce { };
      };
    };

  testScript = common.script + ''
    good = {
        "pollInterval": 1,
        "statusCommand": ["cat", "/var/lib/test/status.json"],
        "stateDir": "/var/lib/hydra-provisioner",
        "machinesFile": MACHINES,
        "systemTypes": {"x86_64-linux": {"provider": {"command": {"program": ["false"]}}}},
    }
    queue(0)

    with subtest("it is ready and serves metrics"):
        write("/var/lib/test/conf.json", json.dumps(good))
        server.succeed(f"systemctl start {SERVICE}")
        server.wait_for_unit(SERVICE)
        server.wait_for_open_port(9478)
        server.wait_until_succeeds("curl -sf http://127.0.0.1:9478/metrics | grep '^hydra_provisioner_queue_up'")

    with subtest("it reloads in the same process"):
        process = server.get_unit_property(SERVICE, "MainPID")
        server.succeed(f"systemctl reload {SERVICE}")
        assert server.get_unit_property(SERVICE, "MainPID") == process

    with subtest("it stops cleanly"):
        server.succeed(f"systemctl stop {SERVICE}")
        assert server.get_unit_property(SERVICE, "Result") == "success"

    with subtest("a wrong configuration is refused with the error and its place"):
        wrong = good | {"systemTypes": {"x86_64-linux": {"maxMachines": -1}}}
        write("/var/lib/test/conf.json", json.dumps(wrong))
        server.fail(f"systemctl start {SERVICE}")
        assert server.get_unit_property(SERVICE, "ExecMainStatus") == "2"
        server.succeed("journalctl --sync")
        for message in ["systemTypes.x86_64-linux.maxMachines", "has no provider"]:
            server.succeed(f"journalctl -o cat -u {SERVICE} | grep -F '{message}'")

    with subtest("and not retried"):
        assert server.get_unit_property(SERVICE, "ActiveState") == "failed"
        server.succeed(f"systemctl reset-failed {SERVICE}")
        write("/var/lib/test/conf.json", json.dumps(good))
        server.succeed(f"systemctl start {SERVICE}")
        server.wait_for_unit(SERVICE)
  '';
}
