# While the queue runner does not answer, or does not know yet, nothing is released and nothing is made.
{ common, ... }:

{
  name = "hydra-provisioner-queue-down";

  nodes.server.imports = [ common.server ];

  testScript = common.script + ''
    host = "127.0.0.2"
    queue(1)
    cycle()
    expect({host: "up"}, offer=[host])

    for trouble, answer in [
        ("it says that it is down", '{"status": "down"}'),
        ("it answers rubbish", "<html>502</html>"),
        ("it answers nothing", ""),
    ]:
        with subtest(f"{trouble}: the machine is kept and offered"):
            write("/var/lib/test/status.json", answer)
            cycle(exit_code=5)
            expect({host: "up"}, offer=[host])

    with subtest("it is not there: the machine is kept and offered"):
        server.succeed("rm /var/lib/test/status.json")
        cycle(exit_code=5)
        expect({host: "up"}, offer=[host])

    with subtest("it has only just been started: what looks idle may not be"):
        queue(0, idle_seconds=None, uptime=10)
        cycle()
        expect({host: "up"}, offer=[host])

    with subtest("it knows: the machine goes"):
        queue(0)
        cycle()
        expect({}, offer=[])
  '';
}
