# `sim tune` as derivations, one per shard of the search: Nix, or a Hydra, distributes them over its machines,
# and `sim merge` combines them. The result is a text.
#
#   nix-build -E 'with import <nixpkgs> { }; callPackage ./nix/tune.nix { } { conf = ./conf.nix; traces = [ ./week.json ]; shards = 8; }'
{ runCommand, hydra-provisioner }:
{
  # A configuration: a file, or its value.
  conf,
  # Workloads and scenarios.
  traces,
  # Number of shards.
  shards ? 4,
  # Number of candidate settings.
  candidates ? 200,
  # Additional arguments of `sim tune`, such as "--wait 600".
  arguments ? "",
}:
let
  # A build has no Nix: the configuration is evaluated here and read as JSON there.
  value = if builtins.isAttrs conf then conf else import conf;
  json = builtins.toFile "conf.json" (builtins.unsafeDiscardStringContext (builtins.toJSON value));
  numbers = builtins.genList (n: toString (n + 1)) shards;
  program = "${hydra-provisioner}/bin/hydra-provisioner";
  # Names identify the traces; names in the store begin with a hash.
  links = map (trace: {
    name = baseNameOf (toString trace);
    file = "${trace}";
  }) traces;
  shard =
    number:
    runCommand "tune-${number}-of-${toString shards}.json" { } ''
      ln -s ${json} conf.json
      ${builtins.concatStringsSep "\n" (map (link: "ln -s ${link.file} ${link.name}") links)}
      ${program} sim tune conf.json ${builtins.concatStringsSep " " (map (link: link.name) links)} \
        --candidates ${toString candidates} --shard ${number}/${toString shards} --output $out ${arguments}
    '';
in
runCommand "tuned.txt" { } ''
  ${program} sim merge ${
    builtins.concatStringsSep " " (map (number: "${shard number}") numbers)
  } > $out
''
