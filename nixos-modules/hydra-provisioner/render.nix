# settings as the program reads them: what is null is left to the program's own default.
{ lib, cfg }:

let
  withoutNulls =
    value:
    if builtins.isAttrs value then
      lib.mapAttrs (_: withoutNulls) (lib.filterAttrs (_: inner: inner != null) value)
    else
      value;
  # Not ours to look into: a provider's options may hold nulls that mean something.
  withOptions =
    type: rendered:
    if type.provider == null || type.provider.command == null then
      rendered
    else
      lib.recursiveUpdate rendered {
        provider.command = rendered.provider.command // {
          inherit (type.provider.command) options;
        };
      };
  types = lib.mapAttrs (_: type: withOptions type (withoutNulls type)) cfg.settings.systemTypes;
in
withoutNulls (removeAttrs cfg.settings [ "systemTypes" ]) // { systemTypes = types; }
