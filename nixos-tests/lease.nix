# Two provisioners with one tag and a lease in PostgreSQL: one is active, and the other one takes over. The second
# one is another service of the same machine, with its own state and machines file, as on another host.
{ common, ... }:

{
  name = "hydra-provisioner-lease";

  nodes.server =
    { config, lib, ... }:
    let
      inherit (config.services.hydra-provisioner) package;
    in
    {
      imports = [
        common.server
        common.service
      ];
      services.postgresql = {
        enable = true;
        ensureDatabases = [ "hydra" ];
        ensureUsers = [ { name = "hydra-provisioner"; } ];
      };
      services.hydra-provisioner.settings.lease.postgresql =
        "host=/run/postgresql user=hydra-provisioner dbname=hydra";
      systemd.services = {
        second = {
          description = "Hydra provisioner of another host";
          serviceConfig = {
            ExecStart = "${lib.getExe package} run --watch --listen 127.0.0.1:9479 /var/lib/test/second.json";
            User = "hydra-provisioner";
            StateDirectory = "second";
          };
        };
      };
    };

  testScript = common.script + ''
    SECOND = "second.service"
    MACHINES_OF_SECOND = "/var/lib/second/machines"


    def active(port: int) -> str:
        """A command that succeeds while the provisioner with this port is active."""
        return f"curl -sf http://127.0.0.1:{port}/metrics | grep -x 'hydra_provisioner_active 1'"


    def stands_by(port: int) -> str:
        return f"curl -s http://127.0.0.1:{port}/readyz | grep -F 'stands by'"


    queue(2)
    conf = json.loads(server.succeed("cat /etc/hydra-provisioner/conf.json"))
    conf |= {"stateDir": "/var/lib/second", "machinesFile": MACHINES_OF_SECOND}
    write("/var/lib/test/second.json", json.dumps(conf))
    server.succeed("systemctl start postgresql.service")
    server.wait_for_file("/run/postgresql/.s.PGSQL.5432")
    server.succeed(f"systemctl start {SERVICE}")
    server.wait_until_succeeds(active(9478))
    server.wait_until_succeeds(f"test $(grep -c ^root@ {MACHINES}) = 2")
    created = cloud()

    with subtest("the second one stands by"):
        server.succeed(f"systemctl start {SECOND}")
        server.wait_until_succeeds(stands_by(9479))
        server.succeed(active(9478))
        server.fail(f"test -e {MACHINES_OF_SECOND}")

    with subtest("it takes over when the active one is killed, and creates no machine twice"):
        server.succeed(f"systemctl kill --signal=KILL {SERVICE}", f"systemctl stop {SERVICE}")
        server.wait_until_succeeds(active(9479))
        server.wait_until_succeeds(f"test $(grep -c ^root@ {MACHINES_OF_SECOND}) = 2")
        assert cloud() == created, cloud()

    with subtest("the first one stands by when it is back"):
        server.succeed(f"systemctl start {SERVICE}")
        server.wait_until_succeeds(stands_by(9478))
        server.succeed(active(9479))

    with subtest("without the database none is active, and nothing is created"):
        server.succeed("systemctl stop postgresql.service")
        server.wait_until_fails(active(9479))
        queue(3)
        server.fail(active(9478))
        assert cloud() == created, cloud()

    with subtest("with the database one of them is active again"):
        server.succeed("systemctl start postgresql.service")
        server.wait_until_succeeds(f"{active(9478)} || {active(9479)}")
        server.wait_until_succeeds("test $(ls /var/lib/hydra-provisioner/cloud/*.json | wc -l) = 3")
  '';
}
