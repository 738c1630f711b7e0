# Units as text, as NixOS writes them (nixos/lib/systemd-lib.nix, which is not in nixpkgs' lib).
{
  lib,
  pkgs,
  systemd,
}:

let
  word = value: if lib.isBool value then lib.boolToString value else toString value;
  lines =
    values:
    lib.concatLists (
      lib.mapAttrsToList (
        name: value: map (one: "${name}=${word one}") (if lib.isList value then value else [ value ])
      ) values
    );
  section = name: content: lib.optionals (content != [ ]) ([ "\n[${name}]" ] ++ content);
  list = name: values: lib.optional (values != [ ]) "${name}=${toString values}";

  # Every service of NixOS has these on its PATH.
  usual = [
    pkgs.coreutils
    pkgs.findutils
    pkgs.gnugrep
    pkgs.gnused
    systemd
  ];
  path =
    unit: lib.makeBinPath (unit.path ++ usual) + ":" + lib.makeSearchPath "sbin" (unit.path ++ usual);

  head =
    unit:
    [ "# wanted by: ${toString unit.wantedBy}" ]
    ++ section "Unit" (
      list "After" unit.after
      ++ list "Before" unit.before
      ++ [ "Description=${unit.description}" ]
      ++ list "Wants" unit.wants
      ++ list "X-Reload-Triggers" unit.reloadTriggers
      ++ list "X-Restart-Triggers" unit.restartTriggers
    );
  text = lib.concatMapStrings (line: line + "\n");
in
{
  service =
    name: unit:
    text (
      head unit
      ++ section "Service" (
        map (variable: "Environment=${builtins.toJSON variable}") (
          lib.mapAttrsToList (name: value: "${name}=${value}") (unit.environment // { PATH = path unit; })
        )
        ++ lib.optional (!unit.restartIfChanged) "X-RestartIfChanged=false"
        ++ lines (
          lib.optionalAttrs (unit.script != null) {
            ExecStart = "/nix/store/${lib.fixedWidthString 32 "0" ""}-unit-script-${name}";
          }
          // unit.serviceConfig
        )
      )
    );

  socket =
    unit:
    text (
      head unit
      ++ section "Socket" (
        map (stream: "ListenStream=${stream}") unit.listenStreams ++ lines unit.socketConfig
      )
    );

  timer = unit: text (head unit ++ section "Timer" (lines unit.timerConfig));
}
