# Everything that `scripts/ci/golden-units` writes: the units and other settings of each configuration, the
# messages of the mistakes, and the page of options. `lib` is nixpkgs' library; the rest of NixOS is
# ./stand-in.nix.
{ lib }:

let
  evaluate =
    modules:
    lib.evalModules {
      modules = [ ./stand-in.nix ] ++ modules;
    };
  inherit ((evaluate [ ])._module.args) pkgs;

  server =
    configuration:
    evaluate [
      ../../nixos-modules/hydra-provisioner.nix
      configuration
    ];
  builder =
    configuration:
    evaluate [
      ../../nixos-modules/build-machine.nix
      configuration
    ];
  isBuilder = lib.hasPrefix "build-machine";

  problems =
    config: map (given: given.message) (lib.filter (given: !given.assertion) config.assertions);

  # Removed options of nixpkgs' Hydra with the REST queue runner cannot be read.
  withoutRemoved =
    service: if service ? queueRunner then { inherit (service) queueRunner; } else service;

  withoutEmpty = lib.filterAttrs (_: value: value != { } && value != [ ]);

  files =
    config:
    let
      units = import ./units.nix {
        inherit lib pkgs;
        systemd = config.systemd.package;
      };
      provisioner = config.services.hydra-provisioner or { enable = false; };
      suffixed = suffix: lib.mapAttrs' (name: value: lib.nameValuePair (name + suffix) value);
      scripts = lib.filterAttrs (_: unit: unit.script != null) config.systemd.services;
    in
    suffixed ".service" (lib.mapAttrs units.service config.systemd.services)
    // suffixed ".socket" (lib.mapAttrs (_: units.socket) config.systemd.sockets)
    // suffixed ".timer" (lib.mapAttrs (_: units.timer) config.systemd.timers)
    // suffixed ".sh" (lib.mapAttrs (_: unit: unit.script) scripts)
    // lib.optionalAttrs (provisioner.enable && provisioner.configFile == null) {
      "settings.json" = provisioner.file.text;
    }
    // {
      # The other settings of the configuration.
      "system.json" = builtins.toJSON (withoutEmpty {
        inherit (config) warnings boot fileSystems;
        inherit (config.users) users groups;
        tmpfiles = config.systemd.tmpfiles.rules;
        etc = lib.mapAttrs (_: file: toString file.source) config.environment.etc;
        nix = withoutEmpty { inherit (config.nix) gc settings; };
        services = withoutEmpty (
          lib.mapAttrs (_: withoutRemoved) (
            removeAttrs config.services [
              "hydra-provisioner"
              "hydra-build-machine"
              "auto-shutdown"
            ]
          )
        );
      });
    };

  golden =
    name: configuration:
    let
      inherit ((if isBuilder name then builder else server) configuration) config;
      found = problems config;
    in
    if found == [ ] then files config else throw "configuration ${name}: ${toString found}";

  message =
    name: configuration:
    let
      found = problems (server configuration).config;
    in
    if lib.length found == 1 then
      "${name}:\n  ${lib.head found}\n"
    else
      throw "mistake ${name} has ${toString (lib.length found)} messages: ${toString found}";
in
{
  configurations = lib.mapAttrs golden (import ./configurations.nix { inherit pkgs; });
  mistakes = lib.concatStringsSep "\n" (lib.mapAttrsToList message (import ./mistakes.nix));
  options = lib.filter (option: option.visible && !option.internal) (
    lib.optionAttrSetToDocList (lib.getAttrs [ "hydra-provisioner" ] (server { }).options.services)
    ++ lib.optionAttrSetToDocList (
      lib.getAttrs [ "auto-shutdown" "hydra-build-machine" ] (builder { }).options.services
    )
  );
}
