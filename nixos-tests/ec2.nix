# EC2 as moto emulates it: instances are created with our tags, published, and terminated; instances of others are left
# alone; nothing is released while the API does not answer.
{ common, ... }:

{
  name = "hydra-provisioner-ec2";

  nodes.server.imports = [
    common.server
    common.moto
    common.instances
  ];

  testScript =
    common.script
    + common.instancesScript
    + ''
      OTHERS = "Action=RunInstances&ImageId=ami-12345678&InstanceType=c7i.large&MinCount=1&MaxCount=1"


      def settle(running: list[str], publish: int) -> None:
          """An instance is up some listings after it was requested."""
          for _ in range(5):
              cycle()
              if instances("running") == running and len(published()) == publish:
                  return
          raise AssertionError(f"running are {instances('running')}, published {published()}")


      first, second = "hydra-provisioned-0", "hydra-provisioned-1"
      other = re.findall("<instanceId>(.*?)</instanceId>", server.succeed(asked(OTHERS)))[0]

      with subtest("steps wait: two instances are created and published"):
          queue(2, idle_seconds=0)
          settle([first, second], publish=2)
          busy, idle = published()

      with subtest("no steps: both leave the machines file; the idle one is terminated when Hydra has read it"):
          queue(0, busy=[busy], idle=[idle])
          cycle()
          assert published() == [], published()
          assert instances("running") == [first, second]
          queue(0, busy=[busy], disabled=[idle])
          cycle()
          assert len(instances("running")) == 1, instances("running")
          assert len(instances("terminated")) == 1, instances("terminated")

      with subtest("an instance of others is left alone"):
          queue(0, disabled=[busy])
          cycle()
          assert instances("running") == []
          running = server.succeed(asked("Action=DescribeInstances", state="running"))
          assert re.findall("<instanceId>(.*?)</instanceId>", running) == [other], running

      with subtest("the API does not answer: what is published stays"):
          queue(1)
          settle([first], publish=1)
          before = published()
          server.succeed("systemctl stop moto.service")
          queue(0, disabled=before)
          server.execute(f"systemctl start {SERVICE}")
          assert published() == before, published()
    '';
}
