# A stand-in for nixpkgs where it is not available: only enough to evaluate the structure of our flake.
# Packages are empty derivations of the right name. `scripts/ci/check-nix` uses it.
{
  outputs =
    { self }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      genAttrs =
        names: value:
        builtins.listToAttrs (
          map (name: {
            inherit name;
            value = value name;
          }) names
        );
      package =
        system: name:
        let
          self =
            derivation {
              inherit name system;
              builder = "/bin/sh";
            }
            // {
              meta.mainProgram = name;
              nativeBuildInputs = [ ];
              src = ./.;
              overrideAttrs = _: self;
            };
        in
        self;
    in
    {
      lib = {
        inherit genAttrs;
        getExe = package: "${package}/bin/${package.meta.mainProgram}";
        # One of its modules sets the system.
        nixosSystem =
          { modules }:
          let
            platforms = builtins.concatMap (
              module: if module ? nixpkgs then [ module.nixpkgs.hostPlatform ] else [ ]
            ) modules;
          in
          {
            config.system.build.hydraBuildMachine = package (builtins.head platforms) "hydra-build-machine";
          };
      };
      legacyPackages = genAttrs systems (
        system:
        genAttrs [ "nixfmt" "nixfmt-tree" "clippy" "cargo" "rustfmt" ] (package system)
        // {
          callPackage = _: _: package system "hydra-provisioner";
          runCommand =
            name: _: _:
            package system name;
          stdenv.hostPlatform.system = system;
          testers.runNixOSTest = _: package system "vm-test-run";
        }
      );
    };
}
