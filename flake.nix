{
  description = "Creates build machines when a Hydra queue grows, and releases them when they are not needed";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixpkgs-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      forEachSystem =
        make:
        lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: make nixpkgs.legacyPackages.${system});
      ours = pkgs: self.packages.${pkgs.stdenv.hostPlatform.system}.hydra-provisioner;
    in
    {
      packages = forEachSystem (pkgs: rec {
        hydra-provisioner = pkgs.callPackage ./nix/package.nix { };
        hydra-provisioner-minimal = hydra-provisioner.override { minimal = true; };
        default = hydra-provisioner;
        build-machine-image =
          (lib.nixosSystem {
            modules = [
              self.nixosModules.build-machine-image
              { nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system; }
            ];
          }).config.system.build.hydraBuildMachine;
      });

      apps = forEachSystem (pkgs: rec {
        hydra-provisioner = {
          type = "app";
          program = lib.getExe (pkgs.callPackage ./nix/with-qemu.nix { hydra-provisioner = ours pkgs; });
          meta.description = "Creates and releases build machines for a Hydra";
        };
        default = hydra-provisioner;
      });

      devShells = forEachSystem (pkgs: {
        default = pkgs.callPackage ./nix/dev-shell.nix { hydra-provisioner = ours pkgs; };
      });

      formatter = forEachSystem (pkgs: pkgs.nixfmt-tree);

      # Parts of `sim tune` as derivations: nix/tune.nix says what it takes.
      lib = forEachSystem (pkgs: {
        tune = pkgs.callPackage ./nix/tune.nix { hydra-provisioner = ours pkgs; };
      });

      overlays.default = final: _prev: {
        hydra-provisioner = final.callPackage ./nix/package.nix { };
      };

      nixosModules = import ./nixos-modules { inherit self; };

      checks = forEachSystem (
        pkgs:
        import ./nix/checks.nix {
          inherit pkgs;
          hydra-provisioner = ours pkgs;
        }
        // import ./nixos-tests {
          inherit pkgs;
          inherit (self) nixosModules;
          buildMachineImage = self.packages.${pkgs.stdenv.hostPlatform.system}.build-machine-image;
        }
      );
    };
}
