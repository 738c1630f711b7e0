# Machines that are not needed are kept for the idle timeout, then removed from the machines file, and stopped
# when they are idle (stopOnIdle); they are started again for new work.
{ common, ... }:

{
  name = "hydra-provisioner-drain";

  nodes.server = {
    imports = [ common.server ];
    services.hydra-provisioner.settings.systemTypes.x86_64-linux = {
      gracePeriod = 30;
      stopOnIdle = true;
    };
  };

  testScript = common.script + ''
    import time

    first, second = "127.0.0.2", "127.0.0.3"

    with subtest("steps wait: two machines are created and published"):
        queue(2, idle_seconds=0)
        cycle()
        expect({first: "up", second: "up"}, publish=[first, second])

    with subtest("no steps, within the idle timeout: they are kept and published"):
        queue(0)
        assert "idle timeout" in cycle()
        expect({first: "up", second: "up"}, publish=[first, second])

    with subtest("after the idle timeout: the busy one is kept; the other is unpublished, and kept until Hydra has read the file"):
        # Hydra remembers their addresses from before these machines existed: their own idle time counts.
        time.sleep(31)
        queue(0, busy=[first], idle=[second])
        cycle()
        expect({first: "up", second: "up"}, publish=[first])

    with subtest("Hydra has read the file, and it is idle: it is stopped"):
        queue(0, busy=[first], disabled=[second])
        cycle()
        expect({first: "up", second: "stopped"}, publish=[first])

    with subtest("the other one's build has finished: it is stopped the same way"):
        queue(0, idle=[first])
        cycle()
        expect({first: "up", second: "stopped"}, publish=[])
        queue(0, disabled=[first])
        cycle()
        expect({first: "stopped", second: "stopped"}, publish=[])

    with subtest("steps wait again: a stopped one is started, none is created"):
        queue(1)
        cycle()
        states = cloud()
        assert sorted(states.values()) == ["stopped", "up"], states
        assert published() == [host for host, state in states.items() if state == "up"]
  '';
}
