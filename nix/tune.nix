# `sim tune` as derivations, one for each part of the search: Nix, and a Hydra, spread them over the machines that they
# have, and `sim merge` puts them together. The result is a text.
#
#   nix-build -E 'with import <nixpkgs> { }; callPackage ./nix/tune.nix { } { conf = ./conf.nix; traces = [ ./week.json ]; shards = 8; }'
{ runCommand, hydra-provisioner }:
{
  # A configuration: a file, or what it evaluates to.
  conf,
  # Workloads and scenarios.
  traces,
  # Parts of the search.
  shards ? 4,
  # Settings that are tried.
  candidates ? 200,
  # Further arguments of `sim tune`, such as "--wait 600".
  arguments ? "",
}:
let
  # There is no Nix in a build: the configuration is evaluated here, and read as JSON there.
  value = if builtins.isAttrs conf then conf else import conf;
  json = builtins.toFile "conf.json" (builtins.unsafeDiscardStringContext (builtins.toJSON value));
  numbers = builtins.genList (n: toString (n + 1)) shards;
  program = "${hydra-provisioner}/bin/hydra-provisioner";
  # Names tell what a trace holds; those in the store begin with a hash.
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
