# Every file here except this one and common.nix is a test with the name of the file.
#
#   nix build .#checks.x86_64-linux.drain
#   nix run .#checks.x86_64-linux.drain.driverInteractive
{
  pkgs,
  nixosModules,
  buildMachineImage,
}:

let
  notTests = [
    "common.nix"
    "default.nix"
  ];
  files = builtins.filter (
    file: builtins.match ".*\\.nix" file != null && !builtins.elem file notTests
  ) (builtins.attrNames (builtins.readDir ./.));

  test = file: {
    name = builtins.head (builtins.match "(.*)\\.nix" file);
    value = pkgs.testers.runNixOSTest {
      imports = [ (./. + "/${file}") ];
      _module.args.common = import ./common.nix { inherit nixosModules buildMachineImage; };
    };
  };
in
builtins.listToAttrs (map test files)
