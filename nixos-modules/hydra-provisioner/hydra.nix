# A Hydra on the same machine. There are three; each is configured only if its module exists:
#   classic            services.hydra until September 2026: the queue runner in C++; --status, reads machines files
#   nixpkgs, REST       services.hydra since then: the queue runner in Rust, below services.hydra.queueRunner
#   Hydra's own flake  services.hydra-queue-runner-dev: the queue runner in Rust
{
  config,
  lib,
  options,
  pkgs,
  ...
}:

let
  hasHydra = options.services ? hydra;
  isClassic = hasHydra && !(options.services.hydra ? queueRunner);
  isRest = hasHydra && options.services.hydra ? queueRunner;
  hasFlake = options.services ? hydra-queue-runner-dev;

  rest = import ./hydra-rest.nix { inherit config lib; };
in
{
  config = lib.mkMerge [
    (lib.optionalAttrs isClassic (import ./hydra-classic.nix { inherit config lib pkgs; }))
    (lib.optionalAttrs isRest (rest {
      enabled = config.services.hydra.enable;
      place = [
        "hydra"
        "queueRunner"
      ];
      builderUnit = "hydra-builder.service";
    }))
    (lib.optionalAttrs hasFlake (rest {
      enabled = config.services.hydra-queue-runner-dev.enable;
      place = [ "hydra-queue-runner-dev" ];
      builderUnit = "hydra-queue-builder-dev.service";
    }))
  ];
}
