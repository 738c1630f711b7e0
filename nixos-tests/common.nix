# Shared by the tests: a server with a queue that the test controls and machines that are files, and the
# functions of their scripts. Scripts that use these also run in CI, on Debian (scripts/ci/check-scenarios).
{ nixosModules, buildMachineImage }:

let
  stateDir = "/var/lib/hydra-provisioner";
in
{
  inherit nixosModules buildMachineImage;

  # Runs the provisioner with the queue status that `queue()` below writes, and machines that are files in
  # ${stateDir}/cloud; their addresses, 127.0.0.2 and so on, do not answer. The test starts each cycle.
  server =
    {
      config,
      lib,
      pkgs,
      ...
    }:
    let
      file = path: pkgs.writeText (baseNameOf path) (builtins.readFile path);
    in
    {
      imports = [ nixosModules.hydra-provisioner ];
      services.hydra-provisioner = {
        enable = true;
        # A test starts each cycle itself, and waits for its end.
        watch = lib.mkDefault false;
        settings = {
          statusCommand = lib.mkDefault [
            "cat"
            "/var/lib/test/status.json"
          ];
          touchKeepAlive = false;
          checkSsh = false;
          maxCreatesPerCycle = 3;
          # One at a time, so that the machine that a test delays is the first.
          parallelism = lib.mkDefault 1;
          systemTypes.x86_64-linux = {
            provider.command.program = [
              "${pkgs.python3}/bin/python3"
              "${file ./cloud.py}"
              "${file ../examples/command-provider/directory-provider}"
              "${stateDir}/cloud"
            ];
            maxMachines = 3;
            runnablesPerMachine = 1;
          };
        };
      };
      systemd.timers = lib.mkIf (!config.services.hydra-provisioner.watch) {
        hydra-provisioner.wantedBy = lib.mkForce [ ];
      };
      systemd.tmpfiles.rules = [
        "d /var/lib/test 0755 root root -"
      ];
    };

  # The same as a service that looks each second, with a status page. The test starts it: not before the queue status
  # exists.
  service =
    { lib, pkgs, ... }:
    {
      environment.systemPackages = [ pkgs.curl ];
      services.hydra-provisioner = {
        watch = true;
        metricsAddress = "127.0.0.1:9478";
        settings = {
          pollInterval = 1;
          listInterval = 1;
        };
      };
      systemd.services.hydra-provisioner.wantedBy = lib.mkForce [ ];
    };

  # EC2 as moto emulates it, on the node `server`.
  moto =
    { pkgs, ... }:
    let
      python = pkgs.python3.withPackages (
        packages: [ packages.moto ] ++ packages.moto.optional-dependencies.server
      );
    in
    {
      environment.systemPackages = [ pkgs.curl ];
      networking.firewall.allowedTCPPorts = [ 5000 ];
      systemd.services.moto = {
        description = "EC2 of moto";
        wantedBy = [ "multi-user.target" ];
        environment.MOTO_EC2_LOAD_DEFAULT_AMIS = "false";
        serviceConfig = {
          ExecStart = "${python}/bin/python3 -m moto.server -H 0.0.0.0 -p 5000";
          DynamicUser = true;
        };
      };
    };

  # Machines are instances there, instead of files. They need no ssh.
  instances =
    { lib, ... }:
    {
      services.hydra-provisioner = {
        credentials.ec2 = "/var/lib/test/credentials";
        settings.systemTypes.x86_64-linux.provider = lib.mkForce {
          ec2 = {
            endpoint = "http://server:5000";
            region = "eu-central-1";
            credentialsFile = "/run/credentials/hydra-provisioner.service/ec2";
            image = "ami-12345678";
            instanceTypes = [ "c7i.large" ];
            authorizedKeys = [ "ssh-ed25519 AAAA hydra" ];
          };
        };
      };
      # Anything: moto does not check them.
      systemd.tmpfiles.rules = [
        "f /var/lib/test/credentials 0600 root root - [default]\\naws_access_key_id=AKIATEST\\naws_secret_access_key=secret\\n"
      ];
    };

  # Python for these, after `script`.
  instancesScript = ''
    import re


    def asked(request: str, **filters: str) -> str:
        """The command that asks moto. Filters: `state`, and `tag` of the provisioner."""
        names = {"state": "instance-state-name", "tag": "tag:hydra-provisioner:tag"}
        for number, (name, value) in enumerate(filters.items(), 1):
            request += f"&Filter.{number}.Name={names[name]}&Filter.{number}.Value.1={value}"
        signed = "AWS4-HMAC-SHA256 Credential=k/20260101/eu-central-1/ec2/aws4_request, SignedHeaders=host, Signature=0"
        return f"curl -sf -H 'authorization: {signed}' -d 'Version=2016-11-15&{request}' http://localhost:5000"


    def instances(state: str) -> list[str]:
        """The names of our instances in a state."""
        answer = server.succeed(asked("Action=DescribeInstances", state=state, tag="hydra-provisioned"))
        return sorted(re.findall(r"<key>hydra-provisioner:name</key>\s*<value>(.*?)</value>", answer))


    server.succeed("systemctl start moto.service")
    server.wait_for_open_port(5000)
  '';

  # Python, to put before a test's own script.
  script = ''
    import json

    SERVICE = "hydra-provisioner.service"
    MACHINES = "${stateDir}/machines"


    def write(path: str, text: str, machine=server) -> None:
        """A reader sees the old text or the new one."""
        machine.succeed(f"cat > {path}.new <<'END'\n{text}\nEND", f"mv {path}.new {path}")


    def queue(
        runnable: int,
        idle_seconds: int | None = 100000,
        uptime: int = 1000000,
        busy: list[str] = [],
        idle: list[str] = [],
        disabled: list[str] = [],
        others: dict[str, int] = {},
    ) -> None:
        """What the queue runner says from now on: steps that wait; since when nothing was built (None: it does not know);
        since when it runs; machines that build, that are idle, and that are so and no longer in its machines file;
        steps that wait by other type."""
        now = int(server.succeed("date +%s"))
        since = 0 if idle_seconds is None else now - idle_seconds
        types = {"x86_64-linux": {"runnable": runnable, "running": len(busy), "lastActive": since}}
        types |= {name: {"runnable": count, "running": 0, "lastActive": since} for name, count in others.items()}
        known = {
            f"root@{host}": {"enabled": host not in disabled, "currentJobs": int(host in busy), "idleSince": since}
            for host in busy + idle + disabled
        }
        answer = {"status": "up", "uptime": uptime, "machineTypes": types, "machines": known}
        write("/var/lib/test/status.json", json.dumps(answer))


    def cycle(exit_code: int = 0) -> str:
        """Runs one cycle to its end; returns what has been printed and logged since the last one."""
        server.execute(f"systemctl start {SERVICE}")
        found = server.get_unit_property(SERVICE, "ExecMainStatus")
        output = server.succeed(
            f"journalctl --sync; journalctl --cursor-file=/var/lib/test/cursor -o cat -u {SERVICE}"
        )
        assert found == str(exit_code), f"exit code {found}, not {exit_code}: {output}"
        return output


    def cloud() -> dict[str, str]:
        """The machines that the provider has, and their states."""
        output = server.succeed("cd ${stateDir}/cloud && for file in *.json; do [ ! -e $file ] || cat $file; echo; done")
        found = [json.loads(line) for line in output.splitlines() if line]
        return {machine["address"]: machine["state"] for machine in found}


    def published() -> list[str]:
        """The machines in the machines file."""
        lines = server.succeed(f"cat {MACHINES}").splitlines()
        return [line.split()[0].removeprefix("root@") for line in lines if not line.startswith("#")]


    def expect(exist: dict[str, str], publish: list[str]) -> None:
        assert cloud() == exist, f"there are {cloud()}, not {exist}"
        assert published() == publish, f"published are {published()}, not {publish}"


    server.start()
    server.wait_for_unit("multi-user.target")
  '';
}
