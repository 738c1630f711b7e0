# The descriptions of the options below `settings`: those of docs/configuration.md, so that they are written once.
{ lib }:

let
  rows = lib.filter (lib.hasPrefix "| `") (
    lib.splitString "\n" (builtins.readFile ../../docs/configuration.md)
  );
  cells = builtins.match "\\| `([^`]*)` \\| (.*) \\| (.*) \\|";
  page =
    target:
    if lib.hasPrefix "#" target then "configuration.md" else lib.head (lib.splitString "#" target);
  link = found: "${lib.head found} (docs/${page (lib.last found)})";
  withoutLinks =
    text:
    lib.concatMapStrings (part: if lib.isList part then link part else part) (
      builtins.split "\\[([^]]*)]\\(([^)]*)\\)" text
    );
  unescaped = lib.replaceStrings [ "\\|" ] [ "|" ];

  # The default as it stands in the table, if the module leaves it to the program.
  whenNull =
    default:
    let
      given = builtins.match "unset( \\(|: )([^)]*)\\)?" default;
    in
    if default == "unset" || default == "none, must be set" then
      ""
    else
      " `null`: ${if given == null then default else lib.last given}.";

  table = lib.listToAttrs (
    map (
      row:
      let
        found = cells row;
      in
      lib.nameValuePair (lib.head found) {
        default = lib.elemAt found 1;
        text = unescaped (withoutLinks (lib.last found));
      }
    ) rows
  );

  describe =
    prefix: name: option:
    let
      row = table.${prefix + name} or (throw "docs/configuration.md has no option ${prefix + name}");
      text = row.text + lib.optionalString ((option.default or "") == null) (whenNull row.default);
    in
    # A description of the option itself is what only the module's user must know, in a paragraph of its own.
    option
    // {
      description = lib.concatStringsSep "\n\n" (
        [ text ] ++ lib.optional (option ? description) option.description
      );
    };
in
{
  # Options of the set `prefix` of conf.nix, such as "queue.", with their descriptions.
  described = prefix: lib.mapAttrs (describe prefix);
}
