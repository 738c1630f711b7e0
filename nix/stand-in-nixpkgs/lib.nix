# The part of nixpkgs' library that the package and the flake use.
let
  genAttrs =
    names: value:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = value name;
      }) names
    );
  toStrings = map toString;
  isBelow =
    folder: path:
    path == folder || builtins.substring 0 (builtins.stringLength folder + 1) path == "${folder}/";
in
{
  inherit genAttrs;
  getExe = package: "${package}/bin/${package.meta.mainProgram}";
  importTOML = file: builtins.fromTOML (builtins.readFile file);
  makeBinPath = packages: builtins.concatStringsSep ":" (map (package: "${package}/bin") packages);
  optionalString = isWanted: text: if isWanted then text else "";
  fileset = {
    unions =
      files:
      map (file: builtins.seq (builtins.pathExists file || throw "no ${toString file}") file) files;
    toSource =
      { root, fileset }:
      builtins.path {
        path = root;
        name = "source";
        filter = path: _: builtins.any (file: isBelow file path || isBelow path file) (toStrings fileset);
      };
  };
  licenses.gpl3Plus.spdxId = "GPL-3.0-or-later";
  platforms.linux = [
    "aarch64-linux"
    "x86_64-linux"
  ];
  sourceTypes.fromSource.isSource = true;
}
