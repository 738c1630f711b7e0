# While the queue runner does not answer, or has just started, nothing is released and nothing is created.
{ common, ... }:

{
  name = "hydra-provisioner-queue-down";

  nodes.server.imports = [ common.server ];

  testScript = common.script + ''
    host = "127.0.0.2"
    queue(1)
    cycle()
    expect({host: "up"}, publish=[host])

    for trouble, answer in [
        ("it says that it is down", '{"status": "down"}'),
        ("it answers rubbish", "<html>502</html>"),
        ("it answers nothing", ""),
    ]:
        with subtest(f"{trouble}: the machine is kept and published"):
            write("/var/lib/test/status.json", answer)
            cycle(exit_code=5)
            expect({host: "up"}, publish=[host])

    with subtest("no queue runner: the machine is kept and published"):
        server.succeed("rm /var/lib/test/status.json")
        cycle(exit_code=5)
        expect({host: "up"}, publish=[host])

    with subtest("just started: a machine that looks idle may be busy"):
        queue(0, idle_seconds=None, uptime=10)
        cycle()
        expect({host: "up"}, publish=[host])

    with subtest("it has read its queue: the machine is released"):
        queue(0)
        cycle()
        expect({}, publish=[])
  '';
}
