# Two hosts with one tag and a lease in PostgreSQL: one is active, and the other one takes over. Hydra's host has the
# database; their machines are instances of one cloud.
{ common, ... }:

let
  provisioner = {
    imports = [
      common.server
      common.service
      common.instances
    ];
    services.hydra-provisioner.settings.lease.postgresql =
      "host=server user=hydra-provisioner dbname=hydra";
  };
in
{
  name = "hydra-provisioner-lease";

  nodes.server = {
    imports = [
      provisioner
      common.moto
    ];
    networking.firewall.allowedTCPPorts = [ 5432 ];
    services.postgresql = {
      enable = true;
      enableTCPIP = true;
      authentication = "host hydra hydra-provisioner all trust";
      ensureDatabases = [ "hydra" ];
      ensureUsers = [ { name = "hydra-provisioner"; } ];
    };
  };

  nodes.standby =
    { lib, ... }:
    {
      imports = [ provisioner ];
      # Where this test runs in containers, both have one network.
      services.hydra-provisioner.metricsAddress = lib.mkForce "127.0.0.1:9479";
    };

  testScript =
    common.script
    + common.instancesScript
    + ''
      ACTIVE = "grep -x 'hydra_provisioner_active 1'"
      on_server = f"curl -sf http://127.0.0.1:9478/metrics | {ACTIVE}"
      on_standby = f"curl -sf http://127.0.0.1:9479/metrics | {ACTIVE}"
      stands_by = "curl -s http://127.0.0.1:{}/readyz | grep -F 'stands by'"


      def both_see(runnable: int) -> None:
          """Both ask the same queue runner."""
          queue(runnable)
          write("/var/lib/test/status.json", server.succeed("cat /var/lib/test/status.json"), standby)


      standby.start()
      standby.wait_for_unit("multi-user.target")
      both_see(2)
      server.succeed("systemctl start postgresql.service")
      server.wait_for_open_port(5432)
      server.succeed(f"systemctl start {SERVICE}")
      server.wait_until_succeeds(on_server)
      server.wait_until_succeeds(f"test $(grep -c ^root@ {MACHINES}) = 2")
      created = instances("running")
      assert len(created) == 2, created

      with subtest("the other host stands by"):
          standby.succeed(f"systemctl start {SERVICE}")
          standby.wait_until_succeeds(stands_by.format(9479))
          server.succeed(on_server)
          standby.fail(f"test -e {MACHINES}")

      with subtest("it takes over when the active one is killed, and creates no machine twice"):
          server.succeed(f"systemctl kill --signal=KILL {SERVICE}", f"systemctl stop {SERVICE}")
          standby.wait_until_succeeds(on_standby)
          standby.wait_until_succeeds(f"test $(grep -c ^root@ {MACHINES}) = 2")
          assert instances("running") == created, instances("running")

      with subtest("the first one stands by when it is back"):
          server.succeed(f"systemctl start {SERVICE}")
          server.wait_until_succeeds(stands_by.format(9478))
          standby.succeed(on_standby)

      with subtest("without the database none is active, and nothing is created"):
          server.succeed("systemctl stop postgresql.service")
          standby.wait_until_fails(on_standby)
          both_see(3)
          server.fail(on_server)
          assert instances("running") == created, instances("running")

      with subtest("with the database one of them is active again"):
          server.succeed("systemctl start postgresql.service")
          three = f"{asked('Action=DescribeInstances', state='running')} | grep -o '<instanceId>' | wc -l | grep -x 3"
          server.wait_until_succeeds(three)
          active = [server.execute(on_server)[0] == 0, standby.execute(on_standby)[0] == 0]
          assert sorted(active) == [False, True], active
    '';
}
