# The Python scripts of the NixOS tests, by test, for checks without nixpkgs (scripts/ci/check-nix,
# scripts/ci/check-scenarios).
let
  runNixOSTest =
    {
      imports,
      _module,
    }:
    (import (builtins.head imports) _module.args).testScript;
in
import ../nixos-tests {
  pkgs.testers = { inherit runNixOSTest; };
  nixosModules = { };
  buildMachineImage = null;
}
