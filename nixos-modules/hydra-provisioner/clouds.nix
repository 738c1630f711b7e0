# The options of conf.nix below systemTypes.<TYPE>.provider that are clouds.
{ lib }:

let
  inherit (lib) mkOption types;
  quantities = import ./quantities.nix { inherit lib; };

  # A path literal would copy the secret to the store.
  secretFile = types.strMatching "/.*";
  names = types.nonEmptyListOf types.nonEmptyStr;

  optional =
    type: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit description;
    };
  list =
    type: description:
    mkOption {
      type = types.listOf type;
      default = [ ];
      inherit description;
    };

  login = {
    userData = optional types.str "What a machine is told at its first boot, with placeholders such as `@identity@`. `null`: the identity document, as `nixosModules.build-machine` takes it.";
    authorizedKeys = list types.singleLineStr "Public keys that may log in as root. The public key of `sshKey` must be one of them.";
    idleTimeout = mkOption {
      type = quantities.duration;
      default = 3600;
      description = "Seconds, or a text such as `\"1h\"`, after the provisioner's last visit at which an idle machine powers itself off.";
    };
    endpoint = optional (types.strMatching "https?://.*") "Another address of the API. `null`: the cloud's own.";
  };
in
{
  hcloud.options = login // {
    tokenFile = mkOption {
      type = secretFile;
      example = "/run/credentials/hydra-provisioner.service/hcloud-token";
      description = "The file with the project's API token; see `services.hydra-provisioner.credentials`.";
    };
    serverTypes = mkOption {
      type = names;
      example = [ "ccx33" ];
      description = "Server types in order of preference.";
    };
    locations = mkOption {
      type = names;
      example = [
        "fsn1"
        "nbg1"
      ];
      description = "Locations in order of preference.";
    };
    image = optional types.nonEmptyStr "Name or number of the image or snapshot. This or `imageSelector` must be set.";
    imageSelector = optional types.nonEmptyStr "A label selector: the newest snapshot with these labels.";
    sshKeys = list types.nonEmptyStr "Names or numbers of the project's ssh keys.";
    networks = list types.ints.positive "Numbers of networks to attach.";
    firewalls = list types.ints.positive "Numbers of firewalls to apply.";
    placementGroup = optional types.ints.positive "Number of a placement group.";
    address = mkOption {
      type = types.enum [
        "ipv4"
        "ipv6"
        "private"
      ];
      default = "ipv4";
      description = "Where a server is reached: its public IPv4 address, an IPv6 address alone, or the address in the first of `networks` alone.";
    };
    labels = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "Further labels.";
    };
  };
}
