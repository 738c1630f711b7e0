# settings as the program reads them: null values are removed, so that the program's default applies.
{ lib, cfg }:

let
  withoutNulls =
    value:
    if builtins.isAttrs value then
      lib.mapAttrs (_: withoutNulls) (lib.filterAttrs (_: inner: inner != null) value)
    else
      value;
  # A provider's options are not changed: nulls may be meaningful there.
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
