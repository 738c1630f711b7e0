# The part of NixOS that our modules use: options that accept any value, and packages that are only names.
# nixpkgs is not available where the golden files are made.
{ lib, ... }:

let
  inherit (lib) mkOption types;

  anything = mkOption {
    type = types.anything;
    default = { };
  };
  list = mkOption {
    type = types.listOf types.raw;
    default = [ ];
  };

  package = name: {
    inherit name;
    type = "derivation";
    outPath = "/nix/store/${lib.fixedWidthString 32 "0" ""}-${name}";
    meta.mainProgram = name;
  };
  storeText = name: text: package name // { inherit text; };

  # The unit options that our modules set. Lists of several definitions are joined, as in NixOS.
  unit.options = {
    description = mkOption { type = types.str; };
    after = list;
    before = list;
    wants = list;
    wantedBy = list;
    path = list;
    environment = anything;
    reloadTriggers = list;
    restartTriggers = list;
    restartIfChanged = mkOption {
      type = types.bool;
      default = true;
    };
    script = mkOption {
      type = types.nullOr types.lines;
      default = null;
    };
    serviceConfig = anything;
    timerConfig = anything;
    listenStreams = list;
    socketConfig = anything;
  };
in
{
  options = {
    assertions = list;
    warnings = list;
    environment.systemPackages = list;
    environment.etc = mkOption {
      type = types.attrsOf types.anything;
      default = { };
    };
    boot = anything;
    fileSystems = anything;
    networking = anything;
    nix = {
      package = mkOption {
        type = types.package;
        default = package "nix";
      };
      buildMachines = list;
      gc = anything;
      settings = anything;
    };
    programs.ssh.package = mkOption {
      type = types.package;
      default = package "openssh";
    };
    services.openssh = anything;
    services.grafana = anything;
    services.postgresql = anything;
    services.prometheus = anything;
    services.udev = anything;
    system.activationScripts = anything;
    systemd = {
      package = mkOption {
        type = types.package;
        # The systemd version of CI (Debian 12).
        default = package "systemd" // {
          version = "252";
        };
      };
      services = mkOption { type = types.attrsOf (types.submodule unit); };
      sockets = mkOption {
        type = types.attrsOf (types.submodule unit);
        default = { };
      };
      timers = mkOption {
        type = types.attrsOf (types.submodule unit);
        default = { };
      };
      tmpfiles.rules = list;
    };
    users.users = anything;
    users.groups = anything;
  };

  config._module.args.pkgs =
    lib.genAttrs [
      "awscli2"
      "coreutils"
      "curl"
      "findutils"
      "getent"
      "gnugrep"
      "gnused"
      "iproute2"
      "nixops"
      "perl"
      "postgresql"
      "procps"
      "prometheus"
      "qemu"
      "systemd"
    ] package
    // {
      python3 = package "python3" // {
        withPackages = _: package "python3-moto";
      };
      callPackage = _: _: package "hydra-provisioner";
      stdenv = {
        hostPlatform.system = "x86_64-linux";
        buildPlatform.canExecute = _: true;
      };
      writeShellScript = storeText;
      writeText = storeText;
      runCommand =
        name: given: _:
        storeText name given.text;
    };
}
