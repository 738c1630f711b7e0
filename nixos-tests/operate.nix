# The operator's view and commands: the status page, metrics and alert rules in a real Prometheus, and
# commands for one machine or type.
{ common, ... }:

{
  name = "hydra-provisioner-operate";

  nodes.server = {
    imports = [
      common.server
      common.service
    ];
    services.hydra-provisioner = {
      prometheus.enable = true;
      settings.systemTypes.x86_64-linux.gracePeriod = 1;
    };
    services.prometheus = {
      enable = true;
      globalConfig.scrape_interval = "1s";
    };
  };

  testScript = common.script + ''
    def query(expression: str) -> list[str]:
        """What Prometheus knows: the values of an expression."""
        url = "http://127.0.0.1:9090/api/v1/query"
        answer = json.loads(server.succeed(f"curl -sf --get --data-urlencode 'query={expression}' {url}"))
        return [series["value"][1] for series in answer["data"]["result"]]


    def has_value(expression: str) -> str:
        """A command that succeeds once the expression is true in Prometheus."""
        url = "http://127.0.0.1:9090/api/v1/query"
        return f"curl -sf --get --data-urlencode 'query={expression}' {url} | grep -F '\"value\"'"


    def say(command: str) -> str:
        return server.succeed(f"hydra-provisioner {command}")


    page = "curl -sf http://127.0.0.1:9478"
    queue(2)
    server.succeed(f"systemctl start prometheus {SERVICE}")
    server.wait_until_succeeds(f"test $(grep -c ^root@ {MACHINES}) = 2")
    first, second = sorted(cloud())

    with subtest("the status page shows the machines, and the service's state"):
        # The page shows the history, too, which may be a moment ahead.
        server.wait_until_succeeds(f"{page}/status.json | grep -F hydra-provisioned-1")
        server.succeed(f"{page}/ | grep -F hydra-provisioned-1")
        status = json.loads(server.succeed(f"{page}/status.json"))
        names = sorted(machine["name"] for machine in status["machines"])
        assert names == ["hydra-provisioned-0", "hydra-provisioned-1"], names
        server.succeed(f"{page}/healthz", f"{page}/readyz")

    with subtest("Prometheus scrapes it, and loads the alert rules"):
        server.wait_until_succeeds(has_value('sum(hydra_provisioner_machines{type="x86_64-linux"}) == 2'))
        server.wait_until_succeeds("curl -sf http://127.0.0.1:9090/api/v1/rules | grep -F HydraProvisionerDown")
        server.wait_until_succeeds(has_value("hydra_provisioner_queue_up == 1"))

    with subtest("a machine that is kept stays while the other one is released"):
        say("keep hydra-provisioned-0 --for 2h --why 'look at its disk'")
        assert "look at its disk" in say("plan")
        # The service sees it within a second.
        server.wait_until_succeeds(f"{page}/status.json | grep -F 'look at its disk'")
        queue(0, idle=[first, second])
        server.wait_until_succeeds(f"test $(grep -c ^root@ {MACHINES}) = 1")
        queue(0, idle=[first], disabled=[second])
        server.wait_until_succeeds("test $(ls /var/lib/hydra-provisioner/cloud/*.json | wc -l) = 1")
        expect({first: "up"}, [first])

    with subtest("a paused type gets no machines, until it is resumed"):
        say("pause x86_64-linux --why 'the cloud is broken'")
        queue(3, idle=[first])
        server.wait_until_succeeds(f"{page}/ | grep -F 'the cloud is broken'")
        say("resume x86_64-linux")
        server.wait_until_succeeds(f"test $(grep -c ^root@ {MACHINES}) = 3")

    with subtest("the history shows who gave each order"):
        said = say("history")
        assert "keep hydra-provisioned-0" in said and "pause x86_64-linux" in said, said

    with subtest("when the service ends, Prometheus sees it"):
        server.succeed(f"systemctl stop {SERVICE}")
        server.wait_until_succeeds(has_value('up{job="hydra-provisioner"} == 0'))
        assert query("hydra_provisioner_queue_up") == []
  '';
}
