# The stand-in for nixpkgs as a flake: `scripts/ci/check-nix` overrides our input with it.
{
  outputs =
    { self }:
    let
      lib = import ./lib.nix;
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
        system: import ./. { inherit system; }
      );
    in
    {
      lib = lib // {
        # One of its modules sets the system.
        nixosSystem =
          { modules }:
          let
            platforms = builtins.concatMap (
              module: if module ? nixpkgs then [ module.nixpkgs.hostPlatform ] else [ ]
            ) modules;
            pkgs = legacyPackages.${builtins.head platforms};
          in
          {
            config.system.build.hydraBuildMachine = pkgs.runCommand "hydra-build-machine" { } "";
          };
      };
      inherit legacyPackages;
    };
}
