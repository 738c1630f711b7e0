# A provider that hangs delays nothing else: machines of other types are created and published, metrics are
# served, a reload and the end of the service take seconds. A requested machine is created once, by the next
# run.
{ common, ... }:

{
  name = "hydra-provisioner-never-waits";

  nodes.server =
    { config, ... }:
    let
      inherit (config.services.hydra-provisioner.settings) systemTypes;
    in
    {
      imports = [
        common.server
        common.service
      ];
      services.hydra-provisioner.settings = {
        parallelism = 8;
        systemTypes."x86_64-linux:kvm" = {
          inherit (systemTypes.x86_64-linux) provider;
          runnablesPerMachine = 1;
        };
      };
    };

  testScript = common.script + ''
    HELD = "/var/lib/hydra-provisioner/held"
    metrics = "curl -sf --max-time 2 http://127.0.0.1:9478/metrics"


    def started(seconds: int, command: str) -> None:
        server.succeed(f"timeout {seconds} systemctl {command} {SERVICE}")


    queue(1)
    write("/var/lib/test/hold", "x86_64-linux")
    started(30, "start")

    with subtest("the provider hangs while it creates a machine"):
        server.wait_for_file(HELD)
        assert cloud() == {}

    with subtest("a machine of another type is created and published meanwhile"):
        queue(1, others={"x86_64-linux:kvm": 1})
        server.wait_until_succeeds(f"grep -sF kvm {MACHINES}")
        assert list(cloud().values()) == ["up"], cloud()
        assert published() == list(cloud()), published()

    with subtest("metrics are served meanwhile"):
        server.succeed(f"{metrics} | grep '^hydra_provisioner'")

    with subtest("a reload does not wait"):
        started(5, "reload")
        assert server.get_unit_property(SERVICE, "ActiveState") == "active"

    with subtest("stopping the service does not wait"):
        started(5, "stop")
        assert server.get_unit_property(SERVICE, "Result") == "success"

    with subtest("the provider answers again: missing machines are created, and none twice"):
        server.succeed(f"rm /var/lib/test/hold {HELD}")
        started(30, "start")
        server.wait_until_succeeds(f"test $(grep -c ^root@ {MACHINES}) = 2")
        assert sorted(cloud().values()) == ["up", "up"], cloud()
        assert sorted(published()) == sorted(cloud()), published()
  '';
}
