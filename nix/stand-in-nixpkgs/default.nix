# A stand-in for nixpkgs where it is not available: enough to evaluate our package, flake and overlay, also for another
# platform, and to install the package. Other packages are empty derivations of the right name.
{
  system ? builtins.currentSystem,
  # The platform that packages run on, if it is another one.
  crossSystem ? system,
  # A program that has been built already: the package's install phase then runs with it. Without one, the package
  # is an empty derivation too.
  program ? null,
  overlays ? [ ],
}:

let
  lib = import ./lib.nix;

  derivationOf =
    name: more:
    let
      self = derivation ({ inherit name system; } // more) // {
        meta.mainProgram = name;
        nativeBuildInputs = [ ];
        src = ./.;
        override = _: self;
        overrideAttrs = _: self;
      };
    in
    self;
  named =
    name:
    derivationOf name {
      builder = "/bin/sh";
      args = [
        "-c"
        "echo > $out"
      ];
    };

  # The phases of `buildRustPackage` after the build.
  buildRustPackage =
    given:
    let
      args = given { finalPackage = self; };
      install = {
        builder = "/bin/bash";
        args = [ ./install.sh ];
        inherit (args) postInstall;
        program = "${builtins.path { path = program; }}";
      };
      name = "${args.pname}-${args.version}";
      made = if program == null then named name else derivationOf name install;
      self = made // {
        inherit (args)
          pname
          version
          src
          meta
          nativeBuildInputs
          postInstall
          ;
        tests = args.passthru.tests;
        inherit (args) passthru;
      };
    in
    # The source and the lock file have to be there.
    builtins.seq (builtins.readFile args.cargoLock.lockFile) (builtins.seq "${args.src}" self);

  callPackage =
    file: given:
    let
      function = import file;
      wanted = builtins.intersectAttrs (builtins.functionArgs function) pkgs;
      result = function (wanted // given);
    in
    result // { override = more: callPackage file (given // more); };

  pkgs =
    lib.genAttrs [
      "cargo"
      "clippy"
      "installShellFiles"
      "makeBinaryWrapper"
      "nix"
      "nixfmt"
      "nixfmt-tree"
      "openssh"
      "postgresql"
      "procps"
      "python3"
      "qemu"
      "rust-analyzer"
      "rustc"
      "rustfmt"
      "util-linux"
    ] named
    // {
      inherit callPackage lib;
      rustPlatform = {
        inherit buildRustPackage;
      };
      mkShell = _: named "shell";
      runCommand =
        name: _: _:
        named name;
      writeShellScriptBin = name: _: named name;
      stdenv = {
        buildPlatform = {
          inherit system;
          canExecute = platform: platform.system == system;
        };
        hostPlatform.system = crossSystem;
      };
      testers = {
        runNixOSTest = _: named "vm-test-run";
        testVersion = { package }: builtins.seq package.version (named "version");
      };
    }
    // builtins.foldl' (found: overlay: found // overlay pkgs pkgs) { } overlays;
in
pkgs
