# A forgotten build machine powers itself off, but never while it builds or a user is logged in.
{ common, ... }:

{
  name = "hydra-provisioner-auto-shutdown";

  nodes.server =
    { lib, ... }:
    {
      imports = [ common.nixosModules.auto-shutdown ];
      # Started by the test.
      systemd.services.idle-monitor.wantedBy = lib.mkForce [ ];
      services.auto-shutdown = {
        timeout = 2;
        keepAliveFile = "/run/test/keep-alive";
      };
      systemd.tmpfiles.rules = [ "d /run/test 0755 root root -" ];
      # Nix's.
      users.groups.nixbld = { };
    };

  testScript = ''
    FORGOTTEN = "touch -d '1 hour ago' /run/test/keep-alive"


    def seen_as_busy(why: str) -> None:
        """The monitor counts from now on again, each time that it looks."""
        with subtest(why):
            for _ in range(2):
                server.succeed(FORGOTTEN)
                server.wait_until_succeeds("test $(($(date +%s) - $(stat -c %Y /run/test/keep-alive))) -lt 100")


    server.start()
    server.wait_for_unit("multi-user.target")
    server.succeed("systemd-run --unit=build --property=Group=nixbld sleep infinity", FORGOTTEN)
    server.succeed("systemctl start idle-monitor.service")
    seen_as_busy("a build keeps the machine up")

    # A user logs in before the build ends, so that the machine is never unused.
    server.succeed("systemd-run --unit=login --property=PAMName=login --property=User=root sleep infinity")
    server.wait_until_succeeds("loginctl list-sessions --no-legend | grep root")
    server.succeed("systemctl stop build.service")
    seen_as_busy("a login keeps the machine up")

    with subtest("not used: it powers itself off"):
        server.execute("systemctl stop login.service")
        server.wait_for_shutdown()
  '';
}
