# The service is killed while it creates a machine; the next cycle recovers: no machine is created twice, none
# is forgotten, and Hydra never reads a partial file.
{ common, ... }:

{
  name = "hydra-provisioner-crash";

  nodes.server.imports = [ common.server ];

  testScript = common.script + ''
    hosts = ["127.0.0.2", "127.0.0.3"]
    queue(0)
    cycle()

    with subtest("killed while a machine is created"):
        queue(2)
        server.succeed("touch /var/lib/test/hold", f"systemctl start --no-block {SERVICE}")
        server.wait_for_file("/var/lib/hydra-provisioner/held")
        server.succeed(f"systemctl kill --signal=KILL {SERVICE}")
        server.wait_until_succeeds(f"systemctl is-failed {SERVICE}")
        server.succeed("rm /var/lib/test/hold /var/lib/hydra-provisioner/held")
        expect({}, publish=[])

    with subtest("the next run creates what is missing, and nothing twice"):
        cycle()
        expect({host: "up" for host in hosts}, publish=hosts)

    with subtest("the host crashes: existing machines are known"):
        server.succeed("sync")
        server.crash()
        server.start()
        server.wait_for_unit("multi-user.target")
        expect({host: "up" for host in hosts}, publish=hosts)
        cycle()
        expect({host: "up" for host in hosts}, publish=hosts)

    with subtest("nothing is forgotten"):
        queue(0)
        cycle()
        expect({}, publish=[])
  '';
}
